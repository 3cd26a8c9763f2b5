"""What is measured, with bootstrap intervals by conversation.

Every metric is computed from weighted counts: a weight of 1 for each row gives the figure
itself, the number of times that a resample drew the row's conversation gives one bootstrap
replicate. One function therefore serves both, for all resamples at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.scoring import (
    BoolArray,
    Calibration,
    FloatArray,
    IntArray,
    Scores,
    level_confidence,
    predicted_labels,
    predicted_levels,
    uncertain_levels,
)
from training.corpus import Utterance

BINS = 15
FEWEST_GROUPS = 20
"""Conversations; the bootstrap of fewer gives intervals that are too narrow."""
DRAWS = 200
"""Of outcomes, to see what calibration error is chance."""
LEVELS = len(Level)
HEATED = int(Level.ANGRY)
"""Levels from here on are an escalation."""
MILD = int(Level.FRUSTRATED)
"""Levels below this are calm or concerned."""


@dataclass(frozen=True, slots=True)
class Gold:
    """True labels of n rows.

    Attributes:
        levels: int64 (n,), 0–4.
        triggers: bool (n, 11).
        signals: bool (n, 5).
    """

    levels: IntArray
    triggers: BoolArray
    signals: BoolArray


def gold_labels(rows: Sequence[Utterance]) -> Gold:
    """Return the true labels as arrays."""
    return Gold(
        levels=np.array([row.level for row in rows], dtype=np.int64),
        triggers=np.array([[name in row.triggers for name in TRIGGERS] for row in rows]),
        signals=np.array([[name in row.signals for name in SIGNALS] for row in rows]),
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float


Replicates = dict[str, FloatArray]
"""Metric name to values: position 0 is the figure, the others are bootstrap replicates."""


def bootstrap_weights(groups: Sequence[str], samples: int, seed: int) -> FloatArray:
    """Return row weights, shape (samples + 1, n); row 0 is all ones.

    Whole groups (conversations) are drawn with replacement, because the turns of one
    conversation are not independent. Source: Davison and Hinkley, "Bootstrap Methods and
    their Application", 1997, section 3.8.
    """
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    count = int(members.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), samples)
    return np.vstack([np.ones((1, len(members))), draws[:, members]]).astype(np.float64)


def compute_metrics(
    gold: Gold, scores: Scores, calibration: Calibration, weights: FloatArray
) -> Replicates:
    """Compute every metric for every row of weights.

    Macro averages leave out labels that neither occur nor are predicted; with all labels
    present they equal scikit-learn's.

    Returns:
        Arrays of shape (len(weights),), by metric name. Shares and scores are 0–1; the mean
        absolute error is in levels, 0–4.
    """
    metrics = _level_metrics(gold.levels, scores, weights)
    predicted = predicted_levels(scores)
    certain = ~uncertain_levels(scores, predicted, calibration)
    wrong = predicted != gold.levels
    metrics["level_coverage"] = _ratio(weights @ certain, weights.sum(1))
    metrics["level_certain_error"] = _ratio(weights @ (certain & wrong), weights @ certain)
    parts = (
        ("trigger", TRIGGERS, gold.triggers, scores.triggers, calibration.trigger_arrays),
        ("signal", SIGNALS, gold.signals, scores.signals, calibration.signal_arrays),
    )
    for kind, names, truth, probabilities, arrays in parts:
        chosen = predicted_labels(probabilities, arrays)
        hits = weights @ (truth & chosen)
        positives, given = weights @ truth, weights @ chosen
        f1 = f1_scores(hits, positives, given)
        precision = average_precision(truth, probabilities, weights)
        metrics[f"{kind}_micro_f1"] = f1_scores(hits.sum(1), positives.sum(1), given.sum(1))
        metrics[f"{kind}_macro_f1"] = nanmean(f1)
        metrics[f"{kind}_macro_ap"] = nanmean(precision)
        metrics[f"{kind}_ece"] = calibration_error(
            probabilities.ravel(), truth.ravel(), np.repeat(weights, len(names), axis=1)
        )
        for column, name in enumerate(names):
            metrics[f"{kind}.{name}.f1"] = f1[:, column]
            metrics[f"{kind}.{name}.ap"] = precision[:, column]
    return metrics


def _level_metrics(levels: IntArray, scores: Scores, weights: FloatArray) -> Replicates:
    predicted = predicted_levels(scores)
    cells = np.eye(LEVELS * LEVELS)[levels * LEVELS + predicted]
    metrics = confusion_metrics((weights @ cells).reshape(-1, LEVELS, LEVELS))
    confidence = level_confidence(scores.level, predicted)
    metrics["level_ece"] = calibration_error(confidence, predicted == levels, weights)
    return metrics


def confusion_metrics(confusion: FloatArray) -> Replicates:
    """Return every metric of the level that follows from counts.

    Args:
        confusion: Weighted counts, true level by given level, shape (k, 5, 5).

    Returns:
        Arrays of shape (k,), by metric name.
    """
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    true, given = confusion.sum(2), confusion.sum(1)
    total = confusion.sum((1, 2))
    total[total == 0] = np.nan  # a resample without any row of a slice
    distance = np.abs(np.subtract.outer(np.arange(LEVELS), np.arange(LEVELS)))
    expected = true[:, :, None] * given[:, None, :] / total[:, None, None]
    observed_error = (confusion * distance**2).sum((1, 2))
    f1 = f1_scores(hits, true, given)
    metrics = {
        "level_macro_f1": nanmean(f1),
        "level_accuracy": hits.sum(1) / total,
        "level_qwk": 1 - _ratio(observed_error, (expected * distance**2).sum((1, 2))),
        "level_mae": (confusion * distance).sum((1, 2)) / total,
        "level_off_by_two": (confusion * (distance >= 2)).sum((1, 2)) / total,
        # What a team acts on: heated customers that are found, calm ones that raise an alarm.
        "level_heated_recall": _ratio(
            confusion[:, HEATED:, HEATED:].sum((1, 2)), true[:, HEATED:].sum(1)
        ),
        "level_false_alarms": _ratio(
            confusion[:, :MILD, HEATED:].sum((1, 2)), true[:, :MILD].sum(1)
        ),
    }
    return metrics | {f"level.{level.label}.f1": f1[:, level] for level in Level}


def f1_scores(hits: FloatArray, true: FloatArray, given: FloatArray) -> FloatArray:
    """Return F1 of counts; nan for what neither occurs nor is given."""
    return _ratio(2 * hits, true + given)


def calibration_error(
    confidence: FloatArray, correct: BoolArray, weights: FloatArray
) -> FloatArray:
    """Return the expected calibration error over 15 equal bins, shape (len(weights),).

    Source: Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", 2015.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.zeros(len(weights))
    for number in np.unique(bins):
        inside = bins == number
        gaps += np.abs(weights[:, inside] @ (confidence[inside] - correct[inside]))
    return _ratio(gaps, weights.sum(1))


def calibration_by_chance(confidence: FloatArray, seed: int) -> float:
    """Return what the calibration error stays below in 95 % of draws of exactly right confidences.

    Of few rows the error is far from 0 however good the confidences are: the gaps of all bins
    count, and chance opens each.

    Args:
        confidence: Of each row, 0–1.
        seed: Seed of the draws of which rows are correct.
    """
    chance = np.random.default_rng(seed)
    alike = np.ones((1, len(confidence)))
    errors = [
        calibration_error(confidence, chance.random(len(confidence)) < confidence, alike)[0]
        for _ in range(DRAWS)
    ]
    return float(np.quantile(errors, 0.95))


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share. Source: Wilson, 1927."""
    z, share = 1.96, hits / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def average_precision(truth: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Return average precision, shape (len(weights), labels); nan without positives."""
    columns = []
    for column in range(truth.shape[1]):
        order = np.argsort(-scores[:, column], kind="stable")
        ranked, ranked_scores = weights[:, order], scores[order, column]
        hits = np.cumsum(ranked * truth[order, column], axis=1)
        # Tied scores share one threshold: read the counts at the last row of each tie.
        last = np.append(np.flatnonzero(np.diff(ranked_scores)), len(order) - 1)
        precision = _ratio(hits[:, last], np.cumsum(ranked, axis=1)[:, last])
        gained = np.diff(hits[:, last], axis=1, prepend=0)
        columns.append(_ratio(np.nansum(precision * gained, axis=1), hits[:, -1]))
    return np.stack(columns, axis=1)


def intervals(replicates: Mapping[str, FloatArray]) -> dict[str, Interval]:
    """Return figure and 95 % interval of each metric that is defined."""
    result = {}
    for name, values in replicates.items():
        resampled = values[1:][~np.isnan(values[1:])]
        if np.isnan(values[0]) or not len(resampled):
            continue
        low, high = np.percentile(resampled, [2.5, 97.5])
        result[name] = Interval(float(values[0]), float(low), float(high))
    return result


def confusion_matrix(levels: IntArray, scores: Scores) -> IntArray:
    """Return counts, true level by predicted level, int64 (5, 5)."""
    cells = np.bincount(levels * LEVELS + predicted_levels(scores), minlength=LEVELS * LEVELS)
    return cells.reshape(LEVELS, LEVELS).astype(np.int64)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide; 0/0 is nan."""
    return np.divide(
        numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0
    )


def nanmean(values: FloatArray) -> FloatArray:
    """Mean over the last axis without nan; nan where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))
