"""The whole recipe: data → fine-tune → export → evaluate → bundle, tracked in MLflow.

python -m training.train
python -m training.train --config training/configs/smoke.toml --set epochs=2
python -m training.train --resume          go on after a kill
"""

import argparse
import csv
import json
import logging
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deesc_model.errors import DeescError
from deesc_model.labels import TRIGGERS, Level
from deesc_model.scoring import Scores, predicted_levels
from training.config import Config, add_config_arguments, read_config
from training.corpus import Utterance, fingerprint
from training.dataset import load_dataset
from training.evaluate import (
    Candidate,
    answer_with_network,
    both_views,
    evaluate,
    fit_baseline,
    format_report,
    gold_labels,
    public_rows,
)
from training.export import check_replaceable, export_network, write_bundle
from training.figures import draw_figures
from training.fine_tuning import fine_tune
from training.model import load_checkpoint
from training.model_card import model_card
from training.tracking import RUN_ID_FILE, Tracker

WORST_ERRORS = 100
"""Rows in the table of errors."""

log = logging.getLogger("training")


Learn = Callable[[Config, Sequence[Utterance], Sequence[Utterance], Tracker, Path], None]
"""A way to make a checkpoint of training and validation split, called as `fine_tune` is."""


def train(
    config: Config,
    *,
    resume: bool = False,
    learn: Learn = fine_tune,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Learn, export, evaluate and write the bundle.

    Args:
        config: The resolved configuration.
        resume: Go on with the run in `config.run_dir` instead of starting anew.
        learn: How the checkpoint is made.
        origins: Hashes of what it is made of beside the data, by name: tags of the MLflow run,
            and what must be the same to resume.

    Returns:
        The report of `evaluate` on the test split, also in ``run_dir/report.json``.

    Raises:
        DeescError: Data, configuration or export are wrong; the message says what.
    """
    run_dir, bundle_dir = Path(config.run_dir), Path(config.bundle_dir)
    check_replaceable(bundle_dir)
    splits = load_dataset(config)
    data = fingerprint([row for members in splits.values() for row in members])
    made_of = {"data": data, **(origins or {})}
    _prepare(run_dir, json.dumps({**asdict(config), **made_of}, indent=1), resume=resume)
    checkpoint = run_dir / "checkpoint"
    commit = git_commit()
    tags = {"git_commit": commit, "data_fingerprint": data, **(origins or {})}
    with Tracker(config, tags) as tracker:
        for split, members in splits.items():
            tracker.log_data(split, members)
        if not checkpoint.is_dir():
            log.info("learning from %d labelled utterances", len(splits["train"]))
            learn(config, splits["train"], splits["validation"], tracker, checkpoint)
        model, tokenizer, settings = load_checkpoint(checkpoint)
        log.info("exporting to ONNX")
        network = export_network(
            model,
            tokenizer,
            settings,
            both_views(splits["validation"]),
            bundle_dir.with_name(bundle_dir.name + ".partial"),
            quantization=config.quantization,
            error_rate=config.error_rate,
            batch_size=config.evaluation_batch_size,
        )
        log.info("evaluating on %d utterances", len(splits["test"]))
        answer = answer_with_network(
            network.path, network.encoder, network.calibration, config.evaluation_batch_size
        )
        report = evaluate(splits["test"], answer, fit_baseline(splits, config), config)
        _write_results(run_dir, splits["test"], answer(splits["test"]), report, tracker)
        origin = {
            "name": config.name,
            "base_model": config.base_model,
            "training_run": tracker.run_id,
            "git_commit": commit,
            "data_fingerprint": data,
        }
        card = model_card(report, origin, network.weights, splits)
        manifest = write_bundle(network, bundle_dir, report=report, card=card, origin=origin)
        tracker.log_bundle(bundle_dir)
    log.info("%s is in %s", manifest.model_version, bundle_dir)
    return report


def git_commit() -> str:
    """Return the checked-out commit, with ``+changes`` if the tree differs from it."""
    try:
        commit, status = (
            subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("+changes" if status.strip() else "")


def worst_errors(rows: Sequence[Utterance], scores: Scores) -> dict[str, list[Any]]:
    """Return the rows whose level is furthest from the score's expectation, worst first."""
    levels = np.array([row.level for row in rows])
    frustration = scores.level @ np.arange(len(Level))
    order = np.argsort(-np.abs(frustration - levels))[:WORST_ERRORS]
    predicted = predicted_levels(scores)
    return {
        "source": [rows[i].source for i in order],
        "text": [rows[i].text for i in order],
        "before": [rows[i].context[-1].text if rows[i].context else "" for i in order],
        "speaker": [rows[i].speaker for i in order],
        "level": [int(levels[i]) for i in order],
        "predicted_level": [int(predicted[i]) for i in order],
        "frustration": [round(float(frustration[i]), 3) for i in order],
        "triggers": [" ".join(rows[i].triggers) for i in order],
        "top_trigger": [TRIGGERS[int(scores.triggers[i].argmax())] for i in order],
        "top_trigger_score": [round(float(scores.triggers[i].max()), 3) for i in order],
        "turn": [f"{rows[i].conversation_id}#{rows[i].turn}" for i in order],
    }


def _prepare(run_dir: Path, state: str, *, resume: bool) -> None:
    """Make the run folder anew, or check that the unfinished run in it is this one.

    Raises:
        DeescError: `resume` was asked for and the folder holds a run of another
            configuration or of other data.
    """
    resolved = run_dir / "config.json"
    if resume and resolved.is_file():
        if resolved.read_text(encoding="utf-8") != state:
            raise DeescError(
                f"{resolved} belongs to another configuration or other data;"
                " start anew without --resume"
            )
        return
    for leftover in ("checkpoint", "trainer"):
        shutil.rmtree(run_dir / leftover, ignore_errors=True)
    (run_dir / RUN_ID_FILE).unlink(missing_ok=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    resolved.write_text(state, encoding="utf-8")


def _write_results(
    run_dir: Path,
    test: Sequence[Utterance],
    candidate: Candidate,
    report: Mapping[str, Any],
    tracker: Tracker,
) -> None:
    """Write report, figures and errors into the run folder, then send them to the tracker."""
    report_json, report_text = run_dir / "report.json", run_dir / "report.md"
    report_json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    report_text.write_text(format_report(report) + "\n", encoding="utf-8")
    public = public_rows(test)
    for name, mask in (("corpus", ~public), ("public", public)):
        if mask.any():
            rows = [row for row, kept in zip(test, mask, strict=True) if kept]
            title = f"{name} test split, {len(rows):,} utterances"
            scores, folder = candidate.select(mask).scores, run_dir / "figures" / name
            figures = draw_figures(gold_labels(rows), scores, candidate.calibration, title, folder)
            tracker.log_files(figures, f"figures/{name}")
    errors = worst_errors(test, candidate.scores)
    with (run_dir / "errors.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(errors)
        writer.writerows(zip(*errors.values(), strict=True))
    tracker.log_report(report, "test")
    if "public" in report:
        tracker.log_report(report["public"], "test_public")
    tracker.log_files([report_json, report_text], "report")
    tracker.log_errors(errors)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = run_parser("python -m training.train", __doc__).parse_args(arguments)
    return print_report(
        lambda: train(read_config(options.config, options.overrides), resume=options.resume)
    )


def run_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every command that makes a bundle has."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run")
    return parser


def print_report(make: Callable[[], dict[str, Any]]) -> int:
    """Make a report and print it, or what went wrong; return the exit code."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    # Hints for people at a notebook, about things that are meant here.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"mlflow\.|sklearn\.")
    try:
        report = make()
    except (DeescError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(format_report(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
