"""Figures of one evaluation, with titles, units and legible labels."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from deesc_model.labels import TRIGGERS, Level
from deesc_model.scoring import BoolArray, Calibration, FloatArray, Scores, predicted_levels
from training.metrics import BINS, Gold

mpl.use("Agg")

BLUE, GREY, ORANGE = "#1f5fa8", "#8a8a8a", "#d9730d"


def draw_figures(
    gold: Gold, scores: Scores, calibration: Calibration, title: str, folder: Path
) -> list[Path]:
    """Write one PNG file for each figure.

    Args:
        gold: True labels of n rows.
        scores: Calibrated scores of the same rows.
        calibration: Says from which score a level is certain.
        title: What was evaluated, for example ``"test, 812 utterances"``.
        folder: Where to write; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "confusion": _confusion(gold, scores, title),
        "reliability": _reliability(gold, scores, title),
        "precision_recall": _precision_recall(gold, scores, title),
        "risk_coverage": _risk_coverage(gold, scores, calibration, title),
    }
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        plt.close(figure)
        paths.append(path)
    return paths


def _confusion(gold: Gold, scores: Scores, title: str) -> Figure:
    names = [f"{int(level)} {level.label}" for level in Level]
    counts = np.zeros((len(Level), len(Level)), dtype=int)
    np.add.at(counts, (gold.levels, predicted_levels(scores)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(6.4, 5.4), layout="constrained")
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    for true in Level:
        for given in Level:
            axes.text(
                given,
                true,
                f"{counts[true, given]}\n{shares[true, given]:.0%}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[true, given] > 0.55 else "black",
            )
    axes.set_xticks(list(Level), names, rotation=30, ha="right")
    axes.set_yticks(list(Level), names)
    axes.set(xlabel="predicted level", ylabel="true level")
    axes.set_title(f"Frustration level, true by predicted\n{title}", fontsize=11)
    figure.colorbar(image, ax=axes, label="share of the true level (%)", shrink=0.85)
    return figure


def _reliability(gold: Gold, scores: Scores, title: str) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.8), layout="constrained")
    confidence = scores.level.max(axis=1)
    _reliability_panel(left, confidence, predicted_levels(scores) == gold.levels)
    left.set(title="level", xlabel="score of the predicted level", ylabel="share that is right")
    _reliability_panel(right, scores.triggers.ravel(), gold.triggers.ravel())
    right.set(title="triggers", xlabel="score of a trigger", ylabel="share that has the trigger")
    figure.suptitle(f"Reliability: are scores probabilities?  {title}", fontsize=11)
    return figure


def _reliability_panel(axes: plt.Axes, confidence: FloatArray, correct: BoolArray) -> None:
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    used = [number for number in range(BINS) if (bins == number).any()]
    means = [confidence[bins == number].mean() for number in used]
    shares = [correct[bins == number].mean() for number in used]
    sizes = np.array([(bins == number).sum() for number in used])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfect calibration")
    axes.plot(means, shares, color=BLUE, linewidth=1)
    areas = 20 + 180 * sizes / sizes.max()
    axes.scatter(means, shares, s=areas, color=BLUE, label="15 bins (area: rows)")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", fontsize=9)
    axes.grid(alpha=0.3)


def _precision_recall(gold: Gold, scores: Scores, title: str) -> Figure:
    figure, panels = plt.subplots(
        3, 4, figsize=(11, 8), sharex=True, sharey=True, layout="constrained"
    )
    for column, (axes, name) in enumerate(zip(panels.flat, TRIGGERS, strict=False)):
        truth = gold.triggers[:, column]
        recall, precision = _curve(truth, scores.triggers[:, column])
        axes.step(recall, precision, where="post", color=BLUE)
        axes.axhline(truth.mean(), color=ORANGE, linestyle=":")
        axes.set_title(f"{name} (n = {truth.sum()})", fontsize=10)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    legend = panels.flat[-1]
    legend.axis("off")
    legend.plot([], [], color=BLUE, label="precision at recall")
    legend.plot([], [], color=ORANGE, linestyle=":", label="chance (share of positives)")
    legend.legend(loc="center", fontsize=9)
    figure.supxlabel("recall")
    figure.supylabel("precision")
    figure.suptitle(f"Triggers: precision and recall  {title}", fontsize=11)
    return figure


def _risk_coverage(gold: Gold, scores: Scores, calibration: Calibration, title: str) -> Figure:
    confidence = scores.level.max(axis=1)
    wrong = predicted_levels(scores) != gold.levels
    order = np.argsort(-confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    certain = confidence >= calibration.certain_from
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    axes.plot(100 * counts / len(order), 100 * np.cumsum(wrong[order]) / counts, color=BLUE)
    if certain.any():
        point = (100 * certain.mean(), 100 * wrong[certain].mean())
        axes.plot(*point, "o", color=ORANGE, label="certain: the rest is marked uncertain")
        axes.annotate(
            f"{point[0]:.0f} % answered,\n{point[1]:.1f} % of them wrong",
            point,
            xytext=(-12, 12),
            textcoords="offset points",
            ha="right",
        )
        axes.legend(loc="upper left", fontsize=9)
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.set(xlabel="coverage: most certain share of utterances (%)", ylabel="wrong levels (%)")
    axes.set_title(f"Risk and coverage of the level\n{title}", fontsize=11)
    axes.grid(alpha=0.3)
    return figure


def _curve(truth: BoolArray, scores: FloatArray) -> tuple[Sequence[float], Sequence[float]]:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    recall = hits / max(int(truth.sum()), 1)
    return recall.tolist(), (hits / np.arange(1, len(order) + 1)).tolist()
