"""A bundle whose scores and thresholds fit your own labels: validation → calibration → bundle.

python -m training.recalibrate --bundle models/default --out runs/recalibrated
python -m training.recalibrate --set corpus=my_corpus    labels of your own, and none of ours

The network stays as it is, so it takes minutes and no torch: temperature and biases of the level,
Platt scaling and a threshold for each label, and when a level is uncertain, are fitted to the
validation split. Then the bundle is measured on the test split and written.
"""

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deesc_model.bundle import (
    CARD_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Bundle,
    default_bundle_path,
    read_bundle,
)
from deesc_model.encoding import InputEncoder
from deesc_model.scoring import Calibration
from training.bundle_writer import ExportedNetwork, check_replaceable, write_bundle
from training.calibration import fit_calibration
from training.candidates import answer_with_network, fit_baseline, warn_of_other_data
from training.command import command_parser, errors_in_one_line
from training.config import Config, add_config_arguments, is_ours, read_config
from training.corpus import fingerprint
from training.dataset import both_views, load_dataset, public_rows
from training.evaluation import evaluate
from training.metrics import gold_labels
from training.model_card import how_it_learned, model_card
from training.predict import onnx_runner, predict_logits
from training.progress import show_progress
from training.report_tables import format_report

log = logging.getLogger("training")


def recalibrate(bundle: Bundle, target: Path, config: Config) -> dict[str, Any]:
    """Write a bundle anew with a calibration fitted to the validation split.

    Args:
        bundle: Whose network is kept.
        target: The folder to write; may be the bundle's own.
        config: Names corpus, public texts and error rate.

    Returns:
        The report of `evaluate` on the test split.

    Raises:
        DeescError: The data are wrong, or the target holds something that is not a bundle.
    """
    target = target.resolve()
    check_replaceable(target)
    splits = load_dataset(config)
    warn_of_other_data(bundle, splits)
    encoder = InputEncoder.from_file(bundle.tokenizer_path, bundle.config.encoder)
    head, views = bundle.config.calibration.level_head, both_views(splits["validation"])
    log.info("calibrating on %d utterances", len(splits["validation"]))
    run = onnx_runner(bundle.model_path, encoder, config.evaluation_batch_size)
    calibration = fit_calibration(
        predict_logits(views, encoder, run, Calibration(head)),
        gold_labels(views),
        head,
        config.error_rate,
        public_rows(views),
    )
    log.info("evaluating on %d utterances", len(splits["test"]))
    answer = answer_with_network(
        bundle.model_path, encoder, calibration, config.evaluation_batch_size
    )
    report = evaluate(splits["test"], answer, fit_baseline(splits, config), config)
    manifest = bundle.manifest
    origin = {
        "name": manifest.name,
        "base_model": manifest.base_model,
        "training_run": manifest.training_run,
        "git_commit": manifest.git_commit,
        "data_fingerprint": manifest.data_fingerprint,
    }
    data = fingerprint(row for rows in splits.values() for row in rows)
    how, ours = _how(bundle, data), is_ours(config.corpus)
    card = model_card(
        report, origin, manifest.weights, splits, how, invented=ours, learned_before=True
    )
    staging = target.with_name(f"{target.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    shutil.copy(bundle.model_path, staging / MODEL_FILE)
    shutil.copy(bundle.tokenizer_path, staging / TOKENIZER_FILE)
    loss = bundle.metrics.get("quantization_loss", {})
    network = ExportedNetwork(staging / MODEL_FILE, manifest.weights, calibration, encoder, loss)
    written = write_bundle(network, target, report=report, card=card, origin=origin)
    log.info("%s is in %s", written.model_version, target)
    return report


def _how(bundle: Bundle, data: str) -> str:
    """Return how the network learned and what was done now, for the card."""
    before = bundle.path / CARD_FILE
    told = how_it_learned(before.read_text(encoding="utf-8")) if before.is_file() else ""
    told, *_ = told.partition("\n\nCalibrated anew: ")
    now = (
        "Calibrated anew: calibration, figures and the table above are of the data with sha256"
        f" {data}. The network is that of {bundle.manifest.model_version} and learned before, from"
        " the data named below."
    )
    return f"{told}\n\n{now}" if told else now


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("recalibrate", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/recalibrated"),
        metavar="FOLDER",
        help="a bundle that is there is replaced; default: %(default)s",
    )
    options = parser.parse_args(arguments)
    config = read_config(options.config, options.overrides)
    show_progress(logging.INFO)
    print(format_report(recalibrate(read_bundle(options.bundle), options.out, config)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
