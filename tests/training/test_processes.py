"""Training by two real processes that torchrun starts, over loopback."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from torch import distributed
from whole_runs import config_file

from deesc_model.bundle import read_bundle
from deesc_model.errors import DeescError
from training import train
from training.fine_tuning import fine_tune
from training.processes import cpus_of_each, lost_another

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore", "error:::training"),
]

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}


def command(config, path: Path) -> list[str]:
    return [*TORCHRUN, "-m", "training.train", "--config", str(config_file(config, path))]


def rank_of(process: Path) -> str | None:
    variables = (process / "environ").read_bytes().split(b"\0")
    return next((line[5:].decode() for line in variables if line.startswith(b"RANK=")), None)


def runs(config):
    """The MLflow runs of an experiment."""
    client = mlflow.MlflowClient(config.tracking_uri)
    return client.search_runs([client.get_experiment_by_name(config.experiment).experiment_id])


def curve(config, figure: str) -> dict[int, float]:
    """A figure by step, of the only run that trained this configuration."""
    (run,) = (run for run in runs(config) if run.info.run_name == config.run_name)
    client = mlflow.MlflowClient(config.tracking_uri)
    history = client.get_metric_history(run.info.run_id, figure)
    assert len({point.step for point in history}) == len(history)  # the other process is silent
    return {point.step: point.value for point in history}


@pytest.mark.slow
def test_two_processes_train_what_one_does(tiny_config, tmp_path):
    # Without dropout and with even weights the mean of two halves is the whole, and an epoch of
    # 320 turns is made of whole batches: the two differ by rounding.
    alone = dataclasses.replace(
        tiny_config, dropout=0.0, imbalance_power=0.0, precision="fp32", run_name="alone", epochs=5
    )
    together = dataclasses.replace(
        alone,
        run_name="together",
        run_dir=str(tmp_path / "together"),
        bundle_dir=str(tmp_path / "together-bundle"),
    )
    expected = train.train(alone)
    assert not distributed.is_initialized()
    # The two cut their halves of a batch into parts, not always into as many.
    in_parts = tmp_path / "in_parts.py"
    in_parts.write_text(
        "from training import fine_tuning, train\nfine_tuning.PASS_TOKENS = 50\n"
        "raise SystemExit(train.main())\n"
    )
    found = subprocess.run(
        [*TORCHRUN, in_parts, "--config", config_file(together, tmp_path / "c.toml")],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "PYTHONPATH": str(Path(train.__file__).parents[1])},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("conversations, with context") == 1
    report = json.loads((Path(together.run_dir) / "report.json").read_text(encoding="utf-8"))
    for name in ("level_macro_f1", "level_qwk", "trigger_macro_ap"):
        value = report["metrics"][name]["value"]
        assert value == pytest.approx(expected["metrics"][name]["value"], abs=0.02)
    assert report["metrics"]["level_macro_f1"]["value"] > 0.7  # both have learned, not both nothing
    for figure in ("train/loss", "validation/selection"):
        assert curve(together, figure) == pytest.approx(curve(alone, figure), abs=0.02)
    assert max(curve(together, "train/loss")) % 40 == 0  # 320 turns in steps of 8, not of 16
    run = mlflow.MlflowClient(together.tracking_uri).get_run(
        read_bundle(Path(together.bundle_dir)).manifest.training_run
    )
    assert run.info.status == "FINISHED"
    assert run.data.tags["processes"] == "2"
    assert len(runs(together)) == 2
    assert not (Path(together.run_dir) / "trainer").exists()


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_an_error_and_one_alone_resumes(
    tiny_config, tmp_path
):
    slow = dataclasses.replace(tiny_config, epochs=6, patience=6, learning_rate=1e-5)
    path, trainer, said = tmp_path / "c.toml", Path(slow.run_dir) / "trainer", tmp_path / "log"
    with said.open("wb") as log:
        process = subprocess.Popen(command(slow, path), stdout=log, stderr=log, env=ENVIRONMENT)
        deadline = time.monotonic() + 300
        while not list(trainer.glob("checkpoint-*/trainer_state.json")):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (second,) = (pid for pid in children if rank_of(Path("/proc", pid)) == "1")
        os.kill(int(second), signal.SIGKILL)
        assert process.wait(timeout=180)  # a hang would last half an hour == 1
    assert f"Signal 9 (SIGKILL) received by PID {second}" in said.read_text()
    assert not Path(slow.bundle_dir).exists()
    done = max(int(path.name.split("-")[1]) for path in trainer.glob("checkpoint-*"))
    train.train(slow, resume=True)
    assert len(runs(slow)) == 1
    steps = curve(slow, "validation/selection")
    assert min(steps) <= done < max(steps) == 240


def test_a_lost_process_is_told_from_any_other_error(tiny_config, tmp_path, monkeypatch, capsys):
    said = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"
    assert lost_another(RuntimeError(said))
    assert lost_another(distributed.DistBackendError("NCCL"))
    assert not lost_another(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))

    def lose(*_, **__):
        raise RuntimeError(said)

    monkeypatch.setattr(train, "load_dataset", lose)
    assert train.main(["--config", str(config_file(tiny_config, tmp_path / "c.toml"))]) == 1
    assert "was killed or failed; torchrun says which" in capsys.readouterr().err


def test_the_processes_of_one_machine_divide_its_cpus(monkeypatch):
    monkeypatch.setattr("training.processes.available_cpus", lambda: 7)
    assert cpus_of_each() == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cpus_of_each() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert cpus_of_each() == 1


def test_a_batch_that_cannot_be_shared_is_refused(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    odd = dataclasses.replace(tiny_config, batch_size=7)
    with pytest.raises(DeescError, match="batch_size 7 cannot be shared evenly by 2 processes"):
        fine_tune(odd, [], [], None, tmp_path / "checkpoint")
