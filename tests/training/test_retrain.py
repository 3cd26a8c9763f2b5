"""From data to champion with a tiny base model, and killed wherever it hurts."""

import contextlib
import dataclasses
import json
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from whole_runs import config_file, described

from deesc_model.bundle import read_bundle
from training import gate, retrain, train
from training.gates import DEFAULT_GATES
from training.registry import Registry
from training.tracking import RUN_ID_FILE

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore", "error:::training"),
]

PROBES = DEFAULT_GATES.read_text(encoding="utf-8").split("[robustness]")[1]
LENIENT = """significance = 0.001
test_conversations = 10
slice_rows = 1000
baseline_gain = -1
corpus_ece = 1
public_ece = 1
quantization_loss = 1
latency_ratio = 100
latency_rows = 5
[robustness]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def lenient(tmp_path):
    """Bounds that any model keeps that is not much worse than the champion."""
    probes = "".join(f"{line.split(' =')[0]} = 1\n" for line in PROBES.splitlines() if " =" in line)
    path = tmp_path / "gates.toml"
    path.write_text(LENIENT + probes)
    return path


def arguments(config, gates: Path, path: Path) -> list[str]:
    return ["--config", str(config_file(config, path)), "--gates", str(gates)]


def test_the_gate_decides_who_becomes_champion(tiny_config, lenient, tmp_path, capsys):
    given = arguments(tiny_config, lenient, tmp_path / "good.toml")
    assert retrain.main(given) == 0
    registry = Registry(tiny_config)
    assert registry.champion() == "1"
    assert "no champion, so absolute bounds alone" in capsys.readouterr().out
    worse = dataclasses.replace(tiny_config, epochs=1, learning_rate=1e-8, head_learning_rate=1e-8)
    assert retrain.main(arguments(worse, lenient, tmp_path / "bad.toml")) == gate.REFUSED
    assert registry.champion() == "1"
    out = capsys.readouterr().out
    assert "| FAIL | corpus, overall: level_macro_f1 gained |" in out
    verdict = json.loads((Path(worse.run_dir) / "gate" / "gate.json").read_text())
    assert not verdict["passed"]
    assert verdict["challenger"] != verdict["champion"]
    paired = [check for check in verdict["checks"] if check["low"] is not None]
    assert "corpus, overall: level_qwk gained" in {check["name"] for check in paired}
    assert all(check["low"] <= check["value"] <= check["high"] for check in paired)
    levels = verdict["parts"]["corpus"]
    assert levels["metrics"]["level_qwk"]["value"] < levels["baseline"]["level_qwk"]["value"]
    lost = verdict["newly_wrong"]["corpus"]
    assert lost["level"]
    assert all(map(int.__ne__, lost["level"], lost["predicted_level"]))
    page = (Path(worse.run_dir) / "gate" / "report.html").read_text(encoding="utf-8")
    assert "<h1>The challenger is refused</h1>" in page
    client = mlflow.MlflowClient(worse.tracking_uri)
    run_id = (Path(worse.run_dir) / "gate" / RUN_ID_FILE).read_text()
    tags = client.get_run(run_id).data.tags
    assert tags["passed"] == "False"
    assert tags["mlflow.parentRunId"] == (Path(worse.run_dir) / RUN_ID_FILE).read_text()
    words = described(client, run_id, tmp_path)
    assert words.keys() == {"passed", "failed_checks"}
    assert all(words.values())
    assert "report.html" in str(client.list_artifacts(run_id, "gate"))
    again = ["--challenger", str(registry.fetch_champion()), *given]
    assert gate.main(again) == 0  # the champion is no worse than itself
    strict = tmp_path / "strict.toml"
    strict.write_text(lenient.read_text().replace("baseline_gain = -1", "baseline_gain = 0.5"))
    assert gate.main([*again, "--gates", str(strict)]) == gate.REFUSED
    assert "| FAIL | corpus: level_macro_f1 above TF-IDF, low |" in capsys.readouterr().out


def test_a_configuration_that_names_teachers_is_distilled(tiny_config, lenient, tmp_path, capsys):
    train.train(tiny_config)
    student = dataclasses.replace(
        tiny_config,
        run_dir=str(tmp_path / "student"),
        bundle_dir=str(tmp_path / "student" / "bundle"),
        teachers=(tiny_config.run_dir,),
        student_layers=(2,),
        vocabulary_count=1,
        epochs=6,
    )
    given = arguments(student, lenient, tmp_path / "student.toml")
    assert train.main(given[:2]) == 1
    assert "python -m training.distil distils them" in capsys.readouterr().err
    assert retrain.main(given) == 0
    champion = Registry(student).fetch_champion()
    assert "Distilled from one teacher" in (champion / "README.md").read_text(encoding="utf-8")


def rows_of(database: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
        return int(connection.execute(f"select count(*) from {table}").fetchone()[0])  # noqa: S608


@pytest.mark.slow
def test_interrupted_anywhere_the_champion_stays(tiny_config, lenient, tmp_path):
    assert retrain.main(arguments(tiny_config, lenient, tmp_path / "a.toml")) == 0
    registry, before = Registry(tiny_config), read_bundle(Path(tiny_config.bundle_dir)).manifest
    better = dataclasses.replace(tiny_config, weight_decay=0.02)  # as good, and another model
    command = [sys.executable, "-m", "training.retrain"]
    command += [*arguments(better, lenient, tmp_path / "b.toml"), "--resume"]
    full = subprocess.run(
        command[:-1],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )
    assert full.returncode == 1  # as on a full disk
    assert "File too large" in full.stderr
    assert read_bundle(Path(better.bundle_dir)).manifest == before
    database = tmp_path / "mlflow.db"
    partial = Path(f"{better.bundle_dir}.partial")
    points = {
        "export": lambda _: (partial / "fp32.onnx").exists(),
        "registration": lambda seen: rows_of(database, "logged_models") > seen,
    }
    for name, reached in points.items():
        seen = rows_of(database, "logged_models")
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            deadline = time.monotonic() + 300
            while not reached(seen):
                assert process.poll() is None, (tmp_path / f"{name}.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert registry.champion() == "1"
        assert read_bundle(registry.fetch_champion()).manifest == before
        found = read_bundle(Path(better.bundle_dir)).manifest  # whole, the old one or the new
        assert found == before if name == "export" else found != before
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = read_bundle(Path(better.bundle_dir)).manifest
    assert registry.champion() == registry.find(after.model_version)
    assert read_bundle(registry.fetch_champion()).manifest.model_version == after.model_version


def test_with_mlflow_away_the_gate_says_so_and_nothing_moves(
    tiny_config, lenient, tmp_path, capsys, deserted
):
    config = dataclasses.replace(tiny_config, tracking_uri=f"http://{deserted}", epochs=1)
    assert retrain.main(arguments(config, lenient, tmp_path / "a.toml")) == 1
    assert "cannot reach MLflow" in capsys.readouterr().err
    read_bundle(Path(config.bundle_dir))


def test_a_faulty_corpus_or_wrong_bounds_stop_before_training(tiny_config, tmp_path, capsys):
    wrong = tmp_path / "gates.toml"
    wrong.write_text("speed = 1")
    assert retrain.main(arguments(tiny_config, wrong, tmp_path / "a.toml")) == 1
    assert "unknown key 'speed'" in capsys.readouterr().err
    faulty = dataclasses.replace(tiny_config, corpus=str(tmp_path / "nothing"))
    assert retrain.main(arguments(faulty, DEFAULT_GATES, tmp_path / "b.toml")) == 1
    assert "nothing was trained" in capsys.readouterr().err
    assert not Path(tiny_config.run_dir).exists()


def test_several_processes_are_sent_to_train_first(
    tiny_config, lenient, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert retrain.main(arguments(tiny_config, lenient, tmp_path / "c.toml")) == 1
    assert "torchrun … -m training.train" in capsys.readouterr().err
    assert not Path(tiny_config.run_dir).exists()
