"""Permutation tests of whether two sets of conversations are alike.

Rows of one conversation are not independent, so whole conversations are dealt out to reference
and current anew. If both come from one source every deal is as likely as the one at hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deesc_model.scoring import BoolArray, FloatArray
from training.config import ConfigError
from training.drift_features import DriftFeatures
from training.drift_thresholds import DriftThresholds
from training.expected_performance import EXPECTED, expected_metrics

FEWEST_CONVERSATIONS = 20
"""In each set; fewer show nothing."""
SMALLEST_COUNT = 0.5
"""Added to each bin, so that an empty one does not make the index infinite."""
CHUNK = 100
FOLDS = 5
SEED = 7


@dataclass(frozen=True, slots=True)
class Shift:
    """One quantity in reference and current.

    Attributes:
        name: The quantity, for example ``"trigger.delay"``.
        kind: The threshold that `size` is held against, a field of `DriftThresholds`.
        reference: Its mean, share or expected metric in the reference; of ``unseen_rise`` what
            chance gives, of ``content_auc`` 0.5.
        current: The same in the current set.
        size: How large the shift is, in the unit of `kind`.
        p_value: Of the permutation test, corrected for the number of tests.
        drifted: Whether it is large and not chance.
    """

    name: str
    kind: str
    reference: float
    current: float
    size: float
    p_value: float
    drifted: bool


def stability_index(reference: FloatArray, current: FloatArray) -> FloatArray:
    """Return the population stability index of counts over bins, the last axis.

    Source: Yurdakul and Naranjo, "Statistical properties of the population stability index",
    2020, who show that it is about a chi-square and that fixed bounds alone mislead.
    """
    shares = [
        (counts + SMALLEST_COUNT) / (counts + SMALLEST_COUNT).sum(-1, keepdims=True)
        for counts in (reference, current)
    ]
    return np.asarray(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum(-1))


def corrected(p_values: FloatArray) -> FloatArray:
    """Return p-values corrected for their number.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    result = np.empty_like(scaled)
    result[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return result


def find_shifts(
    features: DriftFeatures, current: BoolArray, thresholds: DriftThresholds, seed: int = SEED
) -> list[Shift]:
    """Compare the current conversations with the others.

    Args:
        features: Of both sets together.
        current: Which conversations are current, bool (conversations,).
        thresholds: What counts as drift, and the number of permutations.
        seed: Of the permutations.

    Raises:
        ConfigError: With so few permutations nothing could ever count as drift.
    """
    deals = _deals(current, thresholds.permutations, seed)
    values = np.concatenate([_statistics(features, deal) for deal in deals])
    observed, dealt = values[0], values[1:]
    if len(observed) / (1 + len(dealt)) >= thresholds.significance:
        raise ConfigError(
            f"permutations: {len(dealt)} are too few for {len(observed)} tests at significance"
            f" {thresholds.significance:g}"
        )
    reached = (dealt >= observed - 1e-12).sum(axis=0)
    p_values = corrected((1 + reached) / (1 + len(dealt)))
    found = _describe(features, current, observed, dealt.mean(axis=0))
    return [
        Shift(
            name, kind, before, after, size, float(p_value),
            bool(p_value < thresholds.significance and size >= getattr(thresholds, kind)),
        )
        for (name, kind, before, after, size), p_value in zip(found, p_values, strict=True)
    ]  # fmt: skip


def content_auc(features: DriftFeatures, current: BoolArray, name: str) -> float:
    """Return how well a classifier tells current rows from the others, 0.5 to 1.

    Each row is judged by a model that has not seen its conversation. Source: Lopez-Paz and
    Oquab, "Revisiting Classifier Two-Sample Tests", 2017. It is the size that people can read;
    the test is the kernel's (see `_statistics`), which needs no fit for each permutation.
    """
    groups = features.rows.conversations
    points, truth = features.contents[name], current[groups]
    guessed = np.zeros(len(truth))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for seen, left in folds.split(points, truth, groups):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
        )
        guessed[left] = model.fit(points[seen], truth[seen]).decision_function(points[left])
    return float(roc_auc_score(truth, guessed))


def unseen_words(features: DriftFeatures, current: BoolArray) -> dict[str, int]:
    """Return words of the current set that the reference lacks, most frequent first."""
    there = np.asarray(features.words[~current].sum(axis=0)).ravel()
    now = np.asarray(features.words[current].sum(axis=0)).ravel()
    new = np.flatnonzero((there == 0) & (now > 0))
    ranked = new[np.argsort(-now[new], kind="stable")]
    return {features.vocabulary[word]: int(now[word]) for word in ranked}


def _deals(current: BoolArray, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Yield who is current: as it is, then conversations dealt out anew, in chunks."""
    random = np.random.default_rng(seed)
    yield current[None].astype(np.float64)
    for start in range(0, permutations, CHUNK):
        count = min(CHUNK, permutations - start)
        yield random.permuted(np.tile(current, (count, 1)), axis=1).astype(np.float64)


def _statistics(features: DriftFeatures, deals: FloatArray) -> FloatArray:
    """Return every statistic of every deal, shape (deals, tests); more is further apart.

    Text and scores are compared by the maximum mean discrepancy. Source: Gretton et al., "A
    Kernel Two-Sample Test", 2012; testing a classifier's outputs rather than its inputs alone:
    Rabanser, Günnemann and Lipton, "Failing Loudly", 2019.
    """
    others = 1 - deals
    columns = [
        stability_index(others @ part.counts, deals @ part.counts) for part in features.binned
    ]
    columns.append(_unseen_shares(features, deals))
    for part in features.kernels.values():
        gap = (deals @ part) / (deals @ features.sizes)[:, None]
        gap -= (others @ part) / (others @ features.sizes)[:, None]
        columns.append((gap**2).sum(axis=1))
    before, after = (expected_metrics(side @ features.expected) for side in (others, deals))
    columns += [np.nan_to_num(before[name] - after[name]) for name in EXPECTED]
    return np.stack(columns, axis=1)


def _unseen_shares(features: DriftFeatures, deals: FloatArray) -> FloatArray:
    """Return the share of current words that the reference lacks, one for each deal."""
    now = deals @ features.words
    total = np.asarray(features.words.sum(axis=0)).ravel()
    unseen = np.where(total - now < 0.5, now, 0).sum(axis=1)
    return np.asarray(unseen / np.maximum(now.sum(axis=1), 1))


def _describe(
    features: DriftFeatures, current: BoolArray, observed: FloatArray, by_chance: FloatArray
) -> list[tuple[str, str, float, float, float]]:
    """Return name, kind, reference, current and size in the order of `_statistics`."""
    found = []
    for index, part in enumerate(features.binned):
        before, after = (
            float(part.sums[side].sum() / part.counts[side].sum()) for side in (~current, current)
        )
        found.append((part.name, part.kind, before, after, float(observed[index])))
    unseen, chance = float(observed[len(found)]), float(by_chance[len(found)])
    found.append(("words.unseen", "unseen_rise", chance, unseen, unseen - chance))
    for name in features.kernels:
        area = content_auc(features, current, name)
        found.append((f"content.{name}", "content_auc", 0.5, area, area))
    sums = np.stack([features.expected[side].sum(axis=0) for side in (~current, current)])
    for name, (before, after) in expected_metrics(sums).items():
        found.append(
            (
                f"expected.{name}",
                "expected_drop",
                float(before),
                float(after),
                float(before - after),
            )
        )
    return found
