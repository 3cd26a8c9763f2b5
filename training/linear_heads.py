"""Logistic regressions on shared features: one of the level, one of each trigger and signal."""

from typing import Self

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from deesc_model.labels import Level
from deesc_model.network import available_cpus
from deesc_model.scoring import BoolArray, FloatArray, IntArray, Logits
from training.metrics import Gold

SMALLEST_PROBABILITY = 1e-6

Features = csr_matrix | FloatArray
"""One row per utterance."""


class LinearHeads:
    """Learns every label from features, and knows nothing of where they come from."""

    level_head = "softmax"

    def __init__(self, strength: float, *, balanced: bool) -> None:
        """Describe the regressions.

        Args:
            strength: Inverse of the L2 penalty, above 0.
            balanced: Whether rare classes weigh as much as frequent ones, which finds more of
                them; without it scores are closer to frequencies.
        """
        self._strength = strength
        self._class_weight = "balanced" if balanced else None
        self._level: LogisticRegression | None = None
        self._triggers: list[LogisticRegression | None] = []
        self._signals: list[LogisticRegression | None] = []

    def fit(self, features: Features, gold: Gold) -> Self:
        """Learn from rows of features and their labels."""
        targets = [gold.levels, *gold.triggers.T, *gold.signals.T]
        workers = Parallel(n_jobs=available_cpus(), prefer="threads")
        self._level, *others = workers(delayed(self._fit)(features, target) for target in targets)
        count = gold.triggers.shape[1]
        self._triggers, self._signals = others[:count], others[count:]
        return self

    def logits(self, features: Features) -> Logits:
        """Return log-probabilities of the levels and log-odds of the other labels."""
        probabilities = np.zeros((features.shape[0], len(Level)))
        if self._level is not None:
            probabilities[:, self._level.classes_] = self._level.predict_proba(features)
        return Logits(
            np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)),
            np.stack([_log_odds(model, features) for model in self._triggers], axis=1),
            np.stack([_log_odds(model, features) for model in self._signals], axis=1),
        )

    def _fit(self, features: Features, target: IntArray | BoolArray) -> LogisticRegression | None:
        if len(np.unique(target)) < 2:
            return None
        model = LogisticRegression(C=self._strength, class_weight=self._class_weight, max_iter=1000)
        return model.fit(features, target)


def _log_odds(model: LogisticRegression | None, features: Features) -> FloatArray:
    if model is None:
        return np.full(features.shape[0], np.log(SMALLEST_PROBABILITY))
    return np.asarray(model.decision_function(features))
