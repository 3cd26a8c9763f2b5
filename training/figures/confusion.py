"""Which level is taken for which."""

import numpy as np
from matplotlib import pyplot as plt

from deesc_model.labels import Level
from deesc_model.scoring import Scores
from training.figures.picture import Picture
from training.metrics import Gold, confusion_matrix

LIGHT, DARK = "#fefefe", "#0b1a2b"
"""Numbers on cells, whose colours are the same in light and dark."""


def confusion_picture(gold: Gold, scores: Scores) -> Picture:
    """Draw counts of true by predicted level, and their share of the true level."""
    names = [f"{int(level)} {level.label}" for level in Level]
    counts = confusion_matrix(gold.levels, scores)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(6.0, 5.0), layout="constrained")
    # Rectangles: an image would be a bitmap inside of an SVG.
    axes.pcolormesh(100 * shares, cmap="Blues", vmin=0, vmax=100, edgecolors="white", linewidth=1)
    for true in Level:
        for given in Level:
            share = f"{100 * shares[true, given]:.0f} %" if counts[true].any() else "–"
            cell = (f"{counts[true, given]:,}", share)
            colour = LIGHT if shares[true, given] > 0.55 else DARK
            for text, y in zip(cell, (true + 0.38, true + 0.64), strict=True):
                axes.text(given + 0.5, y, text, ha="center", va="center", color=colour)
    ticks = np.arange(len(Level)) + 0.5
    axes.set_xticks(ticks, names, rotation=20, ha="right")
    axes.set_yticks(ticks, names)
    axes.invert_yaxis()
    axes.set(xlabel="predicted level", ylabel="true level")
    return Picture(
        name="confusion",
        title="True and predicted level",
        reading="A row holds the utterances of one true level, and the share of them that was given"
        " each level. What is on the diagonal is right; far from it is worse than next to it.",
        figure=figure,
        columns=("true level", *(f"predicted {name}" for name in names)),
        rows=tuple(
            (name, *(f"{count:,}" for count in row))
            for name, row in zip(names, counts, strict=True)
        ),
    )
