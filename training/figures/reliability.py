"""Whether scores are probabilities."""

import math

import numpy as np
from matplotlib import pyplot as plt

from deesc_model.scoring import BoolArray, FloatArray, Scores, level_confidence, predicted_levels
from training.figures.picture import BLUE, GREY, Picture
from training.metrics import BINS, Gold

Bins = list[tuple[float, float, int]]
"""Mean score, share that is right, and rows of each bin that has rows."""

Z = 1.96
"""Standard deviations of a normal distribution on either side that hold 95 % of it."""


def reliability_picture(gold: Gold, scores: Scores) -> Picture:
    """Draw how often predictions of a score are right, for levels and for triggers."""
    predicted = predicted_levels(scores)
    level = score_bins(level_confidence(scores.level, predicted), predicted == gold.levels)
    triggers = score_bins(scores.triggers.ravel(), gold.triggers.ravel())
    figure, (left, other) = plt.subplots(1, 2, figsize=(9.6, 4.8), layout="constrained")
    draw_reliability(left, level)
    left.set(title="level", xlabel="score of the predicted level", ylabel="share that is right")
    draw_reliability(other, triggers)
    other.set(title="triggers", xlabel="score of a trigger", ylabel="share that has the trigger")
    return Picture(
        name="reliability",
        title="Are scores probabilities?",
        reading="Predictions are sorted by score into 15 bins. A dot on the dashed line says that"
        " of all predictions with this score as many are right as the score promises; below the"
        " line the model is too sure, above it too modest. Large dots hold many predictions."
        " Whiskers are 95 % intervals, a little too short, since they take predictions for"
        " independent: where one crosses the dashed line, the dot may be off it by chance.",
        figure=figure,
        columns=("scores of", "mean score", "share that is right", "95 % interval", "predictions"),
        rows=tuple(
            (name, f"{mean:.3f}", f"{share:.3f}", f"{low:.3f} to {high:.3f}", f"{rows:,}")
            for name, bins in (("level", level), ("triggers", triggers))
            for mean, share, rows in bins
            for low, high in [share_interval(share, rows)]
        ),
    )


def score_bins(scores: FloatArray, right: BoolArray) -> Bins:
    """Sort scores 0–1 into equal bins, the ones that `level_ece` uses."""
    numbers = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        (float(scores[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (numbers == number for number in np.unique(numbers))
    ]


def share_interval(share: float, rows: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a share of `rows` independent rows.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    middle = (share + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    half = Z / (1 + Z**2 / rows) * math.sqrt(share * (1 - share) / rows + (Z / (2 * rows)) ** 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def draw_reliability(axes: plt.Axes, bins: Bins) -> None:
    """Draw the bins beside the line of perfect calibration."""
    means, shares, rows = (np.array(column) for column in zip(*bins, strict=True))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfect")
    ends = [share_interval(share, number) for _, share, number in bins]
    axes.vlines(means, *zip(*ends, strict=True), color=BLUE, linewidth=1.2)
    areas = 20 + 180 * rows / rows.max()
    label = "model (area: predictions)"
    axes.scatter(means, shares, s=areas, color=BLUE, label=label, clip_on=False, zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", fontsize=9)
    axes.grid()
