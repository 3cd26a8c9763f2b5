"""A section of a document that a command writes anew, between two marks that it finds again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def marks(command: str) -> tuple[str, str]:
    """Return the lines before and after what a command writes."""
    return f"<!-- written by `{command}` -->", f"<!-- end of `{command}` -->"


def write_section(document: Path, command: str, section: str) -> None:
    """Put a section in the place of what is between the marks of its command.

    Raises:
        ValueError: The document lacks a mark.
    """
    first, last = marks(command)
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{document} lacks the line {last if begin else first!r}")
    partial = document.with_suffix(".partial")
    partial.write_text(f"{before}{first}\n{section.strip()}\n{last}{after}", encoding="utf-8")
    partial.replace(document)


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return one line on the machine, as `benchmarks.machine` describes it."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['instructions'])};"
        f" {machine['system']}; {', '.join(f'{k} {v}' for k, v in machine['versions'].items())}"
    )


def goal_rows(who: str, goals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of goals: what is measured, the figure, the bar, and whether it is met."""
    rows = [f"| {who} | is | goal | |", "| --- | --- | --- | --- |"]
    for goal in goals:
        bar = f"at {'most' if goal['at_most'] else 'least'} {goal['bar']:g}"
        met = "met" if goal["met"] else "**missed**"
        rows.append(f"| {goal['name']} | {goal['found']:g} | {bar} | {met} |")
    return rows
