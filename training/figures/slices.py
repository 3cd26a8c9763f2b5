"""How good the model is on parts of the test rows."""

from collections.abc import Mapping
from typing import Any

from training.descriptions import EVALUATED
from training.figures.picture import BLUE, GREY, Picture
from training.figures.whiskers import Dots, draw_whiskers
from training.report_tables import SLICE_METRICS, figure_cell, has_intervals


def slices_picture(part: Mapping[str, Any]) -> Picture | None:
    """Draw model and baseline on every slice with their intervals; None without slices.

    Args:
        part: The report of `training.evaluation.evaluate`, or what its ``public`` holds.
    """
    slices = part["slices"]
    if not slices:
        return None
    names = [
        f"{name.replace('=', ': ').replace('_', ' ')} ({found['rows']:,})"
        for name, found in slices.items()
    ]
    axis = {metric: f"{metric} (best {EVALUATED[metric].best})" for metric in SLICE_METRICS}
    panels = {
        axis[metric]: [
            Dots(
                label, colour, marker, [found[who].get(metric) for found in slices.values()], below
            )
            for label, who, colour, marker, below in (
                ("model", "metrics", BLUE, "o", 0.0),
                ("TF-IDF baseline", "baseline", GREY, "s", 0.28),
            )
        ]
        for metric in SLICE_METRICS
    }
    overall = {
        axis[metric]: part["metrics"][metric]["value"]
        for metric in SLICE_METRICS
        if metric in part["metrics"]
    }
    figure = draw_whiskers(names, panels, overall)
    return Picture(
        name="slices",
        title="Parts of the test utterances",
        reading="Each row is a part of the test utterances; how many is in brackets. Whiskers are"
        " 95 % intervals: where those of two rows overlap widely, their dots say nothing about"
        " which is better. The dotted line is the model on all utterances.",
        figure=figure,
        columns=(
            "slice",
            *(f"{metric}, {who}" for metric in SLICE_METRICS for who in ("model", "TF-IDF")),
        ),
        rows=tuple(
            (
                name,
                *(
                    figure_cell(found[who], metric, interval=has_intervals(found))
                    for metric in SLICE_METRICS
                    for who in ("metrics", "baseline")
                ),
            )
            for name, found in zip(names, slices.values(), strict=True)
        ),
    )
