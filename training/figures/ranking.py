"""Precision against recall of each trigger."""

import numpy as np
from matplotlib import pyplot as plt

from deesc_model.labels import TRIGGERS
from deesc_model.scoring import BoolArray, Calibration, FloatArray, Scores, predicted_labels
from training.figures.picture import BLUE, GREY, ORANGE, Picture
from training.metrics import Gold, average_precision


def ranking_picture(gold: Gold, scores: Scores, calibration: Calibration) -> Picture:
    """Draw a panel for each trigger, with the point that its threshold makes."""
    chosen = predicted_labels(scores.triggers, calibration.trigger_arrays)
    ones = np.ones((1, len(gold.levels)))
    ranking = average_precision(gold.triggers, scores.triggers, ones)[0]
    figure, panels = plt.subplots(
        3, 4, figsize=(11, 8), sharex=True, sharey=True, layout="constrained"
    )
    rows = []
    for column, (axes, name) in enumerate(zip(panels.flat, TRIGGERS, strict=False)):
        truth, given = gold.triggers[:, column], chosen[:, column]
        axes.step(*_curve(truth, scores.triggers[:, column]), where="post", color=BLUE)
        axes.axhline(truth.mean(), color=GREY, linestyle=":")
        hits, positives = int((truth & given).sum()), int(truth.sum())
        point = (_share(hits, positives), _share(hits, int(given.sum())))
        axes.plot(*point, "o", color=ORANGE)
        axes.set_title(f"{name.replace('_', ' ')} (n = {positives})", fontsize=10)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xticks=(0, 0.5, 1))
        axes.grid()
        rows.append(
            (name.replace("_", " "), f"{positives:,}", *map(_text, (*point, ranking[column])))
        )
    _legend(panels.flat[-1])
    figure.supxlabel("recall: share of what is there that is found")
    figure.supylabel("precision: share of what is found that is there")
    return Picture(
        name="precision_recall",
        title="Precision against recall of each trigger",
        reading="Each curve shows what a lower threshold gives (more is found, further right) and"
        " costs (more of it is wrong, further down). The upper right corner is best. The dot is the"
        " threshold in use; the dotted line is what guessing gives. A trigger with few occurrences"
        " (n) has a ragged curve, and says little.",
        figure=figure,
        columns=("trigger", "occurrences", "recall", "precision", "average precision"),
        rows=tuple(rows),
    )


def _legend(axes: plt.Axes) -> None:
    axes.axis("off")
    axes.plot([], [], color=BLUE, label="precision at recall")
    axes.plot([], [], "o", color=ORANGE, label="at the threshold in use")
    axes.plot([], [], color=GREY, linestyle=":", label="guessing")
    axes.legend(loc="center", fontsize=9)


def _curve(truth: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return recall and precision at every distinct score, highest first."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    return hits[last] / max(int(truth.sum()), 1), hits[last] / (last + 1)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
