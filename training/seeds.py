"""Train one configuration with several seeds, to see how much chance there is in its figures.

python -m training.seeds --seeds 3
python -m training.seeds --seeds 3 --resume          go on after a kill; more seeds may be asked for

The runs are children of one run in MLflow, which holds mean and standard deviation of each
headline figure. Seeds count up from the configuration's. A run and its bundle are in
``run_dir/seeds/SEED``; no bundle is registered.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from deesc_model.errors import DeescError
from deesc_model.files import open_output
from training.command import command_parser, errors_in_one_line
from training.config import Config, ConfigError, add_config_arguments, read_config
from training.corpus import fingerprint
from training.dataset import load_dataset
from training.descriptions import EVALUATED
from training.evaluation import HEADLINE, data_sets
from training.processes import refuse_several
from training.progress import show_progress
from training.tracking import RUN_ID_FILE, Tracker, settings
from training.train import git_commit, train
from training.warm_start import bundle_to_start_from, start_origin

FEWEST = 2
"""Fewer seeds have no standard deviation."""

Figures = dict[str, dict[str, float]]
"""Headline figures by data set, ``"test"`` and perhaps ``"test_public"``, and by metric."""


def train_seeds(config: Config, seeds: int, *, resume: bool = False) -> dict[int, Figures]:
    """Train with each seed, and log mean and standard deviation to a run above all of them.

    Args:
        config: The first seed's configuration.
        seeds: How many seeds, 2 or more.
        resume: Go on with what is in ``run_dir/seeds`` instead of starting anew.

    Returns:
        The headline figures of each seed, also in ``run_dir/seeds/seeds.json``.

    Raises:
        DeescError: Too few seeds, `resume` with another configuration or other data, or what
            `train` raises.
    """
    refuse_several("seeds are trained one after the other")
    if seeds < FEWEST:
        raise ConfigError(f"--seeds must be {FEWEST} or more, not {seeds}")
    folder = Path(config.run_dir) / "seeds"
    folder.mkdir(parents=True, exist_ok=True)
    splits = load_dataset(config)
    data = fingerprint([row for members in splits.values() for row in members])
    shared = {key: value for key, value in settings(config).items() if key != "seed"}
    state = {**shared, "data": data, **start_origin(bundle_to_start_from(config))}
    state = json.loads(json.dumps(state))  # as it is read again: with lists for tuples
    done = _read_done(folder, state, resume=resume)
    _write_done(folder, state, done)
    own = replace(config, run_name=f"{config.run_name}, seeds", run_dir=str(folder))
    with Tracker(own, {"git_commit": git_commit(), "data_fingerprint": data}, shared) as tracker:
        for seed in range(config.seed, config.seed + seeds):
            if seed not in done:
                report = train(_of_seed(config, seed, folder), resume=resume, child=True)
                done[seed] = headline_figures(report)
                _write_done(folder, state, done)
        tracker.log_figures({"seeds": float(len(done)), **spread(done)})
        table = folder / "seeds.md"
        table.write_text(format_seeds(done) + "\n", encoding="utf-8")
        tracker.log_files([table], "report")
        tracker.log_note(format_seeds(done))
    return done


def headline_figures(report: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figures:
    """Return the headline figures of a report."""
    prefixes = {"corpus": "test", "public": "test_public"}
    return {
        prefixes[name]: {
            metric: part["metrics"][metric]["value"]
            for metric in HEADLINE
            if metric in part["metrics"]
        }
        for name, part in data_sets(report).items()
    }


def spread(done: Mapping[int, Figures]) -> dict[str, float]:
    """Return mean and standard deviation (n - 1) of each figure that every seed has."""
    found = {}
    for prefix, metric, values in _values(done):
        found[f"{prefix}_seeds/{metric}_mean"] = float(values.mean())
        found[f"{prefix}_seeds/{metric}_std"] = float(values.std(ddof=1))
    return found


def format_seeds(done: Mapping[int, Figures]) -> str:
    """Return mean, standard deviation and each seed's figures as a Markdown table."""
    seeds = sorted(done)
    columns = " | ".join(f"seed {seed}" for seed in seeds)
    lines = [
        f"{len(seeds)} runs that differ in their seed alone. Two configurations whose means are"
        " closer than about twice the standard deviation may differ by chance.",
        "",
        f"| figure | in plain words | mean | standard deviation | {columns} |",
        f"| --- | --- | ---: | ---: |{' ---: |' * len(seeds)}",
    ]
    for prefix, metric, values in _values(done):
        each = " | ".join(f"{value:.3f}" for value in values)
        lines.append(
            f"| `{prefix}/{metric}` | {EVALUATED[metric].words} | {values.mean():.3f}"
            f" | {values.std(ddof=1):.3f} | {each} |"
        )
    return "\n".join(lines)


def _values(done: Mapping[int, Figures]) -> list[tuple[str, str, np.ndarray]]:
    seeds = sorted(done)
    first = done[seeds[0]]
    return [
        (prefix, metric, np.array([done[seed][prefix][metric] for seed in seeds]))
        for prefix, metrics in first.items()
        for metric in metrics
        if all(metric in done[seed][prefix] for seed in seeds)
    ]


def _of_seed(config: Config, seed: int, folder: Path) -> Config:
    run_dir = folder / str(seed)
    return replace(
        config,
        seed=seed,
        run_name=f"{config.run_name}, seed {seed}",
        run_dir=str(run_dir),
        bundle_dir=str(run_dir / "bundle"),
    )


def _read_done(folder: Path, state: Mapping[str, object], *, resume: bool) -> dict[int, Figures]:
    """Return the seeds that are trained.

    Raises:
        DeescError: `resume` was asked for, and they are of another configuration or other data.
    """
    file = folder / "seeds.json"
    if not resume:
        for earlier in folder.glob("*/config.json"):  # so that no resumed seed goes on with it
            earlier.unlink()
        file.unlink(missing_ok=True)
        (folder / RUN_ID_FILE).unlink(missing_ok=True)
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if found["state"] != state:
        raise DeescError(
            f"{file} belongs to another configuration or other data; start anew without --resume"
        )
    return {int(seed): figures for seed, figures in found["seeds"].items()}


def _write_done(folder: Path, state: Mapping[str, object], done: Mapping[int, Figures]) -> None:
    with open_output(folder / "seeds.json") as stream:
        json.dump({"state": state, "seeds": done}, stream, indent=1)


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("seeds", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--seeds", type=int, default=3, help="how many; 3, if not given")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished runs")
    options = parser.parse_args(arguments)
    show_progress()
    config = read_config(options.config, options.overrides)
    done = train_seeds(config, options.seeds, resume=options.resume)
    print(format_seeds(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
