"""Data checks → train → evaluate → export → gate → champion; exit 0 passed, 3 refused, 1 error.

python -m training.retrain
python -m training.retrain --config training/configs/student.toml     distil instead of fine-tuning
python -m training.retrain --resume          go on after a kill
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from deesc_model.bundle import read_bundle
from deesc_model.errors import DeescError
from training import data
from training.command import command_parser, errors_in_one_line
from training.config import Config, add_config_arguments, read_config
from training.corpus import DataError
from training.distil import distil
from training.gate import REFUSED, run_gate
from training.gates import DEFAULT_GATES, Gates, read_gates
from training.processes import process_count
from training.progress import show_progress
from training.registry import Registry
from training.tracking import register_bundle
from training.train import train


def retrain(config: Config, gates: Gates, *, resume: bool = False) -> bool:
    """Train a challenger, or distil it from the teachers that the configuration names.

    If it passes the gate, it becomes the champion.

    Returns:
        Whether it passed. A bundle that MLflow missed while it was away is registered here.

    Raises:
        DeescError: Data, configuration or export are wrong, or the registry does not answer
            when the gate or the alias needs it; `resume` then goes on. Or torchrun started
            several processes.
    """
    if process_count() > 1:
        raise DeescError(
            "several processes can train, and one judges: torchrun … -m training.train,"
            " then python -m training.retrain --resume"
        )
    if data.main(["check", "--corpus", config.corpus]):
        raise DataError(f"{config.corpus} has faults, listed above; nothing was trained")
    make = distil if config.teachers else train
    make(config, resume=resume)
    bundle_dir = Path(config.bundle_dir)
    if not run_gate(bundle_dir, gates, config):
        return False
    registry = Registry(config)
    model_version = read_bundle(bundle_dir).manifest.model_version
    version = registry.find(model_version) or register_bundle(bundle_dir, config)
    move = registry.promote(version, f"{model_version} passed the gate", "gate")
    print(f"champion: version {move.after}, before {move.before or 'none'}")
    return True


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("retrain", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--gates", type=Path, default=DEFAULT_GATES, metavar="FILE")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run")
    options = parser.parse_args(arguments)
    show_progress()
    config = read_config(options.config, options.overrides)
    passed = retrain(config, read_gates(options.gates), resume=options.resume)
    return 0 if passed else REFUSED


if __name__ == "__main__":
    sys.exit(main())
