"""How suspicious every label of a corpus is, by one of the rankings of `training.confident`."""

from typing import Final

import numpy as np

from deesc_model.scoring import BoolArray, FloatArray, IntArray, Scores
from training.confident import RANKINGS, estimated_errors, shifted
from training.metrics import Gold

KINDS: Final = ("level", "triggers", "signals")


def suspicion(gold: Gold, scores: Scores, ranking: str, *, shift: bool) -> dict[str, FloatArray]:
    """Return how suspicious each label is, by kind; larger is more.

    Args:
        gold: The labels as they are.
        scores: Out-of-fold probabilities of the same rows.
        ranking: A key of `RANKINGS`.
        shift: Whether to use `shifted` probabilities.

    Returns:
        ``"level"`` float (n,); ``"triggers"`` (n, 11) and ``"signals"`` (n, 5), of which every
        cell is a label of its own: given or not given.
    """

    def rank(given: IntArray, probabilities: FloatArray) -> FloatArray:
        fair = shifted(given, probabilities) if shift else probabilities
        return RANKINGS[ranking](given, fair)

    def cells(given: BoolArray, probabilities: FloatArray) -> FloatArray:
        columns = zip(given.T, probabilities.T, strict=True)
        return np.stack([rank(*_binary(*column)) for column in columns], axis=1)

    return {
        "level": rank(gold.levels, scores.level),
        "triggers": cells(gold.triggers, scores.triggers),
        "signals": cells(gold.signals, scores.signals),
    }


def error_counts(gold: Gold, scores: Scores) -> dict[str, float]:
    """Return how many labels of each kind confident learning takes for wrong."""

    def cells(given: BoolArray, probabilities: FloatArray) -> float:
        columns = zip(given.T, probabilities.T, strict=True)
        return sum(estimated_errors(*_binary(*column)) for column in columns)

    return {
        "level": estimated_errors(gold.levels, scores.level),
        "triggers": cells(gold.triggers, scores.triggers),
        "signals": cells(gold.signals, scores.signals),
    }


def _binary(given: BoolArray, probability: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return one label as a choice of two classes: not given, given."""
    return given.astype(np.int64), np.stack([1.0 - probability, probability], axis=1)
