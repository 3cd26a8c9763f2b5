"""Evaluate a bundle, checkpoint or baseline with one function.

python -m training.evaluate --bundle models/default --split test
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from deesc_model.bundle import Bundle, default_bundle_path, read_bundle
from deesc_model.encoding import InputEncoder
from deesc_model.errors import DeescError
from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.scoring import BoolArray, Calibration, Logits, Scores, calibrated_scores
from training.baseline import TfidfBaseline
from training.calibration import fit_calibration
from training.config import Config, add_config_arguments, read_config
from training.corpus import SPLITS, Utterance, load_corpus, select_split
from training.metrics import (
    Gold,
    Interval,
    bootstrap_weights,
    compute_metrics,
    confusion_matrix,
    intervals,
)
from training.model import load_checkpoint
from training.predict import checkpoint_runner, onnx_runner, predict_logits

LENGTHS = ((1, 5), (6, 15), (16, 40), (41, 100_000))
"""Slices by length, in words, both ends included."""

HEADLINE = (
    "level_macro_f1",
    "level_qwk",
    "level_mae",
    "level_off_by_two",
    "level_ece",
    "trigger_micro_f1",
    "trigger_macro_f1",
    "trigger_macro_ap",
    "signal_micro_f1",
    "signal_macro_f1",
    "signal_macro_ap",
)
"""The metrics shown first."""

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


def gold_labels(rows: Sequence[Utterance]) -> Gold:
    """Return the true labels as arrays."""
    return Gold(
        levels=np.array([row.level for row in rows], dtype=np.int64),
        triggers=np.array([[name in row.triggers for name in TRIGGERS] for row in rows]),
        signals=np.array([[name in row.signals for name in SIGNALS] for row in rows]),
    )


def without_context(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return the same utterances as a caller without history would send them."""
    return [replace(row, context=()) for row in rows]


def both_views(rows: Sequence[Utterance]) -> list[Utterance]:
    """Return every utterance with its context, then every utterance without."""
    return [*rows, *without_context(rows)]


def evaluate(
    views: Sequence[Utterance],
    model: Candidate,
    baseline: Candidate,
    *,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """Measure a model and the baseline on the same rows and the same resamples.

    Args:
        views: What `both_views` returns. Figures are of the first half (with context); the
            second half is one of the slices.
        model: The model's answers on `views`.
        baseline: The baseline's answers on `views`.
        samples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        A JSON-ready report: ``metrics``, ``baseline``, ``difference`` and ``slices`` map
        metric names to value and 95 % interval; ``confusion`` is true by predicted level;
        ``small_slices`` has the rows of slices that are too small to measure.
    """
    gold = gold_labels(views)
    half = len(views) // 2
    headline = np.arange(len(views)) < half
    weights = bootstrap_weights([row.conversation_id for row in views], samples, seed)
    scores, baseline_scores = model.scores, baseline.scores

    def measure(mask: BoolArray, which: Scores, calibration: Calibration) -> dict[str, Any]:
        return compute_metrics(
            Gold(gold.levels[mask], gold.triggers[mask], gold.signals[mask]),
            Scores(which.level[mask], which.triggers[mask], which.signals[mask]),
            calibration,
            weights[:, mask],
        )

    mine = measure(headline, scores, model.calibration)
    theirs = measure(headline, baseline_scores, baseline.calibration)
    slices = {}
    masks = slice_masks(views)
    small = {name: int(mask.sum()) for name, mask in masks.items() if mask.sum() < SMALLEST_SLICE}
    for name, mask in masks.items():
        if name in small:
            continue
        found = intervals(measure(mask, scores, model.calibration))
        against = intervals(measure(mask, baseline_scores, baseline.calibration))
        slices[name] = {
            "rows": int(mask.sum()),
            "metrics": _json({key: found[key] for key in HEADLINE if key in found}),
            "baseline": _json({key: against[key] for key in HEADLINE if key in against}),
        }
    first_half = Scores(scores.level[:half], scores.triggers[:half], scores.signals[:half])
    return {
        "rows": half,
        "conversations": len({row.conversation_id for row in views}),
        "bootstrap_samples": samples,
        "metrics": _json(intervals(mine)),
        "baseline": _json(intervals(theirs)),
        "difference": _json(intervals({key: mine[key] - theirs[key] for key in HEADLINE})),
        "confusion": confusion_matrix(gold.levels[:half], first_half).tolist(),
        "slices": slices,
        "small_slices": small,
    }


def slice_masks(views: Sequence[Utterance]) -> dict[str, BoolArray]:
    """Return the rows of each slice; all but ``context=without`` are read with context."""
    half = len(views) // 2
    positions = np.arange(len(views))
    words = np.array([len(row.text.split()) for row in views])
    masks = {"context=without": positions >= half, "context=with": positions < half}
    for attribute in ("speaker", "channel", "domain"):
        values = np.array([getattr(row, attribute) for row in views])
        for value in sorted(set(values)):
            masks[f"{attribute}={value}"] = (values == value) & (positions < half)
    for low, high in LENGTHS:
        name = f"words={low}-{high}" if high < LENGTHS[-1][1] else f"words={low}+"
        masks[name] = (words >= low) & (words <= high) & (positions < half)
    return {name: mask for name, mask in masks.items() if mask.any()}


def fit_baseline(rows: Sequence[Utterance], config: Config) -> tuple[TfidfBaseline, Calibration]:
    """Train the baseline on the training split and calibrate it on validation, as the model is."""
    train = select_split(rows, "train", config.max_conversations)
    validation = both_views(select_split(rows, "validation", config.max_conversations))
    baseline = TfidfBaseline(config.context_turns).fit(train, gold_labels(train))
    logits = baseline.logits(validation)
    return baseline, fit_calibration(logits, gold_labels(validation), baseline.level_head)


def bundle_candidate(bundle: Bundle, views: Sequence[Utterance], batch_size: int) -> Candidate:
    """Return a bundle's answers, read with the calibration that it carries."""
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    calibration = bundle.config.calibration
    run = onnx_runner(bundle.model_path, encoder, batch_size)
    return Candidate(predict_logits(views, encoder, run, calibration.level_head), calibration)


def checkpoint_candidate(
    folder: Path, validation: Sequence[Utterance], views: Sequence[Utterance], batch_size: int
) -> Candidate:
    """Return a checkpoint's answers, calibrated on the views of the validation split."""
    model, tokenizer, settings = load_checkpoint(folder)
    encoder = InputEncoder(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), settings)
    run = checkpoint_runner(model, encoder, batch_size)
    fitted = predict_logits(validation, encoder, run, model.level_head)
    calibration = fit_calibration(fitted, gold_labels(validation), model.level_head)
    return Candidate(predict_logits(views, encoder, run, model.level_head), calibration)


def format_report(report: Mapping[str, Any]) -> str:
    """Return the headline figures and the slices as Markdown tables."""
    return (
        f"{report['rows']:,} utterances of {report['conversations']:,} conversations, with"
        f" context; 95 % bootstrap intervals by conversation.\n\n{headline_table(report)}\n\n"
        f"{slice_table(report)}"
    )


def headline_table(report: Mapping[str, Any]) -> str:
    """Return the headline figures of model and baseline as a Markdown table."""
    lines = ["| metric | model | TF-IDF baseline | difference |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {_cell(report['metrics'], name)} | {_cell(report['baseline'], name)}"
        f" | {_cell(report['difference'], name, signed=True)} |"
        for name in HEADLINE
    ]
    return "\n".join(lines)


def slice_table(report: Mapping[str, Any]) -> str:
    """Return figures of each slice, the baseline's beside the model's, as a Markdown table."""
    columns = ("level_macro_f1", "trigger_macro_f1")
    names = " | ".join(f"{column} | TF-IDF" for column in columns)
    lines = [f"| slice | rows | {names} |", f"| --- | ---: |{' --- | --- |' * len(columns)}"]
    for name, part in report["slices"].items():
        cells = " | ".join(
            f"{_cell(part['metrics'], column)} | {_cell(part['baseline'], column)}"
            for column in columns
        )
        lines.append(f"| {name} | {part['rows']:,} | {cells} |")
    if report["small_slices"]:
        small = ", ".join(f"{name} ({rows})" for name, rows in report["small_slices"].items())
        lines += ["", f"Too few rows for a figure (under {SMALLEST_SLICE}): {small}."]
    return "\n".join(lines)


def _cell(figures: Mapping[str, Any], name: str, *, signed: bool = False) -> str:
    if name not in figures:
        return "–"
    value, low, high = (figures[name][key] for key in ("value", "low", "high"))
    sign = "+" if signed else ""
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


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
        config = read_config(options.config, options.overrides)
        corpus = load_corpus(Path(config.corpus))
        views = both_views(select_split(corpus, options.split, config.max_conversations))
        batch_size = config.evaluation_batch_size
        if options.checkpoint:
            validation = select_split(corpus, "validation", config.max_conversations)
            model = checkpoint_candidate(
                options.checkpoint, both_views(validation), views, batch_size
            )
        else:
            model = bundle_candidate(read_bundle(options.bundle), views, batch_size)
        baseline, calibration = fit_baseline(corpus, config)
        report = evaluate(
            views,
            model,
            Candidate(baseline.logits(views), calibration),
            samples=config.bootstrap_samples,
            seed=config.seed,
        )
    except DeescError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.checkpoint or options.bundle}, {options.split} split.\n")
    print(format_report(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
