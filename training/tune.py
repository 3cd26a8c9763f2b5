"""Search for settings: each trial fine-tunes with others, and validation says which are best.

python -m training.tune --trials 20
python -m training.tune --trials 20 --resume          go on after a kill; more may be asked for

What is searched stands in training/configs/search.toml; all else comes from the configuration.
Trials are children of one run in MLflow. A trial's figure is the one that selects its best epoch:
the mean of the level's macro-F1 and the triggers' average precision on validation. Nothing is
exported, and the test split is not looked at. The best settings are in ``run_dir/tune/best.toml``,
a file for ``--config``.

Source: Optuna (Akiba et al., 2019), with its tree-structured Parzen estimator (Bergstra et al.,
"Algorithms for Hyper-Parameter Optimization", 2011).
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_type_hints

import optuna
from optuna.trial import FrozenTrial, TrialState

from deesc_model.errors import DeescError
from deesc_model.files import open_output
from training.command import command_parser, errors_in_one_line
from training.config import (
    Config,
    ConfigError,
    add_config_arguments,
    check_types,
    read_config,
    read_toml,
)
from training.corpus import Utterance, fingerprint
from training.dataset import load_dataset
from training.fine_tuning import fine_tune
from training.processes import refuse_several
from training.progress import show_progress
from training.tracking import BOOKKEEPING, RUN_ID_FILE, Tracker, settings
from training.train import git_commit
from training.warm_start import bundle_to_start_from, start_origin

DEFAULT_SEARCH = Path(__file__).with_name("configs") / "search.toml"

Search = dict[str, dict[str, Any]]
"""By key of the configuration: ``low``, ``high`` and ``log``, or ``choices``."""

Splits = Mapping[str, Sequence[Utterance]]


def read_search(path: Path, config: Config) -> Search:
    """Read what is to be searched.

    Args:
        path: A TOML file as training/configs/search.toml.
        config: What every value must fit into.

    Raises:
        ConfigError: The file, a key or a value cannot be used.
    """
    hints = get_type_hints(Config)
    found: Search = {}
    for key, given in read_toml(path).items():
        where = f"{path}: [{key}]"
        if key not in hints or key in BOOKKEEPING:
            raise ConfigError(f"{where} is no setting of a model, see training/config.py")
        names = set(given) if isinstance(given, dict) else set()
        if names == {"choices"} and isinstance(given["choices"], list) and given["choices"]:
            values, spec = given["choices"], dict(given)
        elif {"low", "high"} <= names <= {"low", "high", "log"} and hints[key] in {int, float}:
            values, spec = [given["low"], given["high"]], {"log": False, **given}
        else:
            raise ConfigError(f"{where} needs choices, or low and high of a number, perhaps log")
        checked = [check_types({key: value}, hints, where) for value in values]
        for value in checked:
            replace(config, **value)
        if "low" in spec and (spec["low"] >= spec["high"] or (spec["log"] and spec["low"] <= 0)):
            raise ConfigError(f"{where} needs low below high, and above 0 with log")
        found[key] = spec
    if not found:
        raise ConfigError(f"{path} names nothing to search")
    return found


def tune(config: Config, search: Search, trials: int, *, resume: bool = False) -> optuna.Study:
    """Run trials until so many are complete, and write down the best settings.

    Args:
        config: Everything that is not searched.
        search: What is searched.
        trials: How many complete trials there should be, 1 or more.
        resume: Go on with the study in ``run_dir/tune``; a trial that was cut short is taken up
            at its last whole epoch.

    Raises:
        DeescError: The configuration names teachers, `resume` with another configuration, search
            or data, or what `fine_tune` raises.
    """
    refuse_several("trials run one after the other")
    if config.teachers:
        raise ConfigError("the configuration names teachers; trials fine-tune, none distils")
    if trials < 1:
        raise ConfigError(f"--trials must be 1 or more, not {trials}")
    folder = Path(config.run_dir) / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    splits = load_dataset(config)
    data = fingerprint([row for members in splits.values() for row in members])
    state = {**settings(config), "search": search, "data": data}
    state |= start_origin(bundle_to_start_from(config))
    study = _open_study(folder, state, resume=resume)
    tags = {"git_commit": git_commit(), "data_fingerprint": data}
    own = replace(config, run_name=f"{config.run_name}, trials", run_dir=str(folder))
    searched = {f"search_{key}": json.dumps(spec) for key, spec in search.items()}
    fixed = {key: value for key, value in settings(config).items() if key not in search}
    with Tracker(own, tags, {**fixed, **searched}) as tracker:
        for split in ("train", "validation"):
            tracker.log_data(split, splits[split])
        while len(_complete(study)) < trials:
            # A seed of its own for each: one sampler that begins anew would repeat itself.
            study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
            trial = study.ask()
            changes = {key: _suggest(trial, key, spec) for key, spec in search.items()}
            study.tell(trial, _run_trial(config, changes, len(_complete(study)), splits, tags))
        tracker.log_figures(
            {"trials": float(len(_complete(study))), "best_selection": study.best_value}
        )
        _write_best(replace(config, **study.best_params), folder / "best.toml")
        with open_output(folder / "tune.md") as stream:
            stream.write(format_trials(study) + "\n")
        tracker.log_files([folder / "best.toml", folder / "tune.md"], "report")
        tracker.log_note(format_trials(study))
    return study


def format_trials(study: optuna.Study) -> str:
    """Return the complete trials as a Markdown table, the best first."""
    ranked = sorted(_complete(study), key=lambda trial: -trial.values[0])
    names = list(ranked[0].params)
    lines = [
        f"{len(ranked)} trials, judged on validation: the mean of the level's macro-F1 and the"
        " triggers' average precision. The best of many is also the luckiest: train it with"
        " several seeds before you believe it.",
        "",
        f"| selection | {' | '.join(f'`{name}`' for name in names)} |",
        f"| ---: |{' ---: |' * len(names)}",
    ]
    for trial in ranked:
        cells = " | ".join(_shown(trial.params[name]) for name in names)
        lines.append(f"| {trial.values[0]:.4f} | {cells} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _suggest(trial: optuna.Trial, key: str, spec: Mapping[str, Any]) -> Any:
    if "choices" in spec:
        return trial.suggest_categorical(key, spec["choices"])
    whole = get_type_hints(Config)[key] is int
    suggest = trial.suggest_int if whole else trial.suggest_float
    return suggest(key, spec["low"], spec["high"], log=spec["log"])


def _run_trial(
    config: Config, changes: Mapping[str, Any], number: int, splits: Splits, tags: Mapping[str, str]
) -> float:
    """Fine-tune with some settings changed; return the figure of the best epoch."""
    run_dir = Path(config.run_dir) / "tune" / "trial"
    note = run_dir / "changes.json"
    if not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != changes:
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir()
        with open_output(note) as stream:
            json.dump(changes, stream)
    own = replace(
        config, **changes, run_name=f"{config.run_name}, trial {number}", run_dir=str(run_dir)
    )
    checkpoint = run_dir / "checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)  # of a trial that was killed before it was told
    with Tracker(own, tags, child=True) as tracker:
        found = fine_tune(own, splits["train"], splits["validation"], tracker, checkpoint)
        tracker.log_figures({"selection": found})
    shutil.rmtree(run_dir)
    return found


def _open_study(folder: Path, state: Mapping[str, Any], *, resume: bool) -> optuna.Study:
    """Open the study of a folder, or begin a new one.

    Raises:
        DeescError: It is of another configuration, search or data.
    """
    file = folder / "study.db"
    if not resume:
        for leftover in (file, folder / RUN_ID_FILE):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(folder / "trial", ignore_errors=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{file}", study_name="tune", direction="maximize", load_if_exists=True
    )
    plain = json.loads(json.dumps(state))
    if study.user_attrs.get("state", plain) != plain:
        raise DeescError(
            f"{file} belongs to another configuration, search or data; start anew without --resume"
        )
    study.set_user_attr("state", plain)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # it was killed: again
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _write_best(config: Config, path: Path) -> None:
    with open_output(path) as stream:
        for key, value in asdict(config).items():
            stream.write(f"{key} = {json.dumps(value, ensure_ascii=False)}\n")


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("tune", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--search", type=Path, default=DEFAULT_SEARCH, metavar="FILE")
    parser.add_argument("--trials", type=int, default=20, help="how many in all; default 20")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished study")
    options = parser.parse_args(arguments)
    show_progress()
    config = read_config(options.config, options.overrides)
    search = read_search(options.search, config)
    study = tune(config, search, options.trials, resume=options.resume)
    print(format_trials(study))
    return 0


if __name__ == "__main__":
    sys.exit(main())
