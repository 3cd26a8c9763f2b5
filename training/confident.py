"""Confident learning: which given labels does an honest prediction contradict?

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, 2021; shifting by class after Kuan and Mueller, "Model-agnostic label quality
scoring to detect real-world label errors", 2022. Their package cleanlab is under the AGPL-3.0,
which does not fit here: this is written from the papers and does not depend on it.

Everywhere `given` is int64 (n,), the labels as they are, and `probabilities` float (n, classes),
what a model that did not see them says; rows sum to 1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from deesc_model.scoring import FloatArray, IntArray


def class_thresholds(given: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return the mean probability of each class over the rows that are given it, 1 if none is.

    Shape (classes,). A model is less sure of some classes than of others; this is how sure it
    usually is.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(given, minlength=classes)
    own = np.bincount(given, probabilities[np.arange(len(given)), given], classes)
    return np.where(counts > 0, own / np.maximum(counts, 1), 1.0)


def confident_joint(given: IntArray, probabilities: FloatArray) -> IntArray:
    """Count rows by given class and by the class they confidently belong to.

    A row belongs to the most probable of the classes that reach their `class_thresholds`; one
    that reaches none is not counted. Shape (classes, classes).
    """
    classes = probabilities.shape[1]
    reached = probabilities >= class_thresholds(given, probabilities)
    confident = reached.any(axis=1)
    belongs = np.where(reached, probabilities, -1.0).argmax(axis=1)
    cells = given[confident] * classes + belongs[confident]
    counts = np.bincount(cells, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def estimated_errors(given: IntArray, probabilities: FloatArray) -> float:
    """Estimate how many labels are wrong: the confident joint, scaled to all rows."""
    joint = confident_joint(given, probabilities).astype(np.float64)
    counted = joint.sum(axis=1)
    wrong = (counted - np.diag(joint)) / np.maximum(counted, 1.0)
    return float(wrong @ np.bincount(given, minlength=len(joint)))


def shifted(given: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return probabilities that are fair to classes of which the model is rarely sure.

    Each class's threshold is subtracted, the largest added so that none is negative, and rows
    are made to sum to 1 again.
    """
    thresholds = class_thresholds(given, probabilities)
    moved = probabilities - thresholds + thresholds.max()
    return np.asarray(moved / moved.sum(axis=1, keepdims=True))


def self_confidence(given: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return 1 minus the probability of the given class, 0–1."""
    return np.asarray(1.0 - probabilities[np.arange(len(given)), given])


def margin(given: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return by how much the best other class beats the given one, −1 to 1."""
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    return np.asarray(others.max(axis=1) - probabilities[np.arange(len(given)), given])


def distance(given: IntArray, probabilities: FloatArray) -> FloatArray:
    """Return how many classes away from the given one the truth is expected, 0 upwards.

    For classes in an order: it knows that 0 for 3 is worse than 2 for 3, which the others do not.
    """
    steps = np.abs(np.arange(probabilities.shape[1]) - given[:, None])
    return np.asarray((probabilities * steps).sum(axis=1))


Ranking = Callable[[IntArray, FloatArray], FloatArray]

RANKINGS: Final[dict[str, Ranking]] = {
    "self_confidence": self_confidence,
    "margin": margin,
    "distance": distance,
}
"""How suspicious a given label is; the larger, the sooner it is read again."""
