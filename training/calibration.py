"""Fit temperature, biases, Platt scaling and thresholds on validation data."""

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.scoring import (
    MISSED_HEATED_COST,
    BoolArray,
    Calibration,
    FloatArray,
    IntArray,
    LabelCalibration,
    Logits,
    decide_levels,
    level_confidence,
    level_scores,
    sigmoid,
)
from training.metrics import Gold

FEWEST_POSITIVES = 10
"""With fewer positives than this a label keeps its raw score and a threshold of 0.5.

Each row of validation is there twice, with its context and without.
"""

BIAS_SPREAD = 0.7
"""Standard deviation that the level's biases are expected to have before there are data, so that
few rows hardly move them. What they mend is up to 1: loss weights against imbalance make a
network's logits too high for rare levels."""

FEWEST_PUBLIC = 200
"""Fewer public texts than this, counted so too, do not decide about the level alone."""

HEATED_RECALL = 0.85
"""Share of the heated customers of validation that are to be called heated."""

HEATED_STEP = 0.5
"""`Calibration.missed_heated_cost` is a multiple of this: with few heated customers a finer one
would follow chance."""

HIGHEST_MISSED_COST = 18.0
"""And at most this, so that whom level 2 fits is called heated from a probability of .05."""


def fit_calibration(
    logits: Logits,
    gold: Gold,
    level_head: str,
    error_rate: float,
    public: BoolArray,
) -> Calibration:
    """Return the calibration that fits these logits to the true labels.

    What decides about the level is fitted to public texts alone where there are enough: the corpus
    is easier, and a temperature that suits it is too sure of real customers.

    Args:
        logits: Of n validation rows, each with and without its context.
        gold: Their true labels.
        level_head: ``"softmax"`` or ``"corn"``.
        error_rate: Share 0–1 of wrong levels that is allowed among those that are certain: of
            the corpus, and of public texts, which are harder. The stricter threshold holds.
        public: Which rows are public texts, bool (n,).
    """
    enough = [kind for kind in (public, ~public) if kind.sum() >= FEWEST_PUBLIC]
    enough = enough or [np.ones_like(public)]
    decisive = enough[0]
    temperature, biases = _fit_level(logits.level[decisive], gold.levels[decisive], level_head)
    scores = level_scores(logits.level, level_head, temperature, biases)
    missed_cost = missed_heated_cost(scores[decisive], gold.levels[decisive])
    predicted = decide_levels(scores, missed_cost)
    confidence, correct = level_confidence(scores, predicted), predicted == gold.levels
    return Calibration(
        level_head=level_head,
        temperature=temperature,
        level_biases=biases,
        certain_from=max(
            certainty_threshold(confidence[kind], correct[kind], error_rate) for kind in enough
        ),
        missed_heated_cost=missed_cost,
        triggers={
            name: _fit_label(logits.triggers[:, k], gold.triggers[:, k])
            for k, name in enumerate(TRIGGERS)
        },
        signals={
            name: _fit_label(logits.signals[:, k], gold.signals[:, k])
            for k, name in enumerate(SIGNALS)
        },
    )


def _fit_level(
    logits: FloatArray, levels: IntArray, level_head: str
) -> tuple[float, tuple[float, ...]]:
    """Return the temperature, 0.2 to 10, and the biases that make the true levels likeliest.

    As a sum over rows, with a normal prior of the biases; see `Calibration` for the source.
    """
    rows, width = np.arange(len(levels)), logits.shape[1]

    def loss(values: FloatArray) -> float:
        scores = level_scores(logits, level_head, float(np.exp(values[0])), tuple(values[1:]))
        prior = float((values[1:] ** 2).sum()) / (2 * BIAS_SPREAD**2)
        return (prior - float(np.log(scores[rows, levels] + 1e-12).sum())) / len(levels)

    bounds = [(np.log(0.2), np.log(10)), *[(None, None)] * width]
    best = minimize(loss, np.zeros(1 + width), method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(best[0])), tuple(map(float, best[1:]))


def missed_heated_cost(level: FloatArray, levels: IntArray) -> float:
    """Return the lowest `Calibration.missed_heated_cost` that finds `HEATED_RECALL` of the heated.

    `MISSED_HEATED_COST` if none does, or fewer than `FEWEST_POSITIVES` are heated.

    Args:
        level: Probabilities of the levels, shape (n, 5).
        levels: True levels, shape (n,).
    """
    heated = level[levels >= Level.ANGRY]
    if len(heated) < FEWEST_POSITIVES:
        return MISSED_HEATED_COST
    for cost in np.arange(0, HIGHEST_MISSED_COST + HEATED_STEP, HEATED_STEP).tolist():
        if (decide_levels(heated, cost) >= Level.ANGRY).mean() >= HEATED_RECALL:
            return float(cost)
    return MISSED_HEATED_COST


def certainty_threshold(confidence: FloatArray, correct: BoolArray, error_rate: float) -> float:
    """Return the lowest confidence from which at most `error_rate` of the rows are wrong.

    1.0 if there is none, 0.0 if all rows together are right often enough. Source: Geifman and
    El-Yaniv, "Selective Classification for Deep Neural Networks", 2017, without their bound.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    errors = np.cumsum(~correct[order]) / np.arange(1, len(order) + 1)
    errors[:-1][ranked[:-1] == ranked[1:]] = np.inf  # a threshold cannot part tied scores
    good = np.flatnonzero(errors <= error_rate)
    if not len(good):
        return 1.0
    cut = int(good[-1])
    return float((ranked[cut] + ranked[cut + 1]) / 2) if cut + 1 < len(ranked) else 0.0


def _fit_label(logits: FloatArray, truth: BoolArray) -> LabelCalibration:
    if min(truth.sum(), (~truth).sum()) < FEWEST_POSITIVES:
        return LabelCalibration()
    platt = LogisticRegression(C=100.0).fit(logits[:, None], truth)
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    if slope <= 0:  # scores worse than chance: nothing to calibrate
        return LabelCalibration()
    scores = sigmoid(logits * slope + intercept)
    return LabelCalibration(slope, intercept, fit_threshold(scores, truth))


def fit_threshold(scores: FloatArray, truth: BoolArray) -> float:
    """Return a threshold for a good F1 on other rows than these.

    The one that is best on these rows follows their chances, the more the rarer the label; the one
    that calibrated scores expect to be best trusts the calibration. Their mean is between the two.

    Args:
        scores: Calibrated scores 0–1, of n rows.
        truth: Which rows have the label, bool (n,).
    """
    return (best_threshold(scores, truth) + expected_threshold(scores)) / 2


def best_threshold(scores: FloatArray, truth: BoolArray) -> float:
    """Return the threshold with the best F1, halfway to the next lower score.

    Source: Lipton, Elkan and Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize
    F1 Measure", 2014.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1.0  # a threshold cannot part tied scores
    cut = int(np.argmax(f1))
    below = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
    return float((ranked[cut] + below) / 2)


def expected_threshold(scores: FloatArray) -> float:
    """Return the threshold of which calibrated scores expect the best F1, by no labels.

    Of the rows from the threshold up, the scores' sum is how many labels are expected to be right.
    Source: as for `best_threshold`.

    Args:
        scores: Calibrated scores 0–1, of n rows.
    """
    ranked = np.sort(scores)[::-1]
    f1 = 2 * np.cumsum(ranked) / (np.arange(1, len(ranked) + 1) + ranked.sum())
    cut = int(np.argmax(f1))
    below = ranked[cut + 1] if cut + 1 < len(ranked) else 0.0
    return float((ranked[cut] + below) / 2)
