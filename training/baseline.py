"""The baseline that a transformer has to beat: TF-IDF and logistic regression."""

from collections.abc import Sequence
from typing import Protocol, Self

from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from deesc_model.rendering import render_context
from deesc_model.scoring import Logits
from training.corpus import Utterance
from training.linear_heads import Features, LinearHeads
from training.metrics import Gold

STRENGTH = 4.0
"""Inverse of the L2 penalty."""


class Vectorizer(Protocol):
    """Turns rows into what logistic regression reads, a line each."""

    def fit_transform(self, rows: Sequence[Utterance]) -> Features:
        """Learn from rows, and return their features."""

    def transform(self, rows: Sequence[Utterance]) -> Features:
        """Return the features of rows."""


class TfidfFeatures:
    """Word and character n-grams of the utterance, words of the context, the speaker."""

    def __init__(self, context_turns: int) -> None:
        self._context_turns = context_turns
        self._utterance = (
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True),
        )
        self._context = TfidfVectorizer(min_df=2, sublinear_tf=True)
        self._reads_context = True

    def fit_transform(self, rows: Sequence[Utterance]) -> csr_matrix:
        """Learn which n-grams there are, and return the features of the same rows."""
        return self._features(rows, fit=True)

    def transform(self, rows: Sequence[Utterance]) -> csr_matrix:
        """Return the features of rows, one line each."""
        return self._features(rows, fit=False)

    def _features(self, rows: Sequence[Utterance], *, fit: bool) -> csr_matrix:
        texts = [row.text for row in rows]
        contexts = [render_context(row.context, self._context_turns) for row in rows]
        speakers = csr_matrix([[float(row.speaker == "customer")] for row in rows])
        blocks = [(vectorizer, texts) for vectorizer in self._utterance]
        if fit:
            # Of three some two have a word in common, if only their speaker.
            self._reads_context = sum(map(bool, contexts)) >= 3
        if self._reads_context:
            blocks.append((self._context, contexts))
        parts = [
            vectorizer.fit_transform(values) if fit else vectorizer.transform(values)
            for vectorizer, values in blocks
        ]
        return hstack([*parts, speakers], format="csr")


class LinearBaseline:
    """Reads what the transformer reads, and is given the same calibration and thresholds.

    Args:
        vectorizer: Says what of the rows is read; fitted with the regressions.
    """

    level_head = LinearHeads.level_head

    def __init__(self, vectorizer: Vectorizer) -> None:
        self._vectorizer = vectorizer
        self._heads = LinearHeads(STRENGTH, balanced=True)

    def fit(self, rows: Sequence[Utterance], gold: Gold) -> Self:
        """Learn from rows and their true labels."""
        self._heads.fit(self._vectorizer.fit_transform(rows), gold)
        return self

    def logits(self, rows: Sequence[Utterance]) -> Logits:
        """Return log-probabilities of the levels and log-odds of the other labels."""
        return self._heads.logits(self._vectorizer.transform(rows))
