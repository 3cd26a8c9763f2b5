"""Labelling on a Ray cluster of two nodes: nothing of it may show in what is written."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import deesc, read_jsonl, write_jsonl
from store import running_store
from tiny_bundle import WORDS, write_tiny_bundle

pytest.importorskip("typer")

TWO_NODES = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
sys.stdin.read()  # until the test is done, or gone
cluster.shutdown()
"""


def rows(count):
    words = list(WORDS)
    return [
        {
            "conversation_id": f"c{n // 3}",
            "text": f"{words[n % len(words)]} {'the ' * (n % 9)}" if n != 6000 else "",
            "row": n,
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A bundle whose scores tell which texts were labelled together."""
    return write_tiny_bundle(tmp_path_factory.mktemp("crowded") / "bundle", crowd=1e-4)


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        # A busy machine takes its time to start processes, and Ray's are of the lowest priority.
        "RAY_raylet_start_wait_time_s": "300",
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_worker_niceness": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", TWO_NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        address = process.stdout.readline().strip()
        assert ":" in address
        yield address
        process.stdin.close()
        process.wait(60)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_cluster_labels_as_one_machine_does_and_goes_on_after_a_kill(
    cluster, crowded, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    write_jsonl(tmp_path / "in.jsonl", rows(30_000))
    monkeypatch.chdir(tmp_path)  # files are named from where the command runs
    whole, out = tmp_path / "whole", tmp_path / "out"
    options = ("--part-rows", 3000, "--on-error", "skip", "--threads", 1, "--model", crowded)
    deesc("score", "in.jsonl", "--parts", whole, *options, check=0)
    command = ("score", "in.jsonl", "--parts", out, *options, "--engine", "ray", "--processes", 2)
    killed = subprocess.Popen([sys.executable, "-m", "deesc_model.cli", *map(str, command)])
    ends = time.monotonic() + 300
    while len(list(out.glob("part-*.jsonl")) if out.exists() else []) < 2:
        assert killed.poll() is None
        assert time.monotonic() < ends
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert json.loads((out / "_deesc.json").read_text())["done"] is False
    assert "were there" in deesc(*command, check=0).stderr
    assert contents(out) == contents(whole)


def test_a_cluster_reads_from_a_store_as_one_machine_does(cluster, crowded, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    content = "".join(json.dumps(row) + "\n" for row in rows(9000)).encode()
    # The cluster was started before the store: it does not know who asks.
    with running_store() as bucket:
        bucket.put("in/year=2026/a.jsonl", content)
        options = ("--part-rows", 3000, "--on-error", "skip", "--threads", 1, "--model", crowded)
        for name, engine in (("local", ()), ("ray", ("--engine", "ray"))):
            deesc("score", "s3://bucket/in", "--parts", f"s3://bucket/{name}", *options, *engine)
        assert len(bucket.contents("ray")) == 3 + 3
        assert bucket.contents("ray") == bucket.contents("local")


def test_a_bad_row_ends_the_run_after_what_was_before_it(cluster, crowded, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    path, out = write_jsonl(tmp_path / "in.jsonl", rows(9000)), tmp_path / "out"
    options = ("--part-rows", 1500, "--engine", "ray", "--model", crowded)
    result = deesc("score", path, "--parts", out, *options, check=1)
    assert "in.jsonl: line 6001: text is empty" in result.stderr
    assert "Traceback" not in result.stderr
    found = [
        row["row"]
        for part in sorted(out.glob("*.jsonl"))
        for row in read_jsonl(part.read_text())
        if "row" in row
    ]
    assert found == list(range(3000))


def test_a_cluster_cannot_read_a_pipe(crowded):
    options = ("--engine", "ray", "--model", crowded)
    result = deesc("score", "-", *options, text='{"text": "late"}\n', check=1)
    assert "standard input can be read only once, but --engine ray reads in" in result.stderr


def test_an_address_that_is_none_is_said_as_ray_says_it(crowded, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}])
    result = deesc("score", path, "--engine", "ray", "--model", crowded, check=1)
    assert "error: Ray failed: Invalid address format: nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_more_threads_than_there_are_cpus_are_refused(crowded, tmp_path):
    pytest.importorskip("ray")
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}])
    options = ("--engine", "ray", "--threads", 4096, "--model", crowded)
    assert "--threads 4096: Ray has" in deesc("score", path, *options, check=1).stderr


def test_without_ray_the_command_for_it_is_named(crowded, tmp_path):
    pytest.importorskip("pyarrow")
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}])
    code = "import sys; sys.modules['ray'] = None; from deesc_model.cli import main; main()"
    arguments = ("score", path, "--engine", "ray", "--model", crowded)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "in the folder of deesc: pip install '.[ray]'" in result.stderr
    assert "Traceback" not in result.stderr
