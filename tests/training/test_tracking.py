"""What a run tells MLflow, in a real store."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from whole_runs import described

from training import tracking
from training.config import Config
from training.tracking import Tracker

pytestmark = pytest.mark.filterwarnings("ignore", "error:::training")


@pytest.fixture
def config(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return dataclasses.replace(Config(), tracking_uri=uri, run_dir=str(tmp_path))


def test_runs_of_one_name_are_two_and_hang_below_what_the_server_knows(config, tmp_path):
    (tmp_path / "other").mkdir()
    same = dataclasses.replace(config, run_dir=str(tmp_path / "other"))
    with Tracker(config, {}) as first:
        pass
    with Tracker(same, {}, parent=first.run_id) as second:
        pass
    (tmp_path / "mlflow_run_id").unlink()
    with Tracker(config, {}, parent="0123456789abcdef0123456789abcdef") as third:
        pass
    found = mlflow.MlflowClient(config.tracking_uri).search_runs(["1"])
    assert {run.info.run_name for run in found} == {config.run_name}
    parents = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in found}
    assert parents == {first.run_id: None, second.run_id: first.run_id, third.run_id: None}


def test_a_call_that_fails_leaves_no_run_open(config, caplog):
    with Tracker(config, {}) as tracker:
        tracker.log_files([Path(config.run_dir) / "nothing"], "report")
        tracker.log_figures({"seeds": 3.0})
    assert "cannot upload report in MLflow" in caplog.text
    assert mlflow.active_run() is None
    run = mlflow.MlflowClient(config.tracking_uri).get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {})


def test_a_child_whose_server_is_away_leaves_its_parent_open(config, tmp_path, monkeypatch, caplog):
    (tmp_path / "child").mkdir()
    own = dataclasses.replace(config, run_dir=str(tmp_path / "child"))
    with Tracker(config, {}) as parent:
        with Tracker(own, {}, child=True):
            monkeypatch.setattr(tracking, "check_reachable", away)
            monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", unreachable)
        monkeypatch.undo()
        assert ASKED == [{"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}]
        assert "cannot close the run in MLflow" in caplog.text
        assert mlflow.active_run().info.run_id == parent.run_id
        parent.log_figures({"seeds": 3.0})
    found = mlflow.MlflowClient(config.tracking_uri).get_run(parent.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"seeds": 3.0})


ASKED = []


def away(uri):
    raise ConnectionRefusedError(uri)


def unreachable(*_, **__):
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    ASKED.append({name: os.environ.get(name)})
    raise MlflowException("the server is away")


def test_an_interrupted_run_goes_on_without_doubling_what_it_said(config, tmp_path, caplog):
    table = {"text": ["“no”", "<b>yes</b>"], "level": [3, 0]}
    first = Tracker(config, {})
    first.log_table(table, "errors.json")
    first.__exit__(KeyboardInterrupt, None, None)
    client = mlflow.MlflowClient(config.tracking_uri)
    assert client.get_run(first.run_id).info.status == "KILLED"
    many = {f"test_slices/domain.d{n}/level_qwk": n / 2000 for n in range(1200)}
    with Tracker(config, {}) as second:
        second.log_table(table, "errors.json")
        second.log_figures({**many, "test/unheard_of": 1.0})
        second.log_note("# All is well")
    assert second.run_id == first.run_id
    file = Path(client.download_artifacts(second.run_id, "errors.json", tmp_path))
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found == {"columns": ["text", "level"], "data": [["“no”", 3], ["<b>yes</b>", 0]]}
    run = client.get_run(second.run_id)
    assert (run.info.status, len(run.data.metrics)) == ("FINISHED", 1201)
    assert run.data.tags["mlflow.note.content"] == "# All is well"
    words = described(client, second.run_id, tmp_path)
    assert words["test/unheard_of"] == ""
    assert all(said for name, said in words.items() if name != "test/unheard_of")
    assert "test/unheard_of has no description" in caplog.text
