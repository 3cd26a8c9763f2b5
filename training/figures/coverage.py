"""How many levels are wrong if only the most certain are answered."""

import numpy as np
from matplotlib import pyplot as plt

from deesc_model.scoring import Calibration, Scores, level_confidence, predicted_levels
from training.figures.picture import BLUE, ORANGE, Picture
from training.metrics import Gold

SHARES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
"""Coverages, in per cent, whose risk the table gives."""


def coverage_picture(gold: Gold, scores: Scores, calibration: Calibration) -> Picture:
    """Draw the share of wrong levels over the share that is answered, most certain first."""
    predicted = predicted_levels(scores)
    confidence, wrong = level_confidence(scores.level, predicted), predicted != gold.levels
    order = np.argsort(-confidence, kind="stable")
    # Equally certain rows are answered together: the curve has a point at the last of each tie.
    last = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    counts = last + 1
    risks = 100 * np.cumsum(wrong[order])[last] / counts
    certain = confidence >= calibration.certain_from
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    axes.plot(100 * counts / len(order), risks, color=BLUE)
    if certain.any():
        point = (100 * certain.mean(), 100 * wrong[certain].mean())
        label = f"not marked uncertain: {point[0]:.0f} %, {point[1]:.1f} % of them wrong"
        axes.plot(*point, "o", color=ORANGE, label=label, clip_on=False, zorder=3)
        figure.legend(loc="outside upper right")
    axes.set(xlim=(0, 100), ylim=(0, None))
    axes.set(xlabel="coverage: most certain share of utterances (%)", ylabel="wrong levels (%)")
    axes.grid()
    places = [max(round(share / 100 * len(order)), 1) - 1 for share in SHARES]
    return Picture(
        name="risk_coverage",
        title="Wrong levels if only the most certain are answered",
        reading="If only the utterances are answered that the model is surest of, how many of those"
        " levels are wrong? The curve should start low. Left of the dot are the predictions that"
        " are not marked uncertain.",
        figure=figure,
        columns=("answered", "of them wrong"),
        rows=tuple(
            (f"{share} %", f"{risks[np.searchsorted(last, place)]:.1f} %")
            for share, place in zip(SHARES, places, strict=True)
        ),
    )
