"""Draw docs/calibration.png and docs/intervals.png, with made-up models. Run it from the checkout.

python -m docs.make_metric_pictures
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from training.figures.picture import BLUE, GREY, ORANGE, drawing
from training.figures.whiskers import Dots, draw_whiskers

FOLDER = Path(__file__).parent
SCORE, PREDICTIONS = 0.8, 20
MODELS = {"calibrated": (BLUE, 1.0), "too sure": (ORANGE, 2.0)}
"""Colour, and the power of a score that gives the share that is right."""

DIFFERENCES = {
    "A: better": (0.03, 0.01, 0.05),
    "B: not clearly different": (0.03, -0.01, 0.07),
    "C: not clearly different": (-0.002, -0.015, 0.011),
    "D: worse": (-0.03, -0.05, -0.01),
}
"""Value, low and high of what four made-up models gain."""


def calibration() -> None:
    """Twenty predictions of one score for each model, and what all scores give."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    places = np.arange(PREDICTIONS)
    for row, (name, (colour, power)) in enumerate(MODELS.items()):
        correct = round(PREDICTIONS * SCORE**power)
        y = row * 3.2 + places // 10
        for filled in (True, False):
            shown = (places < correct) == filled
            left.scatter(
                places[shown] % 10,
                y[shown],
                s=150,
                facecolors=colour if filled else "none",
                edgecolors=colour,
                linewidths=1.5,
            )
        left.text(-0.4, row * 3.2 - 0.7, f"{name}: {correct} of {PREDICTIONS} are right")
        scores = np.linspace(0.2, 1, 9)
        right.plot(scores, scores**power, "o-", color=colour, label=name)
    left.set(xlim=(-0.6, 9.6), ylim=(4.9, -1.2))
    left.set_title(f"{PREDICTIONS} predictions with a score of {SCORE}", fontsize=11)
    left.axis("off")
    right.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="as many right as promised")
    right.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score", ylabel="share that is right")
    right.set_title("the same for all scores", fontsize=11)
    right.legend(loc="upper left")
    right.grid()
    figure.savefig(FOLDER / "calibration.png", dpi=110)


def intervals() -> None:
    """What the interval of a difference says."""
    keys = ("value", "low", "high")
    gains = [dict(zip(keys, found, strict=True)) for found in DIFFERENCES.values()]
    axis = "model minus baseline"
    dots = [Dots("difference with its 95 % interval", BLUE, "o", gains)]
    figure = draw_whiskers(list(DIFFERENCES), {axis: dots}, {axis: 0.0})
    figure.savefig(FOLDER / "intervals.png", dpi=110)


if __name__ == "__main__":
    with drawing():
        calibration()
        intervals()
