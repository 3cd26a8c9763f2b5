"""The server's figures as a section of a document, and what they should be."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from benchmarks.goals import Goal
from benchmarks.section import goal_rows, machine_line
from serve.config import Settings

Figures = Mapping[str, Any]

BATCH: Final = Settings().max_batch
"""Texts of a batch in process: as many as the server collects."""


def section_of(figures: Figures) -> str:
    """Return the section: machine, goals, and what bounds them.

    Args:
        figures: As `benchmarks.serve` writes them; scenarios may be missing.
    """
    who = f"{figures['clients']} clients, {figures['seconds']:g} s each"
    goals = [goal.row() for goal in _goals(figures)]
    lines = [
        f"{machine_line(figures['machine'])}. {figures['date']}, {figures['model_version']}.",
        "",
        *goal_rows(who, goals),
        "",
        *_bounds(figures),
    ]
    return "\n".join(lines)


def _goals(figures: Figures) -> Iterator[Goal]:
    if latency := figures.get("latency"):
        name = "one client, p50 above `predict` in process, ms"
        yield Goal(name, latency["over_p50_ms"], 0.8, at_most=True)
    if batching := figures.get("batching"):
        yield Goal("throughput with batching, times without", batching["ratio"], 1.8)
    if overload := figures.get("overload"):
        name = "four times capacity: p99 of accepted calls, times that at nine tenths of it"
        yield Goal(name, overload["p99_ratio"], 2, at_most=True)
        if refused := overload["at_four_times"].get("RESOURCE_EXHAUSTED"):
            yield Goal("its refusals, p50 ms", refused["p50_ms"], 10, at_most=True)
            yield Goal("its refusals, p99 ms", refused["p99_ms"], 10, at_most=True)
        before, after = overload["memory_mb"]
        yield Goal("its memory, growth in %", 100 * (after / before - 1), 2, at_most=True)
    if soak := figures.get("soak"):
        name = f"{figures['soak_seconds']:g} s at half of capacity: memory, growth in %"
        yield Goal(name, soak["growth_percent"], 2, at_most=True)
    if handover := figures.get("handover"):
        for kind in ("lost", "duplicated"):
            name = f"reload and restart under load: replies {kind}"
            yield Goal(name, handover[kind], 0, at_most=True)


def _bounds(figures: Figures) -> Iterator[str]:
    """Say what no server could do better here."""
    if latency := figures.get("latency"):
        ms = {
            kind: f"{latency[f'{kind}_p50_ms']:.2f}"
            for kind in ("in_process", "call", "empty_call", "bare_call")
        }
        yield (
            f"One client, p50: `predict` takes {ms['in_process']} ms, a call {ms['call']}, an empty"
            f" call {ms['empty_call']}, and one to a bare `grpc.aio` server that only echoes"
            f" {ms['bare_call']}."
        )
    if batching := figures.get("batching"):
        yield (
            f"Batching: {batching['on']['per_s']:.0f} a second with it,"
            f" {batching['off']['per_s']:.0f} without. In process, batches of {BATCH} give"
            f" {batching['in_process_ratio']:.2f} times what one text at a time does."
        )
    if overload := figures.get("overload"):
        yield (
            f"Overload: {4 * overload['capacity_per_s']:.0f} calls a second were offered,"
            f" {overload['at_four_times']['per_s']:.0f} answered; capacity is"
            f" {overload['capacity_per_s']:.0f}, as closed loops find it."
        )
