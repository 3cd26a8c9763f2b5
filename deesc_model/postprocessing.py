"""From logits to `Prediction`s, row by row in plain Python.

It is the rule of `deesc_model.scoring`, which evaluation needs in arrays. Here a forward pass has
just filled the processor's caches with weights, and the calls into numpy that a row needs then take
longer than its arithmetic; `make bench ARGS="--parts overhead"` shows how long.
"""

import math
from collections.abc import Sequence
from itertools import accumulate, compress, pairwise
from operator import mul

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.scoring import LEVEL_HEADS, Calibration, Logits, PlattArrays, level_costs
from deesc_model.types import Prediction


class Postprocessor:
    """Makes predictions of a network's logits.

    Args:
        calibration: What validation data taught about them.
        model_version: Of the bundle that answers.
    """

    def __init__(self, calibration: Calibration, model_version: str) -> None:
        self._model_version = model_version
        self._level_scores = _softmax if calibration.level_head == "softmax" else _corn
        self._temperature = calibration.temperature
        none = (0.0,) * LEVEL_HEADS[calibration.level_head]
        self._level_biases = calibration.level_biases or none
        self._certain_from = calibration.certain_from
        self._level_costs = level_costs(calibration.missed_heated_cost).tolist()
        self._triggers = _by_label(calibration.trigger_arrays)
        self._signals = _by_label(calibration.signal_arrays)

    def __call__(self, logits: Logits) -> list[Prediction]:
        """Return one prediction a row."""
        # Arrays become lists at once: reading numpy's numbers one by one takes most of the time.
        columns = (logits.level.tolist(), logits.triggers.tolist(), logits.signals.tolist())
        return [self._prediction(*row) for row in zip(*columns, strict=True)]

    def _prediction(
        self, level_logits: list[float], trigger_logits: list[float], signal_logits: list[float]
    ) -> Prediction:
        level_scores = self._level_scores(
            [
                logit / self._temperature + bias
                for logit, bias in zip(level_logits, self._level_biases, strict=True)
            ]
        )
        costs = [sum(map(mul, level_scores, given)) for given in self._level_costs]
        level = costs.index(min(costs))
        triggers, has_trigger = _label_scores(trigger_logits, self._triggers)
        signals, has_signal = _label_scores(signal_logits, self._signals)
        return Prediction(
            level=Level(level),
            level_scores=tuple(level_scores),
            frustration=sum(place * score for place, score in enumerate(level_scores)),
            uncertain=level_scores[level] < self._certain_from,
            triggers=tuple(compress(TRIGGERS, has_trigger)),
            trigger_scores=dict(zip(TRIGGERS, triggers, strict=True)),
            signals=tuple(compress(SIGNALS, has_signal)),
            signal_scores=dict(zip(SIGNALS, signals, strict=True)),
            model_version=self._model_version,
        )


def _by_label(arrays: PlattArrays) -> list[tuple[float, float, float]]:
    """Return slope, intercept and threshold of each label."""
    return list(zip(*(values.tolist() for values in arrays), strict=True))


def _label_scores(
    logits: list[float], calibrations: list[tuple[float, float, float]]
) -> tuple[list[float], list[bool]]:
    """Return the score of each label, and whether it is given."""
    scores, given = [], []
    for logit, (slope, intercept, threshold) in zip(logits, calibrations, strict=True):
        score = _sigmoid(logit * slope + intercept)
        scores.append(score)
        given.append(score >= threshold)
    return scores, given


def _sigmoid(logit: float) -> float:
    return 0.5 * math.tanh(0.5 * logit) + 0.5


def _softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    exponents = [math.exp(logit - highest) for logit in logits]
    total = sum(exponents)
    return [exponent / total for exponent in exponents]


def _corn(logits: Sequence[float]) -> list[float]:
    """Return the probabilities of the levels from those of being above each but the last."""
    above = [1.0, *accumulate(map(_sigmoid, logits), mul), 0.0]
    return [here - beyond for here, beyond in pairwise(above)]
