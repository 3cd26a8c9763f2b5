"""An evaluation as Markdown tables."""

from collections.abc import Mapping
from typing import Any

from training.evaluation import HEADLINE, SMALLEST_SLICE, SUMMARY
from training.metrics import FEWEST_GROUPS
from training.robustness import robustness_table

SLICE_METRICS = ("level_macro_f1", "trigger_macro_f1")
"""The metrics that tables and pictures of slices show."""


def format_report(report: Mapping[str, Any]) -> str:
    """Return the headline figures and the slices as Markdown tables."""
    text = (
        f"{report['rows']:,} utterances of {report['conversations']:,} conversations, with"
        f" context; {interval_words(report)}.\n\n{headline_table(report)}\n\n"
        f"{slice_table(report)}\n\n### Robustness\nShare of changed texts whose level changes, or"
        f" changes the wrong way.\n\n{robustness_table(report['robustness'])}"
    )
    if public := report.get("public"):
        text += (
            f"\n\n### Public texts\n{public['rows']:,} real customers' texts, with the turns before"
            f" them where their source has them; {interval_words(public)}.\n\n"
            f"{headline_table(public)}\n\n{slice_table(public)}"
        )
    return text


def has_intervals(part: Mapping[str, Any]) -> bool:
    """Return whether a data set or slice has so many conversations that its intervals hold."""
    return bool(part["conversations"] >= FEWEST_GROUPS)


def interval_words(part: Mapping[str, Any]) -> str:
    """Return what the intervals of a data set are, or why it has none."""
    if has_intervals(part):
        return "in brackets 95 % bootstrap intervals by conversation"
    return f"no intervals, as those of under {FEWEST_GROUPS} conversations are too narrow"


def summary_table(report: Mapping[str, Any]) -> str:
    """Return the few figures that a reader asks for first, with what the baseline lacks."""
    parts = {"our corpus": report} | (
        {"real customers' texts": report["public"]} if "public" in report else {}
    )
    columns = " | ".join(f"{name} | against TF-IDF" for name in parts)
    lines = [f"| metric | {columns} |", f"| --- |{' --- | --- |' * len(parts)}"]
    for metric in SUMMARY:
        cells = " | ".join(
            f"{figure_cell(part['metrics'], metric)}"
            f" | {figure_cell(part['difference'], metric, signed=True)}"
            for part in parts.values()
        )
        lines.append(f"| {metric} | {cells} |")
    return "\n".join(lines)


def headline_table(report: Mapping[str, Any]) -> str:
    """Return the headline figures of model and baseline as a Markdown table."""
    lines = ["| metric | model | TF-IDF baseline | difference |", "| --- | --- | --- | --- |"]
    shown = has_intervals(report)
    lines += [
        f"| {name} | {figure_cell(report['metrics'], name, interval=shown)}"
        f" | {figure_cell(report['baseline'], name, interval=shown)}"
        f" | {figure_cell(report['difference'], name, signed=True, interval=shown)} |"
        for name in HEADLINE
    ]
    return "\n".join(lines)


def slice_table(report: Mapping[str, Any]) -> str:
    """Return figures of each slice, the baseline's beside the model's, as a Markdown table."""
    names = " | ".join(f"{metric} | TF-IDF" for metric in SLICE_METRICS)
    lines = [f"| slice | rows | {names} |", f"| --- | ---: |{' --- | --- |' * len(SLICE_METRICS)}"]
    for name, part in report["slices"].items():
        shown = has_intervals(part)
        cells = " | ".join(
            figure_cell(part[who], metric, interval=shown)
            for metric in SLICE_METRICS
            for who in ("metrics", "baseline")
        )
        lines.append(f"| {name} | {part['rows']:,} | {cells} |")
    if has_intervals(report) and not all(map(has_intervals, report["slices"].values())):
        lines += ["", f"Without an interval: slices of under {FEWEST_GROUPS} conversations."]
    if report["small_slices"]:
        small = ", ".join(f"{name} ({rows})" for name, rows in report["small_slices"].items())
        lines += ["", f"Too few rows for a figure (under {SMALLEST_SLICE}): {small}."]
    return "\n".join(lines)


def figure_cell(
    figures: Mapping[str, Any], name: str, *, signed: bool = False, interval: bool = True
) -> str:
    """Return a figure, with its interval or without, or a dash where there is none."""
    if name not in figures:
        return "–"
    value, low, high = (figures[name][key] for key in ("value", "low", "high"))
    sign = "+" if signed else ""
    if not interval:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
