"""Evaluate a bundle, checkpoint or baseline with one function.

python -m training.evaluate --bundle models/default --split test
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from deesc_model.bundle import default_bundle_path, read_bundle
from deesc_model.files import check_writable, open_output
from training.candidates import answer_with_bundle, fit_baseline, warn_of_other_data
from training.command import command_parser, errors_in_one_line
from training.config import add_config_arguments, read_config
from training.corpus import SPLITS
from training.dataset import load_dataset
from training.evaluation import evaluate
from training.report_tables import format_report

FLATTERED = {
    "train": "The model learned from these rows",
    "validation": "Thresholds and calibration were fitted to these rows",
}


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("evaluate", __doc__)
    add_config_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    what.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="instead of a bundle")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the whole report")
    options = parser.parse_args(arguments)
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
    if options.split in FLATTERED:
        print(f"{FLATTERED[options.split]}, so on others expect less.\n")
    print(format_report(report))
    if options.json:
        with open_output(options.json) as stream:
            json.dump(report, stream, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
