"""Figures of one comparison of two sets of labelled rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deesc_model.scoring import BoolArray
from training.drift_features import Binned, Feature
from training.figures import BLUE, GREY, ORANGE
from training.metrics import Interval

SETS = (("reference", BLUE, -1), ("current", ORANGE, 1))


def draw_drift_figures(
    features: Sequence[Feature],
    current: BoolArray,
    expected: Mapping[str, Mapping[str, Interval]],
    folder: Path,
) -> list[Path]:
    """Write one PNG file for each figure.

    Args:
        features: Of both sets.
        current: Which conversations are current, bool (conversations,).
        expected: Expected metrics with intervals of ``"reference"`` and ``"current"``.
        folder: Where to write; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {part.name: part for part in features if isinstance(part, Binned)}
    figures = {
        "drift_labels": _labels(parts, current),
        "drift_lengths": _lengths(parts, current),
        "drift_expected": _expected(expected),
    }
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        plt.close(figure)
        paths.append(path)
    return paths


def _labels(parts: Mapping[str, Binned], current: BoolArray) -> Figure:
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 5), width_ratios=(1, 1.3), layout="constrained"
    )
    _bars(left, parts["level"], current)
    left.set(title="levels", xlabel="predicted level", ylabel="share of utterances (%)")
    names = [name for name in parts if name.startswith(("trigger.", "signal."))][::-1]
    shares = [100 * parts[name].shares(current)[:, 1] for name in names]
    rows = np.arange(len(names))
    right.hlines(rows, *np.transpose(shares), color=GREY, linewidth=2)
    for (label, color, _), values in zip(SETS, np.transpose(shares), strict=True):
        right.plot(values, rows, "o", color=color, label=label)
    right.set_yticks(rows, [name.split(".")[1] for name in names])
    right.set(title="triggers, and below them signals", xlabel="share of utterances (%)")
    right.set_xlim(left=0)
    right.grid(alpha=0.3)
    right.legend(fontsize=9)
    figure.suptitle("What the model finds in reference and current", fontsize=11)
    return figure


def _lengths(parts: Mapping[str, Binned], current: BoolArray) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    _bars(left, parts["length.words"], current)
    left.set(title="utterances", xlabel="words in an utterance", ylabel="share of utterances (%)")
    _bars(right, parts["length.turns"], current)
    right.set(title="conversations", xlabel="turns in a conversation")
    right.set_ylabel("share of conversations (%)")
    figure.suptitle("Lengths in reference and current", fontsize=11)
    return figure


def _expected(expected: Mapping[str, Mapping[str, Interval]]) -> Figure:
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, color, side in SETS:
        found = [parts[name] for parts in expected.values()]
        values = np.array([interval.value for interval in found])
        ends = np.array([[interval.low, interval.high] for interval in found]).T
        rows = np.arange(len(found)) + 0.12 * side
        axes.errorbar(
            values, rows, xerr=np.maximum(np.abs(ends - values), 0), fmt="o", color=color,
            capsize=3, label=name,
        )  # fmt: skip
    axes.set_yticks(np.arange(len(expected)), list(expected))
    axes.invert_yaxis()
    axes.set_xlim(right=1)
    axes.set_xlabel("expected value, 1 is best; lines are 95 % intervals")
    axes.set_title("Performance expected from the scores, if their calibration holds", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="lower left")
    return figure


def _bars(axes: plt.Axes, part: Binned, current: BoolArray) -> None:
    places = np.arange(len(part.bins))
    for (name, color, side), shares in zip(SETS, part.shares(current), strict=True):
        axes.bar(places + 0.2 * side, 100 * shares, width=0.4, color=color, label=name)
    _tick_labels(axes, places, part.bins)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=9)


def _tick_labels(axes: plt.Axes, places: np.ndarray, labels: Sequence[str]) -> None:
    axes.set_xticks(places, labels, rotation=30 if len(labels) > 4 else 0, ha="right")
