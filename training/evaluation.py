"""Measure a candidate beside the baseline: the same rows, the same resamples, slice by slice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from deesc_model.scoring import BoolArray, FloatArray, level_confidence, predicted_levels
from training.assembly import origin
from training.candidates import Answer, Candidate
from training.config import Config
from training.corpus import CORPUS, Utterance
from training.dataset import both_views
from training.metrics import (
    Gold,
    Interval,
    Replicates,
    bootstrap_weights,
    calibration_by_chance,
    compute_metrics,
    confusion_matrix,
    gold_labels,
    intervals,
)
from training.robustness import measure_robustness

LENGTHS = ((1, 5), (6, 15), (16, 40), (41, 100_000))
"""Slices by length, in words, both ends included."""

HEADLINE = (
    "level_macro_f1",
    "level_qwk",
    "level_mae",
    "level_off_by_two",
    "level_ece",
    "level_heated_recall",
    "level_false_alarms",
    "level_coverage",
    "level_certain_error",
    "trigger_micro_f1",
    "trigger_macro_f1",
    "trigger_macro_ap",
    "signal_micro_f1",
    "signal_macro_f1",
    "signal_macro_ap",
)
"""The metrics shown first."""

SUMMARY = (
    "level_macro_f1",
    "level_qwk",
    "level_off_by_two",
    "trigger_micro_f1",
    "trigger_macro_f1",
    "signal_macro_f1",
)
"""The metrics that the README shows."""

SMALLEST_SLICE = 30
"""Slices of fewer rows are left out: their intervals say nothing."""


def evaluate(
    rows: Sequence[Utterance], model: Answer, baseline: Answer, config: Config
) -> dict[str, Any]:
    """Measure a model and the baseline on the same rows and the same resamples.

    Args:
        rows: Test rows: of the corpus, of public texts, or of both. Figures are of these rows
            with context; the same rows without is one of the slices.
        model: What is measured.
        baseline: What it is compared with.
        config: Says how often and with which seed to resample.

    Returns:
        A JSON-ready report: ``metrics``, ``baseline``, ``difference`` and ``slices`` map
        metric names to value and 95 % interval; ``level_ece_by_chance`` is what
        `calibration_by_chance` says; ``confusion`` is true by predicted level;
        ``small_slices`` has the rows of slices that are too small to measure. These are of
        the corpus; where there are public texts, ``public`` holds the same of them.
        ``robustness`` is what `measure_robustness` returns.
    """
    corpus = [row for row in rows if row.source == CORPUS]
    public = [row for row in rows if row.source != CORPUS]
    report = _evaluate(corpus, model, baseline, config)
    report["robustness"] = measure_robustness(
        corpus, lambda changed: predicted_levels(model(changed).scores)
    )
    if public:
        report["public"] = _evaluate(public, model, baseline, config)
    return report


def _evaluate(
    rows: Sequence[Utterance], model: Answer, baseline: Answer, config: Config
) -> dict[str, Any]:
    views = both_views(rows)
    gold, half = gold_labels(views), len(rows)
    groups = [origin(row)[0] for row in views]
    weights = bootstrap_weights(groups, config.bootstrap_samples, config.seed)
    mine, theirs = model(views), baseline(views)

    measure = partial(measure_rows, gold, weights)
    headline = np.arange(len(views)) < half
    my_figures, their_figures = measure(mine, headline), measure(theirs, headline)
    masks = slice_masks(views)
    small = {name: int(mask.sum()) for name, mask in masks.items() if mask.sum() < SMALLEST_SLICE}
    slices = {
        name: {
            "rows": int(mask.sum()),
            "conversations": len(set(compress(groups, mask))),
            "metrics": _headline(measure(mine, mask)),
            "baseline": _headline(measure(theirs, mask)),
        }
        for name, mask in masks.items()
        if name not in small
    }
    shown = mine.select(headline).scores
    confidence = level_confidence(shown.level, predicted_levels(shown))
    return {
        "rows": half,
        "conversations": len(set(groups)),
        "bootstrap_samples": config.bootstrap_samples,
        **paired_figures(my_figures, their_figures),
        "level_ece_by_chance": round(calibration_by_chance(confidence, config.seed), 5),
        "confusion": confusion_matrix(gold.levels[:half], shown).tolist(),
        "slices": slices,
        "small_slices": small,
    }


def paired_figures(mine: Replicates, theirs: Replicates) -> dict[str, Any]:
    """Return ``metrics``, ``baseline`` and the headline's ``difference`` of shared resamples."""
    differences = {name: mine[name] - theirs[name] for name in HEADLINE}
    return {
        "metrics": _json(intervals(mine)),
        "baseline": _json(intervals(theirs)),
        "difference": _json(intervals(differences)),
    }


def data_sets(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a report holds of the corpus and, if it has them, of public texts."""
    return {"corpus": report} | ({"public": report["public"]} if "public" in report else {})


def measure_rows(
    gold: Gold, weights: FloatArray, answers: Candidate, mask: BoolArray
) -> Replicates:
    """Return the metrics of some of the rows, and of their resamples."""
    chosen = Gold(gold.levels[mask], gold.triggers[mask], gold.signals[mask])
    scores = answers.select(mask).scores
    return compute_metrics(chosen, scores, answers.calibration, weights[:, mask])


def slice_masks(views: Sequence[Utterance]) -> dict[str, BoolArray]:
    """Return the rows of each slice; all but ``context=without`` are read with context.

    What is the same for all rows makes no slice.
    """
    half = len(views) // 2
    positions = np.arange(len(views))
    words = np.array([len(row.text.split()) for row in views])
    masks = {}
    if any(row.context for row in views):
        masks = {"context=without": positions >= half, "context=with": positions < half}
    for attribute in ("source", "speaker", "channel", "domain"):
        values = np.array([getattr(row, attribute) for row in views])
        found = sorted(set(values))
        for value in found if len(found) > 1 else ():
            masks[f"{attribute}={value}"] = (values == value) & (positions < half)
    for low, high in LENGTHS:
        name = f"words={low}-{high}" if high < LENGTHS[-1][1] else f"words={low}+"
        masks[name] = (words >= low) & (words <= high) & (positions < half)
    return {name: mask for name, mask in masks.items() if mask.any()}


def _headline(figures: Replicates) -> dict[str, dict[str, float]]:
    found = intervals(figures)
    return _json({name: found[name] for name in HEADLINE if name in found})


def _json(figures: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(value, 5) for key, value in asdict(interval).items()}
        for name, interval in figures.items()
    }
