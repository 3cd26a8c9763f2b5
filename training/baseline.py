"""The baseline that a transformer has to beat: TF-IDF and logistic regression."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from deesc_model.labels import Level
from deesc_model.network import available_cpus
from deesc_model.rendering import render_context
from deesc_model.scoring import FloatArray, Logits
from training.corpus import Utterance
from training.metrics import Gold

SMALLEST_PROBABILITY = 1e-6


class TfidfBaseline:
    """Word and character n-grams of the utterance, words of the context, the speaker.

    It reads what the transformer reads, and its outputs are given the same calibration and
    thresholds.
    """

    level_head = "softmax"

    def __init__(self, context_turns: int) -> None:
        self._context_turns = context_turns
        self._utterance = (
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True),
        )
        self._context = TfidfVectorizer(min_df=2, sublinear_tf=True)
        self._reads_context = True
        self._level: LogisticRegression | None = None
        self._triggers: list[LogisticRegression | None] = []
        self._signals: list[LogisticRegression | None] = []

    def fit(self, rows: Sequence[Utterance], gold: Gold) -> Self:
        """Learn from rows and their true labels."""
        features = self._features(rows, fit=True)
        targets = [gold.levels, *gold.triggers.T, *gold.signals.T]
        workers = Parallel(n_jobs=available_cpus(), prefer="threads")
        self._level, *others = workers(delayed(_fit)(features, target) for target in targets)
        count = gold.triggers.shape[1]
        self._triggers, self._signals = others[:count], others[count:]
        return self

    def logits(self, rows: Sequence[Utterance]) -> Logits:
        """Return log-probabilities of the levels and log-odds of the other labels."""
        features = self._features(rows, fit=False)
        probabilities = np.zeros((len(rows), len(Level)))
        if self._level is not None:
            probabilities[:, self._level.classes_] = self._level.predict_proba(features)
        return Logits(
            np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)),
            np.stack([_log_odds(model, features) for model in self._triggers], axis=1),
            np.stack([_log_odds(model, features) for model in self._signals], axis=1),
        )

    def _features(self, rows: Sequence[Utterance], *, fit: bool) -> csr_matrix:
        texts = [row.text for row in rows]
        contexts = [render_context(row.context, self._context_turns) for row in rows]
        speakers = csr_matrix([[float(row.speaker == "customer")] for row in rows])
        blocks = [(vectorizer, texts) for vectorizer in self._utterance]
        if fit:
            self._reads_context = any(contexts)
        if self._reads_context:
            blocks.append((self._context, contexts))
        parts = [
            vectorizer.fit_transform(values) if fit else vectorizer.transform(values)
            for vectorizer, values in blocks
        ]
        return hstack([*parts, speakers], format="csr")


def _fit(features: csr_matrix, target: np.ndarray) -> LogisticRegression | None:
    if len(np.unique(target)) < 2:
        return None
    return LogisticRegression(C=4.0, class_weight="balanced", max_iter=1000).fit(features, target)


def _log_odds(model: LogisticRegression | None, features: csr_matrix) -> FloatArray:
    if model is None:
        return np.full(features.shape[0], np.log(SMALLEST_PROBABILITY))
    return np.asarray(model.decision_function(features))
