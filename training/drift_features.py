"""What two sets of labelled rows are compared by, summed by conversation.

Everything here is the same whichever conversations are called current, so that a permutation
test of it is exact: bins are quantiles of both sets together, text features are fitted to both.
"""

from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.scoring import BoolArray, FloatArray, Scores
from training.expected_performance import expected_counts
from training.scored_files import ScoredRows

BINS = 10
TEXT_DIMENSIONS = 50
FOURIER_FEATURES = 256
MEDIAN_ROWS = 1000
SEED = 7


@dataclass(frozen=True, slots=True)
class Binned:
    """A quantity as counts over bins, by conversation.

    Attributes:
        name: What is counted.
        kind: The threshold that its stability index is held against.
        bins: What each bin holds.
        counts: Shape (conversations, bins).
        sums: The quantity summed, shape (conversations,), for the mean that is shown.
    """

    name: str
    kind: str
    bins: tuple[str, ...]
    counts: FloatArray
    sums: FloatArray


@dataclass(frozen=True, slots=True)
class DriftFeatures:
    """Sums over each conversation of both sets together.

    Attributes:
        rows: Both sets.
        binned: Levels, triggers, signals, lengths, speakers.
        words: How often each conversation has each word, sparse (conversations, words).
        vocabulary: The words.
        contents: For ``"text"`` and ``"scores"``, the features of each row, shape (n, d).
        kernels: The same as random Fourier features, shape (conversations, 256).
        expected: Sums of `expected_counts`, shape (conversations, 58).
        sizes: Rows of each conversation.
    """

    rows: ScoredRows
    binned: tuple[Binned, ...]
    words: csr_matrix
    vocabulary: tuple[str, ...]
    contents: dict[str, FloatArray]
    kernels: dict[str, FloatArray]
    expected: FloatArray
    sizes: FloatArray


def build_features(rows: ScoredRows) -> DriftFeatures:
    """Return the features of both sets together; see `training.scored_files.pool`."""
    count = len(rows.turns)
    member = csr_matrix(
        (np.ones(count), (rows.conversations, np.arange(count))),
        shape=(rows.conversation_count, count),
    )
    counter = CountVectorizer(token_pattern=r"\w+")  # noqa: S106
    words = counter.fit_transform([turn.text for turn in rows.turns] + ["a"])[:-1]
    contents = {
        "text": _text_features(words),
        "scores": np.hstack([rows.scores.level, rows.scores.triggers, rows.scores.signals]),
    }
    return DriftFeatures(
        rows=rows,
        binned=_binned(rows, member),
        words=csr_matrix(member @ words),
        vocabulary=tuple(counter.get_feature_names_out()),
        contents=contents,
        kernels={name: member @ fourier_features(part) for name, part in contents.items()},
        expected=member @ expected_counts(rows),
        sizes=np.asarray(member.sum(axis=1)).ravel(),
    )


def keep_conversations(features: DriftFeatures, kept: BoolArray) -> DriftFeatures:
    """Return the features without some conversations; bins and bases stay as they were fitted.

    Args:
        features: Of all conversations.
        kept: Which of them stay, bool (conversations,).
    """
    rows = features.rows
    inside = kept[rows.conversations]
    numbers = np.cumsum(kept) - 1
    return DriftFeatures(
        rows=ScoredRows(
            turns=tuple(compress(rows.turns, inside)),
            conversations=numbers[rows.conversations[inside]],
            scores=Scores(
                rows.scores.level[inside], rows.scores.triggers[inside], rows.scores.signals[inside]
            ),
            levels=rows.levels[inside],
            triggers=rows.triggers[inside],
            signals=rows.signals[inside],
            model_version=rows.model_version,
        ),
        binned=tuple(
            replace(part, counts=part.counts[kept], sums=part.sums[kept])
            for part in features.binned
        ),
        words=features.words[kept],
        vocabulary=features.vocabulary,
        contents={name: part[inside] for name, part in features.contents.items()},
        kernels={name: part[kept] for name, part in features.kernels.items()},
        expected=features.expected[kept],
        sizes=features.sizes[kept],
    )


def fourier_features(points: FloatArray) -> FloatArray:
    """Return features whose products are a Gaussian kernel, as wide as the median distance.

    Sources: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines", 2007; the
    median heuristic: Gretton et al., "A Kernel Two-Sample Test", 2012.
    """
    random = np.random.default_rng(SEED)
    some = random.permutation(len(points))[:MEDIAN_ROWS]
    pairs = np.linalg.norm(points[some] - points[np.roll(some, 1)], axis=1)
    width = float(np.median(pairs)) or 1.0
    directions = random.normal(size=(points.shape[1], FOURIER_FEATURES // 2)) / width
    angles = points @ directions
    return np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(FOURIER_FEATURES / 2)


def _text_features(words: csr_matrix) -> FloatArray:
    """Latent semantic analysis. Source: Deerwester et al., 1990."""
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(words)
    dimensions = min(TEXT_DIMENSIONS, min(weighted.shape) - 1)
    if dimensions < 1:
        return np.zeros((words.shape[0], 1))
    return np.asarray(TruncatedSVD(dimensions, random_state=SEED).fit_transform(weighted))


def _binned(rows: ScoredRows, member: csr_matrix) -> tuple[Binned, ...]:
    names = tuple(level.label for level in Level)
    found = [
        Binned(
            "level", "level_psi", names, member @ np.eye(len(Level))[rows.levels],
            member @ rows.levels.astype(np.float64),
        )
    ]  # fmt: skip
    agents = np.array([turn.speaker == "agent" for turn in rows.turns])
    shares = [
        *(("trigger", name, rows.triggers[:, k]) for k, name in enumerate(TRIGGERS)),
        *(("signal", name, rows.signals[:, k]) for k, name in enumerate(SIGNALS)),
        ("speaker", "agent", agents),
    ]
    for kind, name, flags in shares:
        on = member @ flags.astype(np.float64)
        off = member @ (~flags).astype(np.float64)
        bins = ("without", "with")
        found.append(Binned(f"{kind}.{name}", f"{kind}_psi", bins, np.stack([off, on], 1), on))
    lengths = np.array([len(turn.text.split()) for turn in rows.turns], dtype=np.float64)
    labels, cells = _quantile_bins(lengths)
    found.append(Binned("length.words", "length_psi", labels, member @ cells, member @ lengths))
    turns = np.asarray(member.sum(axis=1)).ravel()
    labels, cells = _quantile_bins(turns)
    found.append(Binned("length.turns", "length_psi", labels, cells, turns))
    return tuple(found)


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
