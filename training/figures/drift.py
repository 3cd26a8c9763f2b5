"""Figures of one comparison of two sets of labelled rows."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deesc_model.scoring import BoolArray
from training.drift_features import Binned, Feature, sides
from training.figures.picture import BLUE, GREY, ORANGE, drawing
from training.metrics import Interval

SETS = (("reference", BLUE, -1), ("current", ORANGE, 1))
"""Name, colour, and on which side of the middle it is drawn."""


def draw_drift_figures(
    features: Sequence[Feature],
    current: BoolArray,
    expected: Mapping[str, Mapping[str, Interval]],
    drifted: Collection[str],
    folder: Path,
) -> list[Path]:
    """Write one PNG file for each figure.

    Args:
        features: Of both sets.
        current: Which conversations are current, bool (conversations,).
        expected: Expected metrics with intervals of ``"reference"`` and ``"current"``.
        drifted: Names of the features that are marked.
        folder: Where to write; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {part.name: part for part in features if isinstance(part, Binned)}
    marks = {part.name: " (DRIFT)" if part.name in drifted else "" for part in features}
    with drawing():
        figures = {
            "drift_labels": _labels(parts, current, marks),
            "drift_lengths": _lengths(parts, current, marks),
            "drift_expected": _expected(expected, marks),
        }
    rows = [parts["level"].counts[side].sum() for side in sides(current)]
    sizes = [f"{n:,.0f} utterances" for n in rows]
    paths = []
    for name, figure in figures.items():
        handles, names = figure.axes[0].get_legend_handles_labels()
        labels = [f"{label}, {size}" for label, size in zip(names, sizes, strict=True)]
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        plt.close(figure)
        paths.append(path)
    return paths


def _labels(parts: Mapping[str, Binned], current: BoolArray, marks: Mapping[str, str]) -> Figure:
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 5.6), width_ratios=(1, 1.2), layout="constrained"
    )
    _bars(left, parts["level"], current)
    left.set_title(f"level{marks['level']}", fontsize=10)
    left.set(xlabel="predicted level", ylabel="share of utterances (%)")
    names = [name for name in parts if name.startswith(("trigger.", "signal."))][::-1]
    shares = [100 * parts[name].shares(current)[:, 1] for name in names]
    rows = np.arange(len(names))
    right.hlines(rows, *np.transpose(shares), color=GREY, linewidth=2)
    for (label, color, _), values in zip(SETS, np.transpose(shares), strict=True):
        right.plot(values, rows, "o", color=color, label=label)
    right.axhline(sum(name.startswith("signal.") for name in names) - 0.5, color=GREY, linewidth=1)
    right.set_yticks(rows, [f"{name.split('.')[1]}{marks[name]}" for name in names])
    right.set_title("triggers, below the line signals", fontsize=10)
    right.set(xlabel="share of utterances with it (%)", xlim=(0, None))
    right.grid(alpha=0.3)
    figure.suptitle("What the model finds", fontsize=11)
    return figure


def _lengths(parts: Mapping[str, Binned], current: BoolArray, marks: Mapping[str, str]) -> Figure:
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    for axes, name, what in zip(
        panels, ("words", "turns"), ("utterance", "conversation"), strict=True
    ):
        _bars(axes, parts[f"length.{name}"], current)
        axes.set_title(f"{name} of each {what}{marks[f'length.{name}']}", fontsize=10)
        axes.set(xlabel=f"number of {name}", ylabel=f"share of {what}s (%)")
    figure.suptitle("Lengths, in up to ten bins", fontsize=11)
    return figure


def _expected(expected: Mapping[str, Mapping[str, Interval]], marks: Mapping[str, str]) -> Figure:
    figure, axes = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
    for name, color, side in SETS:
        found = [parts[name] for parts in expected.values()]
        values = np.array([interval.value for interval in found])
        ends = np.array([[interval.low, interval.high] for interval in found]).T
        rows = np.arange(len(found)) + 0.12 * side
        axes.errorbar(
            values, rows, xerr=np.maximum(np.abs(ends - values), 0), fmt="o", color=color,
            capsize=3, label=name,
        )  # fmt: skip
    names = [f"{name}{marks[f'expected.{name}']}" for name in expected]
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(right=1)
    axes.set_xlabel("expected value (0 to 1, 1 is best); lines are 95 % intervals")
    axes.set_title("Performance expected from the scores, if their calibration holds", fontsize=11)
    axes.grid(alpha=0.3)
    return figure


def _bars(axes: plt.Axes, part: Binned, current: BoolArray) -> None:
    places = np.arange(len(part.bins))
    for (name, color, side), shares in zip(SETS, part.shares(current), strict=True):
        axes.bar(places + 0.2 * side, 100 * shares, width=0.4, color=color, label=name)
    axes.set_xticks(places, part.bins, rotation=30, ha="right")
    axes.grid(alpha=0.3, axis="y")
