"""Several seeds below one run of MLflow, with a tiny base model and a real kill."""

import dataclasses
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from whole_runs import config_file

from deesc_model.bundle import read_bundle
from training import seeds
from training.descriptions import describe

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore", "error:::training"),
]

SEVERAL = {
    7: {"test": {"level_qwk": 0.5, "level_mae": 1.0}},
    8: {"test": {"level_qwk": 0.9, "level_mae": 1.0}},
    9: {"test": {"level_qwk": 0.7}},  # the other is not defined in this run
}


def test_mean_and_standard_deviation_are_of_what_all_seeds_have():
    found = seeds.spread(SEVERAL)
    assert found == pytest.approx(
        {"test_seeds/level_qwk_mean": 0.7, "test_seeds/level_qwk_std": 0.2}
    )
    table = seeds.format_seeds(SEVERAL)
    assert "| 0.700 | 0.200 | 0.500 | 0.900 | 0.700 |" in table
    assert all(describe(name) for name in found)


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, epochs=3)
    file = config_file(config, tmp_path / "c.toml")
    command = [sys.executable, "-m", "training.seeds", "--config", str(file), "--seeds", "2"]
    folder = Path(config.run_dir) / "seeds"
    with (tmp_path / "first.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while not (folder / "8" / "mlflow_run_id").is_file():
            assert process.poll() is None, (tmp_path / "first.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    first = (folder / "7" / "bundle" / "manifest.json").stat()
    other = subprocess.run(
        [*command, "--resume", "--set", "epochs=4"], capture_output=True, text=True
    )
    assert other.returncode == 1
    assert "another configuration" in other.stderr
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| `test/level_macro_f1` |" in done.stdout
    assert (folder / "7" / "bundle" / "manifest.json").stat() == first  # not trained again
    client = mlflow.MlflowClient(config.tracking_uri)
    runs = client.search_runs(["1"])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.data.params["seed"]: run for run in runs if run is not parent}
    assert set(children) == {"7", "8"}
    assert all(run.info.status == "FINISHED" for run in runs)
    for run in children.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert {**run.data.params, "seed": "-"} == {**parent.data.params, "seed": "-"}
    assert parent.data.params["epochs"] == "3"
    assert "run_dir" not in parent.data.params  # it would differ in every comparison
    values = [run.data.metrics["test/level_qwk"] for run in children.values()]
    found = parent.data.metrics
    assert found["seeds"] == 2
    assert found["test_seeds/level_qwk_mean"] == pytest.approx(statistics.mean(values))
    assert found["test_seeds/level_qwk_std"] == pytest.approx(statistics.stdev(values))
    assert "standard deviation" in parent.data.tags["mlflow.note.content"]
    assert set(json.loads((folder / "seeds.json").read_text())["seeds"]) == {"7", "8"}
    read_bundle(folder / "8" / "bundle")
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(config.registered_model)


def test_a_study_begun_anew_goes_on_with_no_seed_of_the_one_before(tiny_config, monkeypatch):
    begun = []

    def train(config, *, resume, child):
        file = Path(config.run_dir) / "config.json"
        begun.append((config.seed, resume and file.is_file()))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
        if len(begun) == 3:
            raise KeyboardInterrupt
        return {"metrics": {"level_qwk": {"value": 0.5}}}

    monkeypatch.setattr(seeds, "train", train)
    seeds.train_seeds(tiny_config, 2)
    with pytest.raises(KeyboardInterrupt):
        seeds.train_seeds(tiny_config, 2)
    seeds.train_seeds(tiny_config, 2, resume=True)
    first = tiny_config.seed
    once = [(first, False), (first + 1, False)]
    assert begun == [*once, (first, False), (first, True), (first + 1, False)]


def test_one_seed_has_no_spread(tiny_config, tmp_path, capsys):
    file = config_file(tiny_config, tmp_path / "c.toml")
    assert seeds.main(["--config", str(file), "--seeds", "1"]) == 1
    assert "--seeds must be 2 or more" in capsys.readouterr().err
    assert not Path(tiny_config.run_dir).exists()
