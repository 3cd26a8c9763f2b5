"""The whole path with a tiny base model, a real MLflow server, real kills."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import mlflow
import pandas as pd
import pytest
import torch
from whole_runs import config_file, described, mlflow_server

from deesc_model import EscalationClassifier
from deesc_model.bundle import read_bundle
from deesc_model.errors import DeescError
from training import evaluate, fine_tuning, train
from training.model import load_checkpoint
from training.tracking import UNTRACKED
from training.trained import find_trained
from training.warm_start import bundle_model

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore", "error:::training"),
]


def test_the_whole_path_into_a_real_mlflow_server(tiny_config, tmp_path):
    with mlflow_server(tmp_path) as uri:
        config = dataclasses.replace(tiny_config, tracking_uri=uri)
        report = train.train(config)
        manifest = read_bundle(Path(config.bundle_dir)).manifest
        client = mlflow.MlflowClient(uri)
        run = client.get_run(manifest.training_run)
        assert run.info.status == "FINISHED"
        assert run.data.params["learning_rate"] == "0.003"
        assert run.data.tags["data_fingerprint"] == manifest.data_fingerprint
        assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {
            "corpus-train",
            "corpus-validation",
            "corpus-test",
        }
        assert run.data.metrics["test/level_qwk"] == report["metrics"]["level_qwk"]["value"]
        assert "test_baseline/level_qwk" in run.data.metrics
        assert "test_slices/context.with/level_macro_f1" in run.data.metrics
        curve = client.get_metric_history(run.info.run_id, "validation/level_macro_f1")
        assert len({point.step for point in curve}) >= 2
        files = {
            f.path
            for top in ("figures/corpus", "report")
            for f in client.list_artifacts(run.info.run_id, top)
        }
        assert {
            "figures/corpus/confusion.png",
            "figures/corpus/risk_coverage.png",
            "report/report.json",
        } <= files
        assert "report/report.html" in files
        assert "level_qwk" in run.data.tags["mlflow.note.content"]
        words = described(client, run.info.run_id, tmp_path)
        assert set(words) == set(run.data.metrics)
        assert all(words.values()), [name for name, said in words.items() if not said]
        version = client.get_model_version_by_alias(config.registered_model, config.alias)
        mlflow.set_tracking_uri(uri)
        model = mlflow.pyfunc.load_model(f"models:/{config.registered_model}@{config.alias}")
        texts = [
            "outrageous, you lied to me about number one",
            "thanks, all is well with number two",
        ]
        answer = model.predict(pd.DataFrame({"text": texts}))
        assert version.run_id == run.info.run_id
    expected = EscalationClassifier.from_pretrained(config.bundle_dir).predict_batch(texts)
    assert answer["level"].tolist() == [int(prediction.level) for prediction in expected]
    assert answer["triggers"].map(tuple).tolist() == [
        prediction.triggers for prediction in expected
    ]
    assert [int(prediction.level) for prediction in expected] == [3, 0]
    assert report["metrics"]["level_macro_f1"]["value"] > 0.9  # this corpus is easy
    with (Path(config.run_dir) / "errors.csv").open(encoding="utf-8", newline="") as stream:
        right = report["metrics"]["level_accuracy"]["value"] * report["rows"]
        assert len(list(csv.DictReader(stream))) == report["rows"] - round(right)
    assert not (Path(config.run_dir) / "trainer").exists()


def test_evaluate_gives_what_training_reported(tiny_config, tmp_path, capsys, caplog):
    report = train.train(tiny_config)
    config = config_file(tiny_config, tmp_path / "c.toml")
    found = tmp_path / "report.json"
    arguments = ["--config", str(config), "--json", str(found)]
    assert evaluate.main([*arguments, "--bundle", tiny_config.bundle_dir]) == 0
    again = json.loads(found.read_text())
    assert again == json.loads(json.dumps(report))
    assert "trained on other data" not in caplog.text
    assert "so on others expect less" not in capsys.readouterr().out
    seen = [*arguments, "--bundle", tiny_config.bundle_dir, "--split", "validation"]
    assert evaluate.main(seen) == 0
    assert "were fitted to these rows, so on others expect less" in capsys.readouterr().out
    checkpoint = str(Path(tiny_config.run_dir) / "checkpoint")
    assert evaluate.main([*arguments, "--checkpoint", checkpoint]) == 0
    fp32 = json.loads(found.read_text())["metrics"]["level_qwk"]["value"]
    assert fp32 == pytest.approx(report["metrics"]["level_qwk"]["value"], abs=0.1)
    assert "| level_macro_f1 |" in capsys.readouterr().out
    assert evaluate.main(["--config", str(config), "--json", str(tmp_path / "no" / "r.json")]) == 1
    assert "missing or read-only" in capsys.readouterr().err
    fewer = ["--set", "max_conversations=20", "--bundle", tiny_config.bundle_dir]
    assert evaluate.main([*arguments, *fewer]) == 0
    assert "trained on other data than are here" in caplog.text


def test_training_ends_well_without_mlflow(tiny_config, caplog, deserted):
    config = dataclasses.replace(tiny_config, tracking_uri=f"http://{deserted}", epochs=1)
    train.train(config)
    assert read_bundle(Path(config.bundle_dir)).manifest.training_run == UNTRACKED
    assert "going on without" in caplog.text
    assert f"all results are in {Path(config.run_dir).resolve()}" in caplog.text
    assert (Path(config.run_dir) / "report.md").is_file()


def test_a_killed_training_resumes_and_the_old_bundle_stays(tiny_config, tmp_path):
    train.train(dataclasses.replace(tiny_config, epochs=1))
    before = read_bundle(Path(tiny_config.bundle_dir)).manifest
    slow = dataclasses.replace(tiny_config, epochs=5, patience=5, learning_rate=1e-5)
    config = config_file(slow, tmp_path / "c.toml")
    command = [sys.executable, "-m", "training.train", "--config", str(config)]
    trainer = Path(slow.run_dir) / "trainer"
    with (tmp_path / "first.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while len(list(trainer.glob("checkpoint-*/trainer_state.json"))) < 1:
            assert process.poll() is None, (tmp_path / "first.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert read_bundle(Path(slow.bundle_dir)).manifest == before
    done = max(int(path.name.split("-")[1]) for path in trainer.glob("checkpoint-*"))
    changed = subprocess.run(
        [*command, "--resume", "--set", "seed=8"], capture_output=True, text=True
    )
    assert changed.returncode == 1
    assert "another configuration" in changed.stderr
    (Path(slow.run_dir) / "git_commit").write_text("abc")
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "| level_macro_f1 |" in resumed.stdout
    after = read_bundle(Path(slow.bundle_dir)).manifest
    assert after != before
    assert after.git_commit.startswith("abc, resumed at ")
    run = mlflow.MlflowClient(slow.tracking_uri).get_run(after.training_run)
    history = mlflow.MlflowClient(slow.tracking_uri).get_metric_history(
        run.info.run_id, "validation/level_macro_f1"
    )
    steps = [point.step for point in history]
    assert min(steps) <= done < max(steps)  # one run holds both halves
    assert len(steps) == len(set(steps))  # and nothing was trained twice
    assert run.info.status == "FINISHED"


def test_training_goes_on_from_a_bundle(tiny_config, tmp_path, monkeypatch):
    first = train.train(tiny_config)
    begun = read_bundle(Path(tiny_config.bundle_dir)).manifest
    further = dataclasses.replace(
        tiny_config,
        base_model=tiny_config.bundle_dir,
        run_dir=str(tmp_path / "further"),
        bundle_dir=str(tmp_path / "further_bundle"),
        epochs=1,
        start_share=1.0,  # all of what it learns is taken back
    )
    start = bundle_model(read_bundle(Path(tiny_config.bundle_dir))).state_dict()
    with monkeypatch.context() as patch:  # no real kill can be timed to this instant
        patch.setattr(fine_tuning, "mix_weights", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train.train(further)
    report = train.train(further, resume=True)
    level = report["metrics"]["level_macro_f1"]["value"]
    assert level == pytest.approx(first["metrics"]["level_macro_f1"]["value"], abs=0.05)
    model, _, _ = load_checkpoint(Path(further.run_dir) / "checkpoint")
    assert all(torch.equal(weight, start[name]) for name, weight in model.state_dict().items())
    bundle = read_bundle(Path(further.bundle_dir))
    assert bundle.manifest.base_model == begun.base_model == tiny_config.base_model
    assert f"beginning as {begun.model_version}." in (bundle.path / "README.md").read_text()
    run = mlflow.MlflowClient(further.tracking_uri).get_run(bundle.manifest.training_run)
    assert run.data.tags["start_bundle"] == begun.model_version
    assert run.data.metrics["validation/mean_selection"] > 0.5
    assert find_trained(Path(further.run_dir)).decides["base_model"] == tiny_config.base_model
    learned = Path(tiny_config.run_dir) / "checkpoint" / "model.safetensors"
    before = learned.read_bytes()
    with pytest.raises(DeescError, match="frozen_blocks 99"):
        train.train(dataclasses.replace(tiny_config, frozen_blocks=99))
    kept = Path(tiny_config.run_dir) / "checkpoint.old"
    assert (kept / learned.name).read_bytes() == before
    train.train(dataclasses.replace(tiny_config, seed=8, epochs=1))  # another bundle in its place
    assert not kept.exists()
    with pytest.raises(DeescError, match="another configuration or other data"):
        train.train(further, resume=True)


def test_a_wrong_configuration_exits_with_1(tmp_path, capsys):
    assert train.main(["--set", "speed=9"]) == 1
    assert "unknown key 'speed'" in capsys.readouterr().err
    assert train.main(["--set", f"corpus={tmp_path}", "--set", f"run_dir={tmp_path / 'r'}"]) == 1
    assert "no *.jsonl" in capsys.readouterr().err
