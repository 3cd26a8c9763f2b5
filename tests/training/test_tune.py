"""A search over settings with a tiny base model, a real kill and a real MLflow store."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import optuna
import pytest
from whole_runs import config_file

from training import tune
from training.config import Config, ConfigError, read_config
from training.descriptions import describe
from training.tracking import settings

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore", "error:::training"),
]

SEARCH = """
[learning_rate]
low = 1e-3
high = 5e-3
log = true
[frozen_blocks]
choices = [0, 1]
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tiny_config, tmp_path, capsys):
    config = dataclasses.replace(tiny_config, epochs=2)
    file = config_file(config, tmp_path / "c.toml")
    search = tmp_path / "search.toml"
    search.write_text(SEARCH)
    options = ["--config", str(file), "--search", str(search), "--trials", "2"]
    folder = Path(config.run_dir) / "tune"
    with (tmp_path / "first.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "training.tune", *options], stdout=log, stderr=log
        )
        deadline = time.monotonic() + 300
        while not list(folder.glob("trial/trainer/checkpoint-*/trainer_state.json")):
            assert process.poll() is None, (tmp_path / "first.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    changes = json.loads((folder / "trial" / "changes.json").read_text())
    assert tune.main([*options, "--resume", "--set", "epochs=3"]) == 1
    assert "another configuration" in capsys.readouterr().err
    assert tune.main([*options, "--resume"]) == 0
    shown = capsys.readouterr().out
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{folder / 'study.db'}")
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(complete) == 2
    assert complete[0].params == changes  # the one that was cut short comes first
    assert complete[0].params != complete[1].params
    best = max(trial.value for trial in complete)
    assert (folder / "tune.md").read_text() in shown
    assert (folder / "tune.md").read_text().splitlines()[4].startswith(f"| {best:.4f} |")
    found = read_config(folder / "best.toml")
    assert found == dataclasses.replace(config, **study.best_params)
    runs = mlflow.MlflowClient(config.tracking_uri).search_runs(["1"])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert len(children) == 2  # the one that was cut short is one run
    assert all(run.info.status == "FINISHED" for run in runs)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.data.metrics["trials"] == 2
    assert parent.data.metrics["best_selection"] == pytest.approx(best)
    assert best == pytest.approx(max(run.data.metrics["selection"] for run in children))
    assert "learning_rate" not in parent.data.params
    assert json.loads(parent.data.params["search_frozen_blocks"]) == {"choices": [0, 1]}
    assert children[0].data.params.keys() == settings(config).keys()
    assert all(describe(name) for run in runs for name in run.data.metrics)
    assert not (folder / "trial").exists()  # a checkpoint of each would fill the disk
    assert not Path(config.bundle_dir).exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names nothing to search"),
        ("[colour]\nchoices = [1]", "no setting of a model"),
        ("[run_dir]\nchoices = ['a']", "no setting of a model"),
        ("epochs = 3", "needs choices"),
        ("[epochs]\nchoices = []", "needs choices"),
        ("[epochs]\nlow = 1", "needs choices"),
        ("[base_model]\nlow = 'a'\nhigh = 'b'", "needs choices"),
        ("[epochs]\nlow = 1.5\nhigh = 3", "epochs must be int"),
        ("[epochs]\nlow = 0\nhigh = 3", "epochs must be from 1"),
        ("[level_head]\nchoices = ['softmax', 'hard']", "level_head must be one of"),
        ("[dropout]\nlow = 0.3\nhigh = 0.1", "low below high"),
        ("[dropout]\nlow = 0.0\nhigh = 0.1\nlog = true", "above 0 with log"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tmp_path, content, message):
    file = tmp_path / "search.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        tune.read_search(file, Config())


def test_the_search_that_ships_fits_the_configuration():
    assert "learning_rate" in tune.read_search(tune.DEFAULT_SEARCH, Config())


def test_a_student_is_not_searched_for(tiny_config, tmp_path, capsys):
    config = dataclasses.replace(tiny_config, teachers=("runs/teacher",))
    assert tune.main(["--config", str(config_file(config, tmp_path / "c.toml"))]) == 1
    assert "trials fine-tune, none distils" in capsys.readouterr().err
    assert not Path(config.run_dir).exists()


def test_trials_run_in_one_process(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tune.main(["--config", str(config_file(tiny_config, tmp_path / "c.toml"))]) == 1
    assert "trials run one after the other" in capsys.readouterr().err
