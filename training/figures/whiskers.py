"""Dots with whiskers: figures and their 95 % intervals, one row for each name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

ROW = 0.3
"""Height of a row in inches."""


@dataclass(frozen=True, slots=True)
class Dots:
    """Figures of one kind, for example the model's.

    Attributes:
        label: What the legend calls them.
        colour: Of dots and whiskers.
        marker: As matplotlib names it.
        figures: By row: ``value``, ``low`` and ``high``; None where there is no figure.
        below: How far below the middle of the row, as a share of its height.
    """

    label: str
    colour: str
    marker: str
    figures: Sequence[Mapping[str, float] | None]
    below: float = 0.0


def draw_whiskers(
    names: Sequence[str], panels: Mapping[str, Sequence[Dots]], lines: Mapping[str, float]
) -> Figure:
    """Draw one panel beside the other.

    Args:
        names: What the rows are called, from the top.
        panels: By label of the horizontal axis, what is drawn.
        lines: By label of the horizontal axis, where to draw a vertical line.
    """
    size = (4.2 * len(panels) + 2.2, ROW * len(names) + 1.4)
    figure, row = plt.subplots(
        1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (label, series) in zip(row[0], panels.items(), strict=True):
        for dots in series:
            for place, found in enumerate(dots.figures):
                if found is not None:
                    ends = (found["low"], found["high"])
                    axes.plot(ends, [place + dots.below] * 2, color=dots.colour, linewidth=1.5)
            shown = [(place, found) for place, found in enumerate(dots.figures) if found]
            axes.plot(
                [found["value"] for _, found in shown],
                [place + dots.below for place, _ in shown],
                dots.marker,
                color=dots.colour,
                markersize=7,
                markeredgewidth=1.5,
                label=dots.label,
            )
        if label in lines:
            axes.axvline(lines[label], color=series[0].colour, linestyle=":", linewidth=1)
        axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
        axes.grid(axis="x")
    row[0][0].set_yticks(range(len(names)), names)
    figure.legend(*row[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure
