"""The whole recipe: data → fine-tune → export → evaluate → bundle, tracked in MLflow.

python -m training.train
python -m training.train --config training/configs/smoke.toml --set epochs=2
python -m training.train --resume          go on after a kill
torchrun --standalone --nproc_per_node 2 -m training.train     share the fine-tuning
"""

import argparse
import csv
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deesc_model.bundle import Bundle
from deesc_model.errors import DeescError
from deesc_model.files import open_output
from training.bundle_writer import check_replaceable, write_bundle
from training.candidates import Candidate, answer_with_network, fit_baseline
from training.command import command_parser, errors_in_one_line
from training.config import Config, add_config_arguments, is_ours, read_config
from training.corpus import Utterance, fingerprint
from training.dataset import both_views, data_versions, load_dataset, public_rows
from training.errors import ErrorTable, worst_errors
from training.evaluation import evaluate
from training.export import export_network
from training.figures.evaluation import draw_pictures
from training.figures.picture import Picture, close_pictures, save_pictures
from training.fine_tuning import fine_tune
from training.model import load_checkpoint
from training.model_card import model_card
from training.pages.run_page import run_page
from training.processes import is_first, lost_another, part_ways, process_count, wait_for_all
from training.progress import show_progress
from training.report_figures import report_figures
from training.report_tables import format_report
from training.run_note import PAGE, run_note
from training.tracking import RUN_ID_FILE, Tracker
from training.unlabelled import load_unlabelled
from training.warm_start import bundle_to_start_from, start_origin

log = logging.getLogger("training")

COMMIT_FILE = "git_commit"
"""Which commit the run in a folder began at."""


FORMER = "checkpoint.old"
"""The checkpoint of the run before, in its folder, until the new one has learned."""

Learn = Callable[[Config, Sequence[Utterance], Sequence[Utterance], Tracker | None, Path], float]
"""A way to make a checkpoint of training and validation split, called as `fine_tune` is."""


def train(
    config: Config,
    *,
    resume: bool = False,
    child: bool = False,
    learn: Learn = fine_tune,
    how: str = "",
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Learn, export, evaluate, write the bundle and register it.

    Args:
        config: The resolved configuration.
        resume: Go on with the run in `config.run_dir` instead of starting anew.
        child: Whether the run is one of several below the MLflow run that is open; then its
            bundle is not registered.
        learn: How the checkpoint is made.
        how: The same in a sentence, for the model card; empty for that of `fine_tune`.
        origins: Hashes of what it is made of beside the data, by name: tags of the MLflow run,
            and what must be the same to resume.

    Returns:
        The report of `evaluate` on the test split, also in ``run_dir/report.json``.

    Raises:
        DeescError: Data, configuration or export are wrong; the message says what.
    """
    if config.teachers and learn is fine_tune:
        raise DeescError("the configuration names teachers: python -m training.distil distils them")
    run_dir, bundle_dir = Path(config.run_dir), Path(config.bundle_dir).resolve()
    check_replaceable(bundle_dir)
    start = None if config.teachers else bundle_to_start_from(config)
    splits = load_dataset(config)
    data = fingerprint([row for members in splits.values() for row in members])
    origins = {**_vocabulary_origin(config), **start_origin(start), **(origins or {})}
    made_of = {"data": data, **origins}
    if start:
        made_of["pretrained"] = start.manifest.base_model
    _prepare(run_dir, json.dumps({**asdict(config), **made_of}, indent=1), resume=resume)
    checkpoint = run_dir / "checkpoint"
    commit = _learned_at(run_dir)
    tags = {
        "git_commit": commit,
        "data_fingerprint": data,
        "processes": str(process_count()),
        **origins,
    }
    with Tracker(config, tags, child=child) as tracker:
        for split, members in splits.items():
            tracker.log_data(split, members)
        wait_for_all()  # the others begin here, see take_part
        if checkpoint.is_dir():
            part_ways()
        else:
            log.info("learning from %d labelled utterances", len(splits["train"]))
            learn(config, splits["train"], splits["validation"], tracker, checkpoint)
        shutil.rmtree(run_dir / FORMER, ignore_errors=True)
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
        candidate = answer(splits["test"])
        worst = worst_errors(splits["test"], candidate.scores)
        _write_tables(run_dir, report, worst, tracker)
        origin = {
            "name": config.name,
            "base_model": start.manifest.base_model if start else config.base_model,
            "training_run": tracker.run_id,
            "git_commit": commit,
            "data_fingerprint": data,
        }
        card = model_card(
            report,
            origin,
            network.weights,
            splits,
            how or _how(start),
            invented=is_ours(config.corpus),
            learned_before=bool(start or config.teachers),
        )
        manifest = write_bundle(network, bundle_dir, report=report, card=card, origin=origin)
        pictures = _draw(run_dir, splits["test"], candidate, report, tracker)
        facts = {"model_version": manifest.model_version, "weights": manifest.weights, **origin}
        page = run_dir / PAGE
        page.parent.mkdir(exist_ok=True)
        with open_output(page) as stream:
            stream.write(run_page(report, pictures, worst, facts, data_versions(splits), config))
        close_pictures(picture for part in pictures.values() for picture in part)
        tracker.log_files([page], page.parent.name)
        tracker.log_note(run_note(report, manifest.model_version))
        if not child:
            tracker.log_bundle(bundle_dir)
    log.info("%s is in %s", manifest.model_version, bundle_dir)
    return report


def _how(start: Bundle | None) -> str:
    """Return how `fine_tune` made the model, for its card."""
    began = f", beginning as {start.manifest.model_version}" if start else ""
    return f"Fine-tuned on the training split{began}."


def _vocabulary_origin(config: Config) -> dict[str, str]:
    """Return the hash of the unlabelled texts if word pieces are counted in them."""
    if not config.vocabulary_count:
        return {}
    sources, annotations = Path(config.sources), Path(config.annotations)
    unlabelled = load_unlabelled(sources, annotations, held_out=config.held_out_source)
    return {"unlabelled_fingerprint": fingerprint(unlabelled)}


def take_part(config: Config) -> None:
    """Do this process's share of the fine-tuning; `train` runs in the first process.

    Raises:
        DeescError: The data cannot be read or the base model cannot be loaded.
    """
    wait_for_all()  # until the first has checked the data and prepared the run folder
    checkpoint = Path(config.run_dir) / "checkpoint"
    if checkpoint.is_dir():
        part_ways()
        return
    splits = load_dataset(config)
    fine_tune(config, splits["train"], splits["validation"], None, checkpoint)


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


def _learned_at(run_dir: Path) -> str:
    """Return the commit that a run began at, and the one that is checked out if it is another."""
    file, here = run_dir / COMMIT_FILE, git_commit()
    if not file.is_file():
        file.write_text(here, encoding="utf-8")
    begun = file.read_text(encoding="utf-8")
    return begun if begun == here else f"{begun}, resumed at {here}"


def _prepare(run_dir: Path, state: str, *, resume: bool) -> None:
    """Make the run folder anew, or check that the unfinished run in it is this one.

    What an earlier run learned there is kept as `FORMER` until the new one has learned: a mistyped
    setting shows after this.

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
    if (run_dir / "checkpoint").is_dir():
        shutil.rmtree(run_dir / FORMER, ignore_errors=True)
        (run_dir / "checkpoint").rename(run_dir / FORMER)
    shutil.rmtree(run_dir / "trainer", ignore_errors=True)
    for leftover in (RUN_ID_FILE, COMMIT_FILE):
        (run_dir / leftover).unlink(missing_ok=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    resolved.write_text(state, encoding="utf-8")


def _write_tables(
    run_dir: Path, report: Mapping[str, Any], worst: ErrorTable, tracker: Tracker
) -> None:
    """Write report and errors into the run folder, and send them to the tracker."""
    report_json, report_text = run_dir / "report.json", run_dir / "report.md"
    report_json.write_text(json.dumps(report, indent=1), encoding="utf-8")
    report_text.write_text(format_report(report) + "\n", encoding="utf-8")
    with (run_dir / "errors.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(worst)
        writer.writerows(zip(*worst.values(), strict=True))
    for prefix, part in (("test", report), ("test_public", report.get("public"))):
        if part:
            tracker.log_figures(report_figures(part, prefix))
    tracker.log_files([report_json, report_text], "report")
    tracker.log_table(worst, "errors.json")


def _draw(
    run_dir: Path,
    test: Sequence[Utterance],
    candidate: Candidate,
    report: Mapping[str, Any],
    tracker: Tracker,
) -> dict[str, list[Picture]]:
    """Draw corpus and public texts, write the pictures and send them to the tracker."""
    public = public_rows(test)
    pictures = {}
    for name, mask in (("corpus", ~public), ("public", public)):
        if mask.any():
            rows = [row for row, kept in zip(test, mask, strict=True) if kept]
            chosen, part = candidate.select(mask), report if name == "corpus" else report["public"]
            pictures[name] = draw_pictures(rows, chosen.scores, chosen.calibration, part)
            title = f"{name}, test split, {len(rows):,} utterances"
            files = save_pictures(pictures[name], run_dir / "figures" / name, title)
            tracker.log_files(files, f"figures/{name}")
    return pictures


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = run_parser("train", __doc__).parse_args(arguments)

    def make() -> dict[str, Any] | None:
        config = read_config(options.config, options.overrides)
        return train(config, resume=options.resume) if is_first() else take_part(config)

    return print_report(make)


def run_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every command that makes a bundle has."""
    parser = command_parser(name, description)
    add_config_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run")
    return parser


def print_report(make: Callable[[], dict[str, Any] | None]) -> int:
    """Make a report and print it if there is one; return the exit code.

    That another process was lost is said in a line; other errors are for `errors_in_one_line`.
    """
    show_progress(logging.INFO if is_first() else logging.WARNING)
    try:
        report = make()
    except RuntimeError as error:
        if not lost_another(error):
            raise
        print(
            f"another of the {process_count()} processes was killed or failed; torchrun says"
            " which. Go on with --resume",
            file=sys.stderr,
        )
        return 1
    if report is not None:
        print(format_report(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
