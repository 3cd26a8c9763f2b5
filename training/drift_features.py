"""What two sets of labelled conversations are compared by.

A feature is summed by conversation once. Then it says for any deal of the conversations to
reference and current how far apart the two are: for the deal at hand, and for those of a
permutation test. Bins come from both sets together, so that no deal is special.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.scoring import BoolArray, FloatArray, IntArray
from training.expected_performance import EXPECTED, expected_counts, expected_metrics
from training.scored_files import ScoredRows

BINS = 10
FOLDS = 5
JUDGED = 10_000
"""Rows of each set that a classifier judges, chosen at random; more change the area little."""
SMALLEST_COUNT = 0.5
"""Added to each bin, so that an empty one does not make the index infinite."""
SEED = 7


@dataclass(frozen=True)
class Feature(ABC):
    """One quantity that may shift.

    Attributes:
        name: The quantity, for example ``"trigger.delay"``.
        threshold: The threshold for its size, a field of `DriftThresholds`.
        squared: Whether `distances` are sums of squares.
    """

    name: str
    threshold: str
    squared: ClassVar[bool] = False

    @abstractmethod
    def distances(self, deals: FloatArray) -> FloatArray:
        """Return how far current is from reference, one for each deal; more is further.

        Args:
            deals: 1 where a conversation is current, else 0, shape (deals, conversations).
        """

    @abstractmethod
    def contrast(
        self, current: BoolArray, distance: float, by_chance: float
    ) -> tuple[float, float, float]:
        """Return the feature in reference and current, and how large the shift is.

        Args:
            current: Which conversations are current, bool (conversations,).
            distance: Of this deal.
            by_chance: Mean distance of deals by chance.
        """


@dataclass(frozen=True)
class Binned(Feature):
    """A quantity as counts over bins; the distance is the population stability index.

    Source: Yurdakul and Naranjo, "Statistical properties of the population stability index",
    2020, who show that it is about a chi-square and that fixed bounds alone mislead.

    Attributes:
        bins: What each bin holds.
        counts: Shape (conversations, bins).
        sums: The quantity summed, shape (conversations,), for the mean that is shown.
    """

    bins: tuple[str, ...]
    counts: FloatArray
    sums: FloatArray
    squared: ClassVar[bool] = True

    def distances(self, deals: FloatArray) -> FloatArray:
        """Return the index."""
        return stability_index((1 - deals) @ self.counts, deals @ self.counts)

    def contrast(
        self, current: BoolArray, distance: float, by_chance: float
    ) -> tuple[float, float, float]:
        """Return the means; the size is the index."""
        before, after = (self.sums[side].sum() / self.counts[side].sum() for side in sides(current))
        return float(before), float(after), distance

    def shares(self, current: BoolArray) -> FloatArray:
        """Return the share 0–1 of each bin in reference and current, shape (2, bins)."""
        counts = np.stack([self.counts[side].sum(axis=0) for side in sides(current)])
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class UnseenWords(Feature):
    """The share of current words that the reference lacks.

    Attributes:
        words: How often each conversation has each word, sparse (conversations, words).
        vocabulary: The words.
    """

    words: csr_array
    vocabulary: tuple[str, ...]

    def distances(self, deals: FloatArray) -> FloatArray:
        """Return the share."""
        now = deals @ self.words
        total = self.words.sum(axis=0)
        unseen = np.where(total - now < 0.5, now, 0).sum(axis=1)
        return np.asarray(unseen / np.maximum(now.sum(axis=1), 1))

    def contrast(
        self, current: BoolArray, distance: float, by_chance: float
    ) -> tuple[float, float, float]:
        """Return the share beside what chance gives: some words are rare in any text."""
        return by_chance, distance, distance - by_chance

    def most_frequent(self, current: BoolArray, count: int) -> dict[str, int]:
        """Return unseen words and in how many current conversations they are, most first."""
        before, after = ((self.words[side] > 0).sum(axis=0) for side in sides(current))
        new = np.flatnonzero((before == 0) & (after > 0))
        ranked = new[np.argsort(-after[new], kind="stable")][:count]
        return {self.vocabulary[word]: int(after[word]) for word in ranked}


@dataclass(frozen=True)
class Content(Feature):
    """What is said: the distance between the mean embeddings.

    It is the maximum mean discrepancy with a linear kernel. Source: Gretton et al., "A Kernel
    Two-Sample Test", 2012.

    Attributes:
        conversations: Number of each row's conversation, int64 (n,).
        embeddings: Shape (n, width).
        sums: The embeddings summed, shape (conversations, width).
        sizes: Rows of each conversation, shape (conversations,).
    """

    conversations: IntArray
    embeddings: FloatArray
    sums: FloatArray
    sizes: FloatArray
    squared: ClassVar[bool] = True

    def distances(self, deals: FloatArray) -> FloatArray:
        """Return the squared distance."""
        before, after = (
            (side @ self.sums) / (side @ self.sizes)[:, None] for side in (1 - deals, deals)
        )
        return np.asarray(((after - before) ** 2).sum(axis=1))

    def contrast(
        self, current: BoolArray, distance: float, by_chance: float
    ) -> tuple[float, float, float]:
        """Return how well a classifier tells current rows from the others, 0.5 is not at all.

        Each row is judged by one that has not seen its conversation. Source: Lopez-Paz and
        Oquab, "Revisiting Classifier Two-Sample Tests", 2017. It is a size that people can read;
        the test is that of `distances`, which needs no fit for each deal.
        """
        random = np.random.default_rng(SEED)
        folds = np.empty(len(current), dtype=np.int64)
        for side in sides(current):
            folds[side] = random.permutation(side.sum()) % FOLDS
        truth = current[self.conversations]
        chosen = np.concatenate(
            [random.permutation(np.flatnonzero(side))[:JUDGED] for side in sides(truth)]
        )
        truth, row_folds = truth[chosen], folds[self.conversations[chosen]]
        vectors = self.embeddings[chosen]
        scores = np.empty(len(truth))
        for fold in range(FOLDS):
            left = row_folds == fold
            model = RidgeClassifier(class_weight="balanced")
            model.fit(vectors[~left], truth[~left])
            scores[left] = model.decision_function(vectors[left])
        area = float(roc_auc_score(truth, scores))
        return 0.5, area, area


@dataclass(frozen=True)
class ExpectedDrop(Feature):
    """By how much an expected metric falls.

    Attributes:
        counts: Sums of `expected_counts`, shape (conversations, 58).
    """

    counts: FloatArray

    def distances(self, deals: FloatArray) -> FloatArray:
        """Return the fall; a metric that is undefined did not fall."""
        before, after = (
            expected_metrics(side @ self.counts)[self._metric] for side in (1 - deals, deals)
        )
        return np.nan_to_num(before - after)

    def contrast(
        self, current: BoolArray, distance: float, by_chance: float
    ) -> tuple[float, float, float]:
        """Return the metric; the size is its fall."""
        before, after = expected_metrics(
            np.stack([self.counts[side].sum(axis=0) for side in sides(current)])
        )[self._metric]
        return float(before), float(after), distance

    @property
    def _metric(self) -> str:
        return self.name.removeprefix("expected.")


def stability_index(reference: FloatArray, current: FloatArray) -> FloatArray:
    """Return the population stability index of counts over bins, the last axis."""
    before, after = (
        (counts + SMALLEST_COUNT) / (counts + SMALLEST_COUNT).sum(-1, keepdims=True)
        for counts in (reference, current)
    )
    return np.asarray(((after - before) * np.log(after / before)).sum(-1))


def sides(current: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Return which conversations are the reference's, and which are current."""
    return ~current, current


def build_features(rows: ScoredRows) -> tuple[Feature, ...]:
    """Return every feature of both sets together."""
    count = len(rows.turns)
    member = csr_array(
        (np.ones(count), (rows.conversations, np.arange(count))),
        shape=(rows.conversation_count, count),
    )
    sizes = member.sum(axis=1)
    counter = CountVectorizer(token_pattern=r"\w+")  # noqa: S106
    # One word more than there is, so that texts of signs alone are no error.
    words = csr_array(counter.fit_transform([*(turn.text for turn in rows.turns), "a"]))[:-1]
    expected = member @ expected_counts(rows.scores, rows.levels, rows.triggers)
    return (
        *_binned(rows, member, sizes),
        UnseenWords(
            "words.unseen",
            "unseen_rise",
            csr_array(member @ words),
            tuple(counter.get_feature_names_out()),
        ),
        Content(
            "content.text",
            "content_auc",
            rows.conversations,
            rows.embeddings,
            member @ rows.embeddings,
            sizes,
        ),
        *(ExpectedDrop(f"expected.{name}", "expected_drop", expected) for name in EXPECTED),
    )


def _binned(rows: ScoredRows, member: csr_array, sizes: FloatArray) -> list[Binned]:
    levels = member @ np.eye(len(Level))[rows.levels]
    names = tuple(level.label for level in Level)
    found = [Binned("level", "level_psi", names, levels, levels @ np.arange(len(Level)))]
    shares = {
        **{f"trigger.{name}": rows.triggers[:, k] for k, name in enumerate(TRIGGERS)},
        **{f"signal.{name}": rows.signals[:, k] for k, name in enumerate(SIGNALS)},
        "speaker.agent": np.array([turn.speaker == "agent" for turn in rows.turns]),
    }
    for name, flags in shares.items():
        on = member @ flags.astype(np.float64)
        counts = np.stack([sizes - on, on], axis=1)
        found.append(Binned(name, "share_psi", ("without", "with"), counts, on))
    lengths = np.array([len(turn.text.split()) for turn in rows.turns], dtype=np.float64)
    bins, cells = _quantile_bins(lengths)
    found.append(Binned("length.words", "length_psi", bins, member @ cells, member @ lengths))
    bins, cells = _quantile_bins(sizes)
    found.append(Binned("length.turns", "length_psi", bins, cells, sizes))
    return found


def _quantile_bins(values: FloatArray) -> tuple[tuple[str, ...], FloatArray]:
    """Return up to ten bins of whole numbers and which of them each value is in."""
    edges = np.unique(np.ceil(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])))
    starts = np.concatenate([[values.min()], edges[edges > values.min()]])
    ends = np.concatenate([starts[1:] - 1, [values.max()]])
    labels = tuple(
        f"{low:.0f}" if low == high else f"{low:.0f}–{high:.0f}"
        for low, high in zip(starts, ends, strict=True)
    )
    return labels, np.eye(len(starts))[np.searchsorted(starts, values, side="right") - 1]
