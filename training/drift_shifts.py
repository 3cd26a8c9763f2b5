"""A permutation test of whether two sets of conversations are alike, for all features at once.

Rows of one conversation are not independent, so whole conversations are dealt out to reference
and current anew. If both come from one source, every deal is as likely as the one at hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
from threadpoolctl import threadpool_limits

from deesc_model.scoring import BoolArray, FloatArray
from training.config import ConfigError, check_types, read_toml
from training.drift_features import Feature

THRESHOLDS_FILE = Path(__file__).with_name("drift.toml")

RANGES: dict[str, tuple[float, float]] = {
    "significance": (0.001, 0.5),
    "permutations": (99, 99_999),
    "content_auc": (0.5, 1),
    "unseen_rise": (0, 1),
    "expected_drop": (0, 2),
}
"""Smallest and largest value; the stability indices may be 0 to 100."""

CHUNK = 100
CELLS = 1_000_000
"""Deals that are judged at once, and conversations in all of them together; what is more waits."""
ROUNDING = 1e-9
SEED = 7


@dataclass(frozen=True, slots=True)
class DriftThresholds:
    """What counts as drift; every key must be given.

    Attributes:
        significance: Chance 0–1 of any false alarm, over all features of a comparison together.
        permutations: How often conversations are dealt out anew.
        level_psi: Least population stability index of the level that counts.
        share_psi: The same of the share of a trigger, a signal, or agents' turns.
        length_psi: The same of words an utterance and of turns a conversation.
        unseen_rise: Least rise 0–1 of the share of unseen words, above what chance gives.
        content_auc: Least area under the curve 0.5–1 of a classifier of reference or current.
        expected_drop: Least fall of an expected metric.
    """

    significance: float
    permutations: int
    level_psi: float
    share_psi: float
    length_psi: float
    unseen_rise: float
    content_auc: float
    expected_drop: float


@dataclass(frozen=True, slots=True)
class Shift:
    """What the test says of one feature.

    Attributes:
        name: The feature, for example ``"trigger.delay"``.
        threshold: Which threshold its size is held against, a field of `DriftThresholds`.
        reference: Its mean, share or expected metric in the reference; of ``words.unseen`` what
            chance gives, of ``content.text`` 0.5.
        current: The same in the current set.
        size: How large the shift is, in the unit of the threshold.
        p_value: How often chance alone takes any feature as far, 0–1.
        drifted: Whether it is large and not chance.
    """

    name: str
    threshold: str
    reference: float
    current: float
    size: float
    p_value: float
    drifted: bool


def find_shifts(
    features: Sequence[Feature],
    current: BoolArray,
    thresholds: DriftThresholds,
    seed: int = SEED,
) -> list[Shift]:
    """Compare the current conversations with the others.

    Args:
        features: Of both sets together.
        current: Which conversations are current, bool (conversations,).
        thresholds: What counts as drift, and the number of permutations.
        seed: Of the permutations.
    """
    with threadpool_limits(1):  # the products are many and small: threads would only wait
        distances = _deal_out(features, current, thresholds.permutations, seed)
    # Sums of squares have a long tail under chance; their cube roots are about normal, as the
    # others are, so that one scale fits all. Source: Wilson and Hilferty, "The Distribution of
    # Chi-square", 1931.
    squared = np.array([feature.squared for feature in features])
    p_values = joint_p_values(np.where(squared, np.cbrt(distances), distances))
    shifts = []
    for feature, column, p_value in zip(features, distances.T, p_values.tolist(), strict=True):
        before, after, size = feature.contrast(current, float(column[0]), float(column[1:].mean()))
        large = size >= getattr(thresholds, feature.threshold)
        drifted = p_value <= thresholds.significance and large
        shifts.append(Shift(feature.name, feature.threshold, before, after, size, p_value, drifted))
    return shifts


def joint_p_values(statistics: FloatArray) -> FloatArray:
    """Return for each statistic how often chance takes any of them as far out.

    Every statistic is put on one scale by its mean and spread over all deals; what counts is the
    largest of a deal. So the chance of any false alarm is kept for all statistics together, those
    that move together cost little, and few deals are enough. Source: Westfall and Young,
    "Resampling-Based Multiple Testing", 1993, the step-down max-T.

    Args:
        statistics: By deal and statistic, larger is further out; row 0 is the deal at hand.

    Returns:
        Shape (statistics,), from 1 / deals to 1.
    """
    spread = statistics.std(axis=0)
    # What moves by rounding errors alone does not move.
    scaled = (statistics - statistics.mean(axis=0)) / np.where(spread > ROUNDING, spread, 1)
    order = np.argsort(-scaled[0], kind="stable")
    # Column k: the largest of the statistics that are no further out than the k-th at hand.
    largest = np.maximum.accumulate(scaled[:, order[::-1]], axis=1)[:, ::-1]
    reached = (largest >= scaled[0, order] - ROUNDING).mean(axis=0)
    result = np.empty(len(order))
    result[order] = np.maximum.accumulate(reached)
    return result


def read_thresholds(path: Path = THRESHOLDS_FILE) -> DriftThresholds:
    """Read and check the thresholds.

    Raises:
        ConfigError: The file cannot be read, or a key is unknown, missing, of another type, or
            out of range; or the permutations are too few for the significance.
    """
    hints = get_type_hints(DriftThresholds)
    values = check_types(read_toml(path), hints, str(path))
    if missing := [key for key in hints if key not in values]:
        raise ConfigError(f"{path}: missing {', '.join(missing)}")
    for key, value in values.items():
        low, high = RANGES.get(key, (0, 100))
        if not low <= value <= high:
            raise ConfigError(f"{path}: {key} must be from {low:g} to {high:g}, not {value!r}")
    thresholds = DriftThresholds(**values)
    if thresholds.significance * (1 + thresholds.permutations) < 1:
        raise ConfigError(
            f"{path}: permutations: {thresholds.permutations} can show no p as small as the"
            f" significance {thresholds.significance:g}"
        )
    return thresholds


def _deal_out(
    features: Sequence[Feature], current: BoolArray, permutations: int, seed: int
) -> FloatArray:
    """Return distances by deal and feature; row 0 is the deal at hand."""
    return np.concatenate(
        [
            np.stack([feature.distances(deals) for feature in features], axis=1)
            for deals in _deals(current, permutations, seed)
        ]
    )


def _deals(current: BoolArray, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Yield the deal at hand, then others in chunks: many at once would fill the memory."""
    yield current[None].astype(np.float64)
    random = np.random.default_rng(seed)
    chunk = max(1, min(CHUNK, CELLS // len(current)))
    for start in range(0, permutations, chunk):
        count = min(chunk, permutations - start)
        yield random.permuted(np.tile(current, (count, 1)), axis=1).astype(np.float64)
