"""How well a model is expected to do on unlabelled rows, by its own calibrated scores.

Confidence-based performance estimation: a level that is given with a probability of 0.8 is right
in 80 of 100 rows, so the scores themselves say how many hits and misses to expect. **This assumes
that the calibration still holds.** If the meaning of words moves (concept drift) or texts are of a
kind that the model is too sure about, the estimate is too good, and only labels can tell.
Sources: NannyML, "Confidence-based Performance Estimation" (nannyml.readthedocs.io, how it works);
Guillory et al., "Predicting with Confidence on Unseen Distributions", 2021, on its limits.
"""

import numpy as np

from deesc_model.labels import TRIGGERS
from deesc_model.scoring import BoolArray, FloatArray, IntArray, Scores
from training.metrics import (
    LEVELS,
    Interval,
    Replicates,
    bootstrap_weights,
    confusion_metrics,
    f1_scores,
    intervals,
    nanmean,
)

EXPECTED = (
    "level_accuracy",
    "level_macro_f1",
    "level_qwk",
    "trigger_micro_f1",
    "trigger_macro_f1",
)
"""What is estimated."""
RESAMPLES = 500
CHUNK = 50

_CELLS = LEVELS * LEVELS


def expected_counts(scores: Scores, levels: IntArray, triggers: BoolArray) -> FloatArray:
    """Return what each row adds to the expected counts, shape (n, 58).

    Args:
        scores: Probabilities of the true labels; with ones and zeros for true labels that are
            known, what is expected is what is measured.
        levels: Given levels 0–4, int64 (n,).
        triggers: Given triggers, bool (n, 11).

    Returns:
        The level's confusion matrix (true by given, 25 cells), then for each trigger the hits,
        how often it is given, and its occurrences.
    """
    given = np.eye(LEVELS)[levels]
    confusion = scores.level[:, :, None] * given[:, None, :]
    chosen = triggers.astype(np.float64)
    parts = [confusion.reshape(-1, _CELLS), scores.triggers * chosen, chosen, scores.triggers]
    return np.hstack(parts)


def expected_metrics(counts: FloatArray) -> Replicates:
    """Return the `EXPECTED` metrics of sums of `expected_counts`, each of shape (len(counts),).

    F1 and kappa are taken of expected counts, which is close to their expectation for the
    hundreds of rows that a comparison needs.
    """
    level = confusion_metrics(counts[:, :_CELLS].reshape(-1, LEVELS, LEVELS))
    hits, given, true = counts[:, _CELLS:].reshape(-1, 3, len(TRIGGERS)).swapaxes(0, 1)
    metrics = level | {
        "trigger_micro_f1": f1_scores(hits.sum(1), true.sum(1), given.sum(1)),
        "trigger_macro_f1": nanmean(f1_scores(hits, true, given)),
    }
    return {name: metrics[name] for name in EXPECTED}


def expected_intervals(
    reference: FloatArray, current: FloatArray
) -> dict[str, dict[str, Interval]]:
    """Return each `EXPECTED` metric with 95 % intervals, conversations resampled.

    Args:
        reference: Sums of `expected_counts` by conversation, shape (conversations, 58).
        current: The same of the current set.

    Returns:
        By metric: ``"reference"``, ``"current"`` and ``"difference"`` (current less reference).
    """
    before, after = (
        expected_metrics(_resampled(sums, seed)) for seed, sums in enumerate((reference, current))
    )
    parts = {
        "reference": intervals(before),
        "current": intervals(after),
        "difference": intervals({name: after[name] - before[name] for name in EXPECTED}),
    }
    return {
        name: {part: found[name] for part, found in parts.items()}
        for name in EXPECTED
        if all(name in found for found in parts.values())
    }


def _resampled(sums: FloatArray, seed: int) -> FloatArray:
    """Return the sum over all conversations, then those over `RESAMPLES` draws of them."""
    names = [str(number) for number in range(len(sums))]
    parts = [  # the weights of all draws at once would fill the memory
        bootstrap_weights(names, CHUNK, seed * RESAMPLES + start) @ sums
        for start in range(0, RESAMPLES, CHUNK)
    ]
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
