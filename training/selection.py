"""Which unlabelled turns to label first, from a bundle's scores and the texts.

Interest is the mean of uncertainty, rarity and, with a previous bundle, disagreement, each 0–1.
Turns are then chosen one by one: the one with the most interest times distance from what is chosen
already, which is greedy k-centre weighted by interest. (Sener and Savarese, "Active Learning for
Convolutional Neural Networks: A Core-Set Approach", 2018, for k-centre; Settles, "Active
Learning Literature Survey", 2009, for entropy and margin.)

The distance is the cosine distance of `training.embeddings`, of the text without its context.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deesc_model.scoring import FloatArray, IntArray
from deesc_model.types import Prediction

MEASURES = ("entropy", "margin")


def uncertainty(predictions: Sequence[Prediction], measure: str) -> FloatArray:
    """Return how unsure a bundle is of each turn, 0–1.

    Half is the level's, half that of the trigger or signal whose score is nearest to even.

    Args:
        predictions: What the bundle says.
        measure: One of `MEASURES`: the entropy of the scores over its maximum, or 1 less the
            distance between the two highest.
    """
    levels = np.array([item.level_scores for item in predictions])
    labels = _label_scores(predictions)
    pairs = np.stack([labels, 1 - labels], axis=-1)
    of = _entropy if measure == "entropy" else _closeness
    return np.asarray((of(levels) + of(pairs).max(axis=1)) / 2)


def rarity(predictions: Sequence[Prediction]) -> FloatArray:
    """Return how rare each turn's rarest predicted label is among all, 0–1.

    1 is a label that one turn has, 0 one that all have; in between it is logarithmic.
    """
    labels = [{f"level {item.level}", *item.triggers, *item.signals} for item in predictions]
    counts = Counter(label for row in labels for label in row)
    rarest = np.array([min(counts[label] for label in row) for row in labels], dtype=np.float64)
    return np.asarray(1 - np.log(rarest) / np.log(max(len(labels), 2)))


def disagreement(first: Sequence[Prediction], second: Sequence[Prediction]) -> FloatArray:
    """Return how far two bundles' scores differ, 0–1.

    Half is the levels' total variation distance, half the largest difference of a label's score.
    """
    levels = np.array([item.level_scores for item in first]) - np.array(
        [item.level_scores for item in second]
    )
    labels = np.abs(_label_scores(first) - _label_scores(second))
    return np.asarray((np.abs(levels).sum(axis=1) / 2 + labels.max(axis=1)) / 2)


def choose(interest: FloatArray, vectors: FloatArray, count: int) -> IntArray:
    """Return the rows to label, first things first, `count` of them or all there are.

    Args:
        interest: Of each row, 0–1.
        vectors: Of each row, of length 1.
        count: How many to choose.
    """
    distance = np.ones(len(interest))
    chosen: list[int] = []
    for _ in range(min(count, len(interest))):
        worth = interest * distance
        worth[chosen] = -1
        best = int(worth.argmax())
        chosen.append(best)
        distance = np.minimum(distance, np.clip(1 - vectors @ vectors[best], 0, 1))
    return np.array(chosen, dtype=np.int64)


def _label_scores(predictions: Sequence[Prediction]) -> FloatArray:
    return np.array(
        [[*item.trigger_scores.values(), *item.signal_scores.values()] for item in predictions]
    )


def _entropy(scores: FloatArray) -> FloatArray:
    positive = np.maximum(scores, 1e-12)
    bits = -(positive * np.log(positive)).sum(axis=-1) / np.log(scores.shape[-1])
    return np.asarray(np.clip(bits, 0, 1))


def _closeness(scores: FloatArray) -> FloatArray:
    highest = np.sort(scores, axis=-1)
    return np.asarray(1 - (highest[..., -1] - highest[..., -2]))
