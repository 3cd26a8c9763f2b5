"""From logits to calibrated scores to labels, in arrays: what evaluation works with.

`deesc_model.postprocessing` makes predictions by the same rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from deesc_model.labels import SIGNALS, TRIGGERS, Level

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

LEVEL_HEADS: Final[dict[str, int]] = {"softmax": len(Level), "corn": len(Level) - 1}
"""Kinds of level head and the number of logits of each."""

FAR_OFF_COST: Final = 2.0
"""What a level costs that is off by two or more, beside the 1 of any wrong level."""

MISSED_HEATED_COST: Final = 2.0
"""`Calibration.missed_heated_cost` of bundles that do not say."""

_LEVELS: Final = np.arange(len(Level), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Logits:
    """Raw outputs of the model for n utterances, float.

    Attributes:
        level: Shape (n, 5) for a softmax head, (n, 4) for a CORN head.
        triggers: Shape (n, 11).
        signals: Shape (n, 5).
    """

    level: FloatArray
    triggers: FloatArray
    signals: FloatArray


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities 0–1 for n utterances.

    Attributes:
        level: Shape (n, 5), rows sum to 1.
        triggers: Shape (n, 11).
        signals: Shape (n, 5).
        missed_heated_cost: As in `Calibration`.
    """

    level: FloatArray
    triggers: FloatArray
    signals: FloatArray
    missed_heated_cost: float = MISSED_HEATED_COST


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """Platt scaling and decision threshold of one trigger or signal.

    The score is ``sigmoid(slope * logit + intercept)``; the label is given from
    `threshold` (0–1) upwards. Source: Platt, "Probabilistic Outputs for Support Vector
    Machines", 1999.
    """

    slope: float = 1.0
    intercept: float = 0.0
    threshold: float = 0.5


class PlattArrays(NamedTuple):
    """The calibration of n labels side by side, each float of shape (n,).

    Attributes:
        slopes: Multiply the logits.
        intercepts: Are added.
        thresholds: Scores 0–1 from which the labels are given.
    """

    slopes: FloatArray
    intercepts: FloatArray
    thresholds: FloatArray

    @classmethod
    def of(cls, by_label: Mapping[str, LabelCalibration]) -> "PlattArrays":
        """Put the labels side by side, in their order."""
        labels = by_label.values()
        return cls(
            np.array([label.slope for label in labels]),
            np.array([label.intercept for label in labels]),
            np.array([label.threshold for label in labels]),
        )


def _plain(labels: Sequence[str]) -> dict[str, LabelCalibration]:
    return {label: LabelCalibration() for label in labels}


@dataclass(frozen=True)  # no slots: the arrays are kept once they are made
class Calibration:
    """What validation data taught about a model's logits.

    Attributes:
        level_head: ``"softmax"`` or ``"corn"``.
        temperature: Divides the level logits. Source: Guo et al., "On Calibration of Modern
            Neural Networks", 2017.
        level_biases: Are added to them then, one for each; none are zeros. Source: Alexandari,
            Kundaje and Shrikumar, "Maximum Likelihood with Bias-Corrected Calibration is
            Hard-To-Beat at Label Shift Adaptation", 2020.
        certain_from: Score 0–1 of the predicted level below which it is uncertain.
        missed_heated_cost: What it costs to give a heated customer (3, 4) a level below, beside
            what its distance costs; see `level_costs`.
        triggers: Platt scaling and threshold by trigger type.
        signals: Platt scaling and threshold by signal.
    """

    level_head: str = "softmax"
    temperature: float = 1.0
    level_biases: tuple[float, ...] = ()
    certain_from: float = 0.0
    missed_heated_cost: float = MISSED_HEATED_COST
    triggers: dict[str, LabelCalibration] = field(default_factory=lambda: _plain(TRIGGERS))
    signals: dict[str, LabelCalibration] = field(default_factory=lambda: _plain(SIGNALS))

    @cached_property
    def label_arrays(self) -> PlattArrays:
        """`triggers`, then `signals`."""
        return PlattArrays.of(self.triggers | self.signals)

    @cached_property
    def trigger_arrays(self) -> PlattArrays:
        """`triggers` side by side."""
        return PlattArrays(*(values[: len(self.triggers)] for values in self.label_arrays))

    @cached_property
    def signal_arrays(self) -> PlattArrays:
        """`signals` side by side."""
        return PlattArrays(*(values[len(self.triggers) :] for values in self.label_arrays))


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-logits)) without overflow."""
    scores: FloatArray = np.tanh(0.5 * logits)
    scores *= 0.5
    scores += 0.5
    return scores


def expected_levels(level: FloatArray) -> FloatArray:
    """Return the mean level 0–4 of each row of probabilities, shape (n,)."""
    return np.asarray(level @ _LEVELS)


def level_scores(
    logits: FloatArray, level_head: str, temperature: float = 1.0, biases: Sequence[float] = ()
) -> FloatArray:
    """Return the probabilities of the five levels, shape (n, 5); see `Calibration`.

    A CORN head gives logits of P(level > k | level > k-1) for k = 0…3; their running
    product is P(level > k). Source: Shi, Cao and Raschka, "Deep Neural Networks for
    Rank-Consistent Ordinal Regression Based On Conditional Probabilities", 2021.
    """
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    if biases:
        scaled += biases
    if level_head == "softmax":
        exponents: FloatArray = np.exp(scaled - np.maximum.reduce(scaled, axis=1, keepdims=True))
        exponents /= np.add.reduce(exponents, axis=1, keepdims=True)
        return exponents
    above = np.cumprod(sigmoid(scaled), axis=1)
    ones, zeros = np.ones((len(above), 1)), np.zeros((len(above), 1))
    return np.hstack([ones, above]) - np.hstack([above, zeros])


def calibrated_levels(logits: Logits, calibration: Calibration) -> FloatArray:
    """Return the probabilities of the five levels, shape (n, 5)."""
    head, temperature = calibration.level_head, calibration.temperature
    return level_scores(logits.level, head, temperature, calibration.level_biases)


def calibrated_scores(logits: Logits, calibration: Calibration) -> Scores:
    """Apply temperature, biases and Platt scaling."""
    # Few and large steps: for one utterance each call into numpy costs more than its arithmetic.
    arrays = calibration.label_arrays
    labels = np.concatenate([logits.triggers, logits.signals], axis=1, dtype=np.float64)
    labels *= arrays.slopes
    labels += arrays.intercepts
    labels = sigmoid(labels)
    triggers = logits.triggers.shape[1]
    return Scores(
        level=calibrated_levels(logits, calibration),
        triggers=labels[:, :triggers],
        signals=labels[:, triggers:],
        missed_heated_cost=calibration.missed_heated_cost,
    )


@lru_cache
def level_costs(missed_heated_cost: float) -> FloatArray:
    """Return what each level costs where another is true, shape (5 given, 5 true).

    A wrong level costs 1, one that is off by two or more `FAR_OFF_COST` beside it, and one below 3
    for a heated customer `missed_heated_cost` beside both.
    """
    off = np.abs(np.subtract.outer(_LEVELS, _LEVELS))
    missed = np.logical_and.outer(_LEVELS < Level.ANGRY, _LEVELS >= Level.ANGRY)
    costs = (off > 0) + FAR_OFF_COST * (off > 1) + missed_heated_cost * missed
    return np.asarray(costs, dtype=np.float64)


def decide_levels(level: FloatArray, missed_heated_cost: float) -> IntArray:
    """Return the level of each row of level probabilities, int64 of shape (n,).

    It is the one that is expected to cost least, of several the lowest; see `level_costs`.
    """
    return np.asarray((level @ level_costs(missed_heated_cost).T).argmin(axis=1))


def predicted_levels(scores: Scores) -> IntArray:
    """Return the level of each row, int64 of shape (n,)."""
    return decide_levels(scores.level, scores.missed_heated_cost)


def level_confidence(level: FloatArray, predicted: IntArray) -> FloatArray:
    """Return the probability of each row's predicted level, shape (n,)."""
    return np.asarray(level[np.arange(len(level)), predicted])


def uncertain_levels(scores: Scores, predicted: IntArray, calibration: Calibration) -> BoolArray:
    """Return which rows' predicted level is uncertain, bool of shape (n,)."""
    return level_confidence(scores.level, predicted) < calibration.certain_from


def predicted_labels(scores: FloatArray, arrays: PlattArrays) -> BoolArray:
    """Return which labels reach their threshold, bool of the same shape as `scores`."""
    return np.asarray(scores >= arrays.thresholds)


def combine_windows(
    logits: Logits, owners: IntArray, count: int, calibration: Calibration
) -> Logits:
    """Combine the windows of long texts into one row of logits per text.

    A text is as heated as its most heated window, and carries a label that any window
    carries: the level logits are those of the window that is given the highest level, of several
    that of the highest expected level; the others are maxima.

    Args:
        logits: One row per window.
        owners: Index of the text that each window belongs to, shape (windows,); every text
            from 0 to `count` - 1 owns at least one.
        count: Number of texts.
        calibration: Makes levels of logits.
    """
    if len(owners) == count:
        order = np.argsort(owners)
        return Logits(logits.level[order], logits.triggers[order], logits.signals[order])
    scores = calibrated_levels(logits, calibration)
    levels = decide_levels(scores, calibration.missed_heated_cost)
    rows = np.lexsort((expected_levels(scores), levels, owners))
    hottest = rows[np.searchsorted(owners[rows], np.arange(count), side="right") - 1]
    triggers = np.full((count, logits.triggers.shape[1]), -np.inf)
    signals = np.full((count, logits.signals.shape[1]), -np.inf)
    np.maximum.at(triggers, owners, logits.triggers)
    np.maximum.at(signals, owners, logits.signals)
    return Logits(logits.level[hottest], triggers, signals)
