"""Evaluate a bundle, checkpoint or baseline with one function.

python -m training.evaluate --bundle models/default --split test
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deesc_model.bundle import Bundle, default_bundle_path, read_bundle
from deesc_model.encoding import InputEncoder
from deesc_model.errors import DeescError
from deesc_model.files import check_writable, open_output
from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.scoring import (
    BoolArray,
    Calibration,
    FloatArray,
    Logits,
    Scores,
    calibrated_scores,
    predicted_levels,
)
from training.baseline import LinearBaseline, TfidfFeatures
from training.calibration import fit_calibration
from training.config import Config, add_config_arguments, read_config
from training.corpus import CORPUS, SPLITS, Utterance, fingerprint
from training.dataset import load_dataset
from training.metrics import (
    Gold,
    Interval,
    Replicates,
    bootstrap_weights,
    compute_metrics,
    confusion_matrix,
    intervals,
)
from training.predict import onnx_runner, predict_logits
from training.robustness import measure_robustness, robustness_table

log = logging.getLogger("training")

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

SLICE_METRICS = ("level_macro_f1", "trigger_macro_f1")
"""The metrics that tables and pictures of slices show."""

SMALLEST_SLICE = 30
"""Slices of fewer rows are left out: their intervals say nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model's answers on one set of views: logits and the calibration that reads them."""

    logits: Logits
    calibration: Calibration

    @property
    def scores(self) -> Scores:
        """Calibrated scores of every row."""
        return calibrated_scores(self.logits, self.calibration)

    def select(self, mask: BoolArray) -> "Candidate":
        """Return the answers on some of the views."""
        parts = (self.logits.level, self.logits.triggers, self.logits.signals)
        return Candidate(Logits(*(part[mask] for part in parts)), self.calibration)


def gold_labels(rows: Sequence[Utterance]) -> Gold:
    """Return the true labels as arrays."""
    return Gold(
        levels=np.array([row.level for row in rows], dtype=np.int64),
        triggers=np.array([[name in row.triggers for name in TRIGGERS] for row in rows]),
        signals=np.array([[name in row.signals for name in SIGNALS] for row in rows]),
    )


def public_rows(rows: Sequence[Utterance]) -> BoolArray:
    """Return which rows are public texts, not of our corpus, bool (n,)."""
    return np.array([row.source != CORPUS for row in rows], dtype=bool)


def without_context(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return the same utterances as a caller without history would send them."""
    return [replace(row, context=()) for row in rows]


def both_views(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return every utterance with its context, then every utterance without."""
    return [*rows, *without_context(rows)]


Answer = Callable[[Sequence[Utterance]], Candidate]
"""A model: utterances in, its answers out, in the same order."""


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
        metric names to value and 95 % interval; ``confusion`` is true by predicted level;
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
    groups = [row.conversation_id for row in views]
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
            "metrics": _headline(measure(mine, mask)),
            "baseline": _headline(measure(theirs, mask)),
        }
        for name, mask in masks.items()
        if name not in small
    }
    return {
        "rows": half,
        "conversations": len(set(groups)),
        "bootstrap_samples": config.bootstrap_samples,
        **paired_figures(my_figures, their_figures),
        "confusion": confusion_matrix(gold.levels[:half], mine.select(headline).scores).tolist(),
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


def fit_baseline(splits: Mapping[str, Sequence[Utterance]], config: Config) -> Answer:
    """Train the baseline on the training split and calibrate it on validation, as the model is."""
    train, validation = splits["train"], both_views(splits["validation"])
    baseline = LinearBaseline(TfidfFeatures(config.context_turns)).fit(train, gold_labels(train))
    logits, gold = baseline.logits(validation), gold_labels(validation)
    calibration = fit_calibration(
        logits, gold, baseline.level_head, config.error_rate, public_rows(validation)
    )
    return lambda rows: Candidate(baseline.logits(rows), calibration)


def warn_of_other_data(bundle: Bundle, splits: Mapping[str, Sequence[Utterance]]) -> None:
    """Log that TF-IDF learns from other data than a bundle did, if so."""
    here = fingerprint(row for rows in splits.values() for row in rows)
    if bundle.manifest.data_fingerprint != here:
        log.warning(
            "%s was trained on other data than are here, where TF-IDF learns from %d utterances:"
            " the difference between the two is not the model's alone",
            bundle.manifest.model_version,
            len(splits["train"]),
        )


def answer_with_network(
    path: Path, encoder: InputEncoder, calibration: Calibration, batch_size: int
) -> Answer:
    """Return an exported network as a model to evaluate."""
    run, head = onnx_runner(path, encoder, batch_size), calibration.level_head
    return lambda rows: Candidate(predict_logits(rows, encoder, run, head), calibration)


def answer_with_bundle(folder: Path, config: Config) -> Answer:
    """Return a bundle, read with the calibration that it carries, as a model to evaluate."""
    bundle = read_bundle(folder)
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    return answer_with_network(
        bundle.model_path, encoder, bundle.config.calibration, config.evaluation_batch_size
    )


def format_report(report: Mapping[str, Any]) -> str:
    """Return the headline figures and the slices as Markdown tables."""
    text = (
        f"{report['rows']:,} utterances of {report['conversations']:,} conversations, with"
        f" context; 95 % bootstrap intervals by conversation.\n\n{headline_table(report)}\n\n"
        f"{slice_table(report)}\n\n### Robustness\nShare of changed texts whose level changes, or"
        f" changes the wrong way.\n\n{robustness_table(report['robustness'])}"
    )
    if public := report.get("public"):
        text += (
            f"\n\n### Public texts\n{public['rows']:,} real customers' texts, with the turns before"
            f" them where their source has them; 95 % bootstrap intervals.\n\n"
            f"{headline_table(public)}\n\n{slice_table(public)}"
        )
    return text


def summary_table(report: Mapping[str, Any]) -> str:
    """Return the few figures that a reader asks for first, with what the baseline lacks."""
    parts = {"our corpus": report} | (
        {"real customers' texts": report["public"]} if "public" in report else {}
    )
    columns = " | ".join(f"{name} | against TF-IDF" for name in parts)
    lines = [f"| metric | {columns} |", f"| --- |{' --- | --- |' * len(parts)}"]
    for metric in SUMMARY:
        cells = " | ".join(
            f"{figure_cell(part['metrics'], metric)}"
            f" | {figure_cell(part['difference'], metric, signed=True)}"
            for part in parts.values()
        )
        lines.append(f"| {metric} | {cells} |")
    return "\n".join(lines)


def headline_table(report: Mapping[str, Any]) -> str:
    """Return the headline figures of model and baseline as a Markdown table."""
    lines = ["| metric | model | TF-IDF baseline | difference |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {figure_cell(report['metrics'], name)}"
        f" | {figure_cell(report['baseline'], name)}"
        f" | {figure_cell(report['difference'], name, signed=True)} |"
        for name in HEADLINE
    ]
    return "\n".join(lines)


def slice_table(report: Mapping[str, Any]) -> str:
    """Return figures of each slice, the baseline's beside the model's, as a Markdown table."""
    names = " | ".join(f"{metric} | TF-IDF" for metric in SLICE_METRICS)
    lines = [f"| slice | rows | {names} |", f"| --- | ---: |{' --- | --- |' * len(SLICE_METRICS)}"]
    for name, part in report["slices"].items():
        cells = " | ".join(
            f"{figure_cell(part['metrics'], metric)} | {figure_cell(part['baseline'], metric)}"
            for metric in SLICE_METRICS
        )
        lines.append(f"| {name} | {part['rows']:,} | {cells} |")
    if report["small_slices"]:
        small = ", ".join(f"{name} ({rows})" for name, rows in report["small_slices"].items())
        lines += ["", f"Too few rows for a figure (under {SMALLEST_SLICE}): {small}."]
    return "\n".join(lines)


def figure_cell(figures: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
    """Return a figure with its interval, or a dash where there is none."""
    if name not in figures:
        return "–"
    value, low, high = (figures[name][key] for key in ("value", "low", "high"))
    sign = "+" if signed else ""
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _headline(figures: Replicates) -> dict[str, dict[str, float]]:
    found = intervals(figures)
    return _json({name: found[name] for name in HEADLINE if name in found})


def _json(figures: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(value, 5) for key, value in asdict(interval).items()}
        for name, interval in figures.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    what.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="instead of a bundle")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the whole report")
    options = parser.parse_args(arguments)
    try:
        if options.json:
            check_writable(options.json)
        config = read_config(options.config, options.overrides)
        splits = load_dataset(config)
        if options.checkpoint:
            from training.checkpoint import answer_with_checkpoint  # noqa: PLC0415 - torch

            model = answer_with_checkpoint(options.checkpoint, splits["validation"], config)
        else:
            model = answer_with_bundle(options.bundle, config)
            warn_of_other_data(read_bundle(options.bundle), splits)
        report = evaluate(splits[options.split], model, fit_baseline(splits, config), config)
        print(f"{options.checkpoint or options.bundle}, {options.split} split.\n")
        print(format_report(report))
        if options.json:
            with open_output(options.json) as stream:
                json.dump(report, stream, indent=1)
    except (DeescError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
