"""Stopping, reloading, workers, metrics, logs: real processes, real signals."""

import asyncio
import contextlib
import errno
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tiny_bundle import write_tiny_bundle

from deesc_model import DeescError, EscalationClassifier, ServiceError, Turn
from deesc_model._proto import escalation_pb2 as pb
from deesc_model._proto import escalation_pb2_grpc as pb_grpc
from deesc_model.bundle import file_sha256
from deesc_model.client import EscalationClient
from deesc_model.messages import turn_message
from serve import interceptor
from serve.config import Settings
from serve.server import ENDED_BY_ITSELF, Service, run

MARK = "zanzibar"


def another_bundle(folder: Path, crowd: float = 0.0) -> Path:
    """A bundle of another version."""
    manifest = json.loads((write_tiny_bundle(folder, crowd) / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "name": "other"}))
    return folder


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return reply.read().decode()


class Load:
    """Clients that never pause; collects every answer and every error."""

    def __init__(self, address, clients=4):
        self.answers, self.errors = [], []
        self._done = threading.Event()
        self._address = address
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        with EscalationClient(self._address) as client:
            while not self._done.is_set():
                try:
                    self.answers.append(client.predict("the parcel is late"))
                except DeescError as error:
                    self.errors.append(error)
                    time.sleep(0.05)

    def until(self, count):
        for _ in range(2000):
            if len(self.answers) >= count:
                return
            time.sleep(0.01)
        raise AssertionError(f"{len(self.answers)} answers, {self.errors[:3]}")

    def end(self):
        self._done.set()
        for thread in self._threads:
            thread.join(20)


def test_sigterm_answers_every_accepted_call_then_ends(spawn):
    server = spawn()
    requests = [pb.PredictRequest(utterance=pb.Turn(text="late " * 40))] * 100
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        stub.GetModelInfo(pb.GetModelInfoRequest())
        calls = [
            stub.PredictBatch.future(pb.PredictBatchRequest(requests=requests)) for _ in range(2)
        ]
        stub.GetModelInfo(pb.GetModelInfoRequest())  # answered: those before it are accepted
        assert server.stop(signal.SIGTERM) == 0
        for call in calls:
            assert len(call.result(30).results) == 100
    assert [line["event"] for line in server.lines if line["event"] != "call"] == [
        "serving",
        "stopping",
        "stopped",
    ]


@contextlib.contextmanager
def endless_call(channel):
    """A call that the server has accepted, and that waits for its message until the end."""
    ended = threading.Event()

    def say():
        ended.wait(60)
        yield b""

    call = channel.stream_unary("/deesc.v1.EscalationService/Predict").future(say())
    call.add_done_callback(lambda _: ended.set())
    pb_grpc.EscalationServiceStub(channel).GetModelInfo(pb.GetModelInfoRequest())  # comes later
    yield call
    ended.set()


@pytest.mark.parametrize("drain_s", [0, 1])
def test_calls_that_are_cut_are_told_and_are_a_failure(spawn, drain_s):
    server = spawn("--drain-s", drain_s)
    with grpc.insecure_channel(server.address) as channel, endless_call(channel) as call:
        assert server.stop() == 1
        assert call.exception(30).code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        )
    (cut,) = [line for line in server.lines if line["event"] == "calls were cut"]
    assert (cut["level"], cut["count"]) == ("warning", 1)
    assert server.lines[-1]["event"] == "stopped"


def test_sigterm_ends_a_live_conversation_between_two_turns(spawn):
    server = spawn("--drain-s", 60)
    said = threading.Event()

    def say():
        yield pb.MonitorConversationRequest(turn=turn_message(Turn("customer", "late")))
        said.wait(20)

    with grpc.insecure_channel(server.address) as channel:
        answers = pb_grpc.EscalationServiceStub(channel).MonitorConversation(say())
        assert next(answers).prediction.level == 1
        assert server.stop(signal.SIGTERM) == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        said.set()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "the server is stopping; connect again"


def test_a_conversation_that_was_over_before_the_stop_ends_well(start, loop, monkeypatch):
    monkeypatch.setattr(interceptor, "STREAM_ENDING_S", 2.0)
    service = start(drain_s=20.0)
    turns = iter([pb.MonitorConversationRequest(turn=turn_message(Turn("customer", "late")))])
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        answers = pb_grpc.EscalationServiceStub(channel).MonitorConversation(turns)
        assert next(answers).prediction.level == 1
        time.sleep(0.3)  # the end of the turns has come
        stopping = asyncio.run_coroutine_threadsafe(service.stop(), loop.loop)
        assert list(answers) == []  # and no UNAVAILABLE
        assert stopping.result(30) == 0


def test_an_open_reflection_does_not_hold_up_the_end(spawn):
    server = spawn("--drain-s", 3600)
    with grpc.insecure_channel(server.address) as channel:
        asked, done = threading.Event(), threading.Event()

        def ask():
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            asked.set()
            done.wait(60)

        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask())
        assert next(answers).list_services_response.service
        assert asked.wait(10)
        assert server.stop(signal.SIGTERM) == 0  # within a minute
        done.set()


def test_a_health_watcher_who_leaves_takes_nothing_from_another(start, loop):
    service = start()
    status = health_pb2.HealthCheckResponse
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        leaving, staying = (watch(health_pb2.HealthCheckRequest()) for _ in range(2))
        unknown = watch(health_pb2.HealthCheckRequest(service="nonsense"))
        assert next(leaving).status == next(staying).status == status.SERVING
        assert next(unknown).status == status.SERVICE_UNKNOWN
        leaving.cancel()
        for _ in range(1000):
            if 'code="CANCELLED",method="/grpc.health' in scrape(service.metrics_port):
                break
            time.sleep(0.01)
        else:
            raise AssertionError("the server never heard of it")
        loop.run(service.stop())
        assert next(staying).status == status.NOT_SERVING
        with pytest.raises(grpc.RpcError):  # of a service that is none, nothing changed
            next(unknown)


def test_a_call_that_outlasts_the_wait_is_cut(start, loop, gate):
    service = start(drain_s=1.0)
    service.model.current = gate
    with (
        EscalationClient(f"127.0.0.1:{service.port}", timeout_s=60) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        call = threads.submit(client.predict, "late")
        assert gate.entered.wait(10)
        stopping = threads.submit(loop.run, service.stop())
        with pytest.raises(ServiceError) as caught:
            call.result(15)  # the gate is shut: only the stop can end it
        assert caught.value.code in ("CANCELLED", "UNAVAILABLE")
        gate.open()  # the thread of the model is waited for
        stopping.result(20)


def frame(kind, flags, stream, payload=b""):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def test_a_health_watcher_who_takes_nothing_does_not_hold_up_the_stop(start, loop):
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Watch",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(  # literals, neither compressed nor remembered
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in headers.items()
    )
    service = start()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as watcher:
        no_window = frame(4, 0, 0, struct.pack(">HI", 4, 0))
        watcher.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_window)
        watcher.sendall(frame(1, 4, 1, block) + frame(0, 1, 1, b"\0" * 5))
        received = watcher.makefile("rb")
        kind = None
        while kind != 1:  # the headers of the answer, which wait for no window
            length, kind = int.from_bytes(received.read(3), "big"), received.read(1)[0]
            received.read(5 + length)
        loop.run(service.stop(), timeout_s=20)


def test_sighup_while_it_starts_does_not_end_it(tiny_bundle, tmp_path):
    # A named pipe: the server waits at it for its tokens until they are written.
    tokens = tmp_path / "tokens"
    os.mkfifo(tokens)
    command = [sys.executable, "-m", "serve.server", "--model", str(tiny_bundle), "--port", "0"]
    command += ["--metrics-port", "0", "--token-file", str(tokens)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        with tokens.open("w") as pipe:  # opens once the server reads
            server.send_signal(signal.SIGHUP)
            pipe.write("secret\n")
        assert json.loads(server.stderr.readline())["event"] == "serving"
        server.terminate()
        server.communicate(timeout=60)
        assert server.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the state of a process is read in /proc")
def test_sighup_is_ignored_before_the_long_imports(tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", str(tiny_bundle), "--port", "0"]
    command += ["--metrics-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        try:
            proc = Path(f"/proc/{server.pid}")
            while "cygrpc" not in (proc / "maps").read_text():
                assert server.poll() is None
            ignored = re.search(r"SigIgn:\s*(\w+)", (proc / "status").read_text())[1]
            assert int(ignored, 16) & 1 << (signal.SIGHUP - 1)
        finally:
            server.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_sighup_while_workers_start_ends_none_and_is_heard_later(tiny_bundle):
    with starting_workers(tiny_bundle) as parent:
        for _ in range(3):
            parent.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        lines = [json.loads(parent.stderr.readline()) for _ in range(2)]
        assert [line["event"] for line in lines] == ["serving"] * 2
        parent.send_signal(signal.SIGHUP)
        while json.loads(parent.stderr.readline())["event"] != "model loaded":
            pass
        parent.send_signal(signal.SIGTERM)
        _, rest = parent.communicate(timeout=60)
    assert parent.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()].count("stopped") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_a_first_worker_that_cut_calls_is_replaced_too(tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", tiny_bundle, "--threads", "1"]
    command += ["--port", "0", "--metrics-port", "0", "--workers", "2", "--drain-s", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        try:
            lines = [json.loads(parent.stderr.readline()) for _ in range(2)]
            address = f"127.0.0.1:{lines[0]['port']}"
            with grpc.insecure_channel(address) as channel, endless_call(channel):
                for child in children(parent):  # one of them has the call
                    os.kill(int(child), signal.SIGTERM)
                codes, serving = set(), 0
                while serving < 2:
                    line = json.loads(parent.stderr.readline())
                    serving += line["event"] == "serving"
                    codes |= {line["code"]} if line["event"] == "a worker ended" else set()
            parent.send_signal(signal.SIGTERM)
            parent.communicate(timeout=60)
        finally:
            parent.kill()
        assert parent.returncode == 0
    assert codes == {0, 1}


def test_a_restart_under_load_loses_nothing_and_answers_nothing_twice(spawn):
    first = spawn("--reuse-port")
    load = Load(first.address)
    load.until(20)
    second = spawn("--reuse-port", "--port", first.port)  # the later flag counts
    assert first.stop(signal.SIGTERM) == 0
    load.until(len(load.answers) + 20)
    load.end()
    assert load.errors == []
    assert second.stop(signal.SIGTERM) == 0
    served = [
        line["request_id"]
        for server in (first, second)
        for line in server.lines
        if line["event"] == "call" and line["code"] == "OK"
    ]
    assert len(served) == len(set(served)) == len(load.answers)


def test_a_long_call_keeps_nobody_at_a_server_that_stops(start, loop, gate):
    old = start(reuse_port=True, drain_s=60.0)
    address = f"127.0.0.1:{old.port}"
    with (
        EscalationClient(address) as other,
        EscalationClient(address, timeout_s=60) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        assert other.predict("late").level == 1
        old.model.current = gate
        long = threads.submit(client.predict, "again")
        assert gate.entered.wait(10)
        start(reuse_port=True, port=old.port)
        stopping = threads.submit(loop.run, old.stop())
        while not old._stopping.done():
            time.sleep(0.01)
        assert other.predict("late").level == 1  # of the new one: the gate is shut
        assert not long.done()
        gate.open()
        assert long.result(20).level == 2
        stopping.result(20)


def test_sighup_loads_the_new_bundle_without_dropping_a_request(spawn, tmp_path):
    folder = write_tiny_bundle(tmp_path / "bundle")
    server = spawn("--model", folder)
    load = Load(server.address)
    load.until(20)
    before = {answer.model_version for answer in load.answers}
    shutil.rmtree(folder)
    another_bundle(folder)
    server.process.send_signal(signal.SIGHUP)
    loaded = server.wait_for("model loaded")
    load.until(len(load.answers) + 20)
    load.end()
    assert load.errors == []
    assert before == {loaded["old"]}
    assert load.answers[-1].model_version == loaded["new"]
    assert loaded["new"].startswith("other@")


def test_a_bad_bundle_leaves_the_old_one_serving(start, loop, bundle_dir, classifier):
    service = start(model=bundle_dir)
    (bundle_dir / "model.onnx").write_bytes(b"damaged")
    assert not loop.run(service.model.reload())
    with EscalationClient(f"127.0.0.1:{service.port}") as client:
        assert client.predict("late").model_version == classifier.model_version
    assert 'deesc_reloads_total{result="refused"} 1.0' in scrape(service.metrics_port)


def test_a_tokenizer_that_encodes_nothing_does_not_end_the_watch(
    start, bundle_dir, tmp_path, caplog
):
    service = start(model=bundle_dir, watch_s=0.05)
    tokenizer, manifest = bundle_dir / "tokenizer.json", bundle_dir / "manifest.json"
    whole, described = tokenizer.read_text(), manifest.read_text()
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[MISSING]"}
    tokenizer.write_text(json.dumps({**json.loads(whole), "model": model}))
    data = json.loads(described)
    data["files"]["tokenizer.json"] = file_sha256(tokenizer)
    manifest.write_text(json.dumps(data))
    for _ in range(1000):
        refused = [each.exc_info for each in caplog.records if each.msg == "new bundle refused"]
        if any("not a usable tokenizer" in str(error) for _, error, _ in refused):
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the bundle was never refused for its tokenizer")
    tokenizer.write_text(whole)
    manifest.write_text(json.dumps({**json.loads(described), "name": "other"}))
    for _ in range(1000):
        if service.model.current.bundle.manifest.name == "other":
            return
        time.sleep(0.01)
    raise AssertionError("the whole bundle was never loaded")


def test_a_panic_while_a_bundle_is_opened_does_not_end_the_watch(
    start, bundle_dir, monkeypatch, caplog
):
    class Panic(BaseException):
        """What a library in Rust raises when it breaks: no `Exception`."""

    def panic(*_, **__):
        raise Panic(MARK)

    service = start(model=bundle_dir, watch_s=0.05)
    manifest = json.loads((bundle_dir / "manifest.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(EscalationClassifier, "from_pretrained", panic)
        (bundle_dir / "manifest.json").write_text(json.dumps({**manifest, "name": "first"}))
        for _ in range(1000):
            if "new bundle refused" in caplog.text:
                break
            time.sleep(0.01)
    with EscalationClient(f"127.0.0.1:{service.port}") as client:
        assert client.predict("late").model_version.startswith("tiny@")
        (bundle_dir / "manifest.json").write_text(json.dumps({**manifest, "name": "second"}))
        for _ in range(1000):
            if service.model.current.bundle.manifest.name == "second":
                break
            time.sleep(0.01)
        assert client.predict("late").model_version.startswith("second@")
    refused = [record for record in caplog.records if record.msg == "new bundle refused"]
    assert {MARK in str(record.fields) for record in refused} == {False}


def test_a_bundle_that_changes_while_it_is_opened_is_refused(
    start, loop, bundle_dir, tmp_path, monkeypatch
):
    service = start(model=bundle_dir)
    serving = service.model.current
    other = another_bundle(tmp_path / "other", crowd=1.0)
    hashed = EscalationClassifier.__init__

    def open_another(self, *args, **options):
        shutil.copy(other / "model.onnx", bundle_dir)
        hashed(self, *args, **options)

    monkeypatch.setattr(EscalationClassifier, "__init__", open_another)
    assert not loop.run(service.model.reload())
    assert service.model.current is serving


def test_a_watched_folder_is_loaded_when_it_is_whole(start, bundle_dir, tmp_path):
    service = start(model=bundle_dir, watch_s=0.05)
    new = another_bundle(tmp_path / "new")
    manifest = (new / "manifest.json").read_text()
    (new / "manifest.json").unlink()
    (bundle_dir / "README.md").write_text("in the middle of copying")
    for _ in range(1000):
        if 'result="refused"' in scrape(service.metrics_port):
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the folder in the middle of copying was never refused")
    assert service.model.current.bundle.manifest.name == "tiny"
    for path in new.iterdir():
        shutil.copy(path, bundle_dir)
    (bundle_dir / "manifest.json").write_text(manifest)
    for _ in range(1000):
        if service.model.current.bundle.manifest.name == "other":
            break
        time.sleep(0.01)
    assert 'deesc_model_loaded{version="other@' in scrape(service.metrics_port)


def test_a_watched_token_file_is_read_again(start, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("first\n")
    service = start(token_file=path)
    path.write_text("the second\n")
    for _ in range(50):
        try:
            with EscalationClient(f"127.0.0.1:{service.port}", token="the second") as client:
                assert client.predict("late").triggers == ("delay",)
                return
        except DeescError:
            time.sleep(0.1)
    raise AssertionError("the new token was never accepted")


@contextlib.contextmanager
def starting_workers(bundle):
    """The parent of two workers that are there and do not serve yet."""
    command = [sys.executable, "-m", "serve.server", "--model", bundle, "--threads", "1"]
    command += ["--port", "0", "--metrics-port", "0", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        try:
            while len(children(parent)) < 2:
                assert parent.poll() is None
                time.sleep(0.005)
            yield parent
        finally:
            parent.kill()


def children(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def test_workers_share_a_port_and_one_that_dies_is_replaced(tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", tiny_bundle, "--threads", "1"]
    command += ["--port", "0", "--metrics-port", "0", "--workers", "2"]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = [json.loads(parent.stderr.readline()) for _ in range(2)]
        (port,) = {line["port"] for line in lines}
        assert len({line["metrics_port"] for line in lines}) == 2
        load = Load(f"127.0.0.1:{port}", clients=8)
        load.until(40)
        assert len(children(parent)) == 2
        os.kill(int(children(parent)[0]), signal.SIGKILL)
        while json.loads(parent.stderr.readline())["event"] != "serving":
            pass
        load.until(len(load.answers) + 40)
        load.end()
        parent.send_signal(signal.SIGTERM)
        _, rest = parent.communicate(timeout=60)
        assert parent.returncode == 0
        assert [json.loads(line)["event"] for line in rest.splitlines()].count("stopped") == 2
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_worker_that_cannot_be_started_again_is_tried_again(tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", tiny_bundle, "--threads", "1"]
    command += ["--port", "0", "--metrics-port", "0", "--workers", "2"]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(2):
            assert json.loads(parent.stderr.readline())["event"] == "serving"
        soft, hard = resource.prlimit(parent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (0, hard))
        os.kill(int(children(parent)[0]), signal.SIGKILL)
        said = json.loads(parent.stderr.readline())
        assert (said["event"], said["code"]) == ("a worker ended", -signal.SIGKILL)
        said = json.loads(parent.stderr.readline())
        assert said["event"] == "a worker could not be started"
        assert "Too many open files" in said["reason"]
        resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (soft, hard))
        while json.loads(parent.stderr.readline())["event"] != "serving":
            pass
        parent.send_signal(signal.SIGTERM)
        parent.communicate(timeout=60)
        assert parent.returncode == 0
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_workers_told_to_stop_while_they_start_end_well(tiny_bundle):
    with starting_workers(tiny_bundle) as parent:
        parent.send_signal(signal.SIGTERM)
        parent.communicate(timeout=60)
    assert parent.returncode == 0


def test_workers_end_with_a_parent_that_is_killed(tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", tiny_bundle, "--threads", "1"]
    command += ["--port", "0", "--metrics-port", "0", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        try:
            for _ in range(2):
                assert json.loads(parent.stderr.readline())["event"] == "serving"
        finally:
            parent.kill()
        _, rest = parent.communicate(timeout=60)  # ends when the last worker closes the pipe
    assert [json.loads(line)["event"] for line in rest.splitlines()].count("stopped") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_it_cannot_start_with_is_one_line(workers, tmp_path):
    command = [sys.executable, "-m", "serve.server", "--port", "0", "--metrics-port", "0"]
    command += ["--model", str(tmp_path / "nothing"), "--workers", str(workers)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    lines = set(result.stderr.splitlines())
    assert lines == {f"error: no bundle at {tmp_path / 'nothing'}: the folder does not exist"}


def test_workers_that_cannot_be_started_are_one_line(tiny_bundle):
    begin = "import sys; from serve.server import main; sys.executable = '/nowhere/python'; main()"
    command = [sys.executable, "-c", begin, "--model", tiny_bundle, "--port", "0"]
    command += ["--workers", "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --workers 2: cannot start them")
    assert "/nowhere/python" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_it_stops_with_standard_input(workers, tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", tiny_bundle, "--threads", "1"]
    command += ["--port", "0", "--metrics-port", "0", "--workers", str(workers)]
    command += ["--stop-with-stdin"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            for _ in range(workers):
                assert json.loads(server.stderr.readline())["event"] == "serving"
            server.stdin.write("not the end\n")
            server.stdin.flush()
            time.sleep(0.5)
            closed = datetime.now(UTC)
            _, rest = server.communicate(timeout=30)  # closes its input
        finally:
            server.kill()
    assert server.returncode == 0
    lines = [json.loads(line) for line in rest.splitlines()]
    assert [line["event"] for line in lines].count("stopped") == workers
    begun = [line["time"] for line in lines if line["event"] == "stopping"]
    assert min(map(datetime.fromisoformat, begun)) > closed - timedelta(milliseconds=1)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stdin", [os.devnull, __file__, None])
def test_a_standard_input_without_an_end_to_wait_for_is_refused(workers, stdin, tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", tiny_bundle, "--port", "0"]
    command += ["--metrics-port", "0", "--workers", str(workers), "--stop-with-stdin"]
    close = ["sh", "-c", 'exec "$@" <&-', "sh"] if stdin is None else []
    with Path(stdin or os.devnull).open() as source:
        result = subprocess.run(
            [*close, *command], stdin=source, capture_output=True, text=True, timeout=60
        )
    assert result.returncode == 1
    assert result.stderr == (
        "error: --stop-with-stdin waits for the end of a pipe, and standard input is a file or"
        " closed\n"
    )


def test_a_port_that_is_taken_is_said(shared, tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--model", str(tiny_bundle)]
    for taken, said in (
        (["--port", str(shared.port), "--metrics-port", "0"], "127.0.0.1:"),
        (
            ["--port", "0", "--metrics-port", str(shared.metrics_port)],
            f"--metrics-port {shared.metrics_port} of 127.0.0.1: Address already in use; every"
            " server needs its own",
        ),
    ):
        result = subprocess.run([*command, *taken], capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1].startswith(f"error: {said}")
        assert "Traceback" not in result.stderr


def metric(text, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_calls_batches_levels_and_the_queue(start, gate):
    service = start()
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        for text in ("late", "idiot", "late"):
            stub.Predict(pb.PredictRequest(utterance=pb.Turn(text=text)))
        with pytest.raises(grpc.RpcError):
            stub.Predict(pb.PredictRequest())
        service.model.current = gate
        fine = pb.PredictRequest(utterance=pb.Turn(text="fine"))
        calls = [stub.Predict.future(fine)]
        assert gate.entered.wait(10)  # it is computed alone; what comes now waits
        calls += [stub.Predict.future(fine) for _ in range(2)]
        for _ in range(1000):
            text = scrape(service.metrics_port)
            if metric(text, "deesc_waiting") == 2:
                break
            time.sleep(0.01)
        gate.open()
        for call in calls:
            call.result(30)
    method = 'method="/deesc.v1.EscalationService/Predict"'
    assert metric(text, f'deesc_calls_total{{code="OK",{method}}}') == 3
    assert metric(text, f'deesc_calls_total{{code="INVALID_ARGUMENT",{method}}}') == 1
    assert metric(text, f"deesc_call_seconds_count{{{method}}}") == 3
    assert metric(text, 'deesc_predictions_total{level="concerned"}') == 2
    assert metric(text, 'deesc_predictions_total{level="abusive"}') == 1
    assert metric(text, "deesc_waiting") == 2
    assert metric(scrape(service.metrics_port), 'deesc_batch_size_bucket{le="2.0"}') == 5


def test_streams_are_counted_but_not_timed(start):
    service = start()
    with EscalationClient(f"127.0.0.1:{service.port}") as client:
        assert len(list(client.monitor_conversation(["late"]))) == 1
    method = 'method="/deesc.v1.EscalationService/MonitorConversation"'
    text = scrape(service.metrics_port)
    assert metric(text, f'deesc_calls_total{{code="OK",{method}}}') == 1
    assert f"deesc_call_seconds_count{{{method}}}" not in text


def test_no_text_gets_into_logs_or_metrics(spawn):
    server = spawn("--log-level", "debug", "--max-characters", 200)
    turn = pb.Turn(text=f"{MARK} is late")
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        good = pb.PredictRequest(utterance=turn)
        stub.Predict(good)
        stub.PredictBatch(pb.PredictBatchRequest(requests=[good, good]))
        stub.PredictConversation(pb.PredictConversationRequest(turns=[turn] * 3))
        list(stub.MonitorConversation(iter([pb.MonitorConversationRequest(turn=turn)])))
        raw = good.SerializeToString()
        for bad in (
            pb.PredictRequest(utterance=pb.Turn(text=f"{MARK}\0")).SerializeToString(),
            pb.PredictRequest(utterance=pb.Turn(text=MARK * 100)).SerializeToString(),
            pb.PredictRequest(utterance=pb.Turn(text=MARK, speaker=8)).SerializeToString(),
            raw[:-1] + b"\xff",
            MARK.encode(),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/deesc.v1.EscalationService/Predict")(bad)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert MARK not in str(caught.value)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{MARK}/Predict")(raw)
        metrics = scrape(server.metrics_port)
    server.stop()
    log = json.dumps(server.lines)
    assert '"code": "OK"' in log
    assert '"code": "INVALID_ARGUMENT"' in log
    assert MARK not in log + metrics


def test_no_caller_can_make_grpc_write_lines_of_its_own(spawn):
    server = spawn()
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/grpc.health.v1.Health/Check")(
            b"late" * 100, compression=grpc.Compression.Gzip
        )
    assert server.stop() == 0  # and every line was JSON


def header(name, value):
    """A literal header without indexing (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def test_bytes_of_a_callers_that_are_no_text_are_not_in_the_log(spawn):
    server = spawn()
    secret = header(b"authorization", b"Bearer " + MARK.encode() + b"\xff")
    for path, more in (
        (b"/deesc.v1.EscalationService/Predict", secret),
        (b"/\xff" + MARK.encode(), b""),
    ):
        names = header(b"content-type", b"application/grpc") + header(b"te", b"trailers")
        first = b"\x83\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x01a" + names + more
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
            caller.sendall(frame(1, 5, 1, first))
            caller.settimeout(10)
            answer = b""
            while b"grpc-status" not in answer and b"pc-status" not in answer:
                answer += (more := caller.recv(65536))
                assert more
    with grpc.insecure_channel(server.address) as channel:  # and it serves on
        pb_grpc.EscalationServiceStub(channel).GetModelInfo(pb.GetModelInfoRequest(), timeout=10)
    assert server.stop() == 0
    log = json.dumps(server.lines)
    assert MARK not in log
    assert "Invalid encoding" not in log


def test_a_signal_that_comes_before_it_serves_is_heard(tiny_bundle):
    command = [sys.executable, "-m", "serve.server", "--port", "0", "--model", tiny_bundle]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1):
        assert process.poll() is None
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert (process.returncode, log) == (0, "")


def test_a_server_whose_grpc_ends_by_itself_ends(tiny_bundle, monkeypatch, caplog):
    begin = Service.start

    async def begin_and_break(service):
        await begin(service)
        await service._server.stop(None)

    monkeypatch.setattr(Service, "start", begin_and_break)
    with pytest.raises(SystemExit) as caught:
        asyncio.run(run(Settings(port=0, metrics_port=0, threads=1, model=tiny_bundle)))
    assert caught.value.code == ENDED_BY_ITSELF
    assert "gRPC ended by itself" in caplog.messages


def test_what_a_caller_invents_is_no_name_of_a_metric(start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    service = start(token_file=tokens)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{MARK}/Predict")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert MARK not in scrape(service.metrics_port)


def test_request_ids_are_the_callers_or_new_ones(spawn):
    server = spawn()
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        for sent in ("order-7714", "not a plain\x7eid!" * 9):
            _, call = stub.GetModelInfo.with_call(
                pb.GetModelInfoRequest(), metadata=(("x-request-id", sent),)
            )
            returned = dict(call.trailing_metadata())["x-request-id"]
            assert (returned == sent) == (sent == "order-7714")
    server.stop()
    served = [line["request_id"] for line in server.lines if line["event"] == "call"]
    assert served[0] == "order-7714"
    assert len(served) == len(set(served)) == 2


def test_a_call_becomes_a_span_of_the_callers_trace(start):
    trace = pytest.importorskip("opentelemetry.trace", reason="optional: opentelemetry-sdk")
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="optional: opentelemetry-sdk")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    exporter, provider = memory.InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(sdk.export.SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with grpc.insecure_channel(f"127.0.0.1:{start().port}") as channel:
        pb_grpc.EscalationServiceStub(channel).Predict(
            pb.PredictRequest(utterance=pb.Turn(text="late")), metadata=(("traceparent", parent),)
        )
    (span,) = exporter.get_finished_spans()
    assert span.name == "deesc.v1.EscalationService/Predict"
    assert f"{span.context.trace_id:x}" == parent.split("-")[1].lstrip("0")
    assert f"{span.parent.span_id:x}" == parent.split("-")[2]


def test_it_serves_where_no_priority_may_be_set(start, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setpriority", refuse)
    with EscalationClient(f"127.0.0.1:{start().port}") as client:
        assert client.predict("late").level == 1


def test_too_many_calls_of_one_connection_wait_their_turn(start, gate):
    service = start(max_streams=2)
    service.model.current = gate
    with (
        EscalationClient(f"127.0.0.1:{service.port}") as client,
        ThreadPoolExecutor(6) as threads,
    ):
        client.model_info()  # the connection has told its limit
        calls = [threads.submit(client.predict, "late") for _ in range(6)]
        assert gate.entered.wait(10)
        time.sleep(0.2)
        assert service.batcher.depth <= 1
        gate.open()
        assert all(call.result(30).level == 1 for call in calls)


def test_a_connection_that_went_silent_is_closed(start):
    service = start(keepalive_s=1)
    silent, ended = threading.Event(), threading.Event()

    def forward(source, target, noticed=None):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not silent.is_set():  # as if a cable were pulled: nobody hears of the end
                    target.sendall(data)
        if noticed:
            noticed.set()

    with (
        socket.create_server(("127.0.0.1", 0)) as middle,
        ThreadPoolExecutor(3) as threads,
        EscalationClient(f"127.0.0.1:{middle.getsockname()[1]}") as client,
    ):
        answer = threads.submit(client.predict, "late")
        near, _ = middle.accept()
        with near, socket.create_connection(("127.0.0.1", service.port)) as far:
            threads.submit(forward, near, far)
            threads.submit(forward, far, near, ended)
            assert answer.result(20).level == 1
            silent.set()
            closed = ended.wait(20)
            for end in (near, far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # frees both threads
        assert closed


@contextlib.contextmanager
def counted_connections(port):
    """A socket that hands on what comes to a port; yields its own, and a list of connections."""
    connections = []

    def forward(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):  # what ends on one side ends on the other, and frees both
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept():
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = middle.accept()
                far = socket.create_connection(("127.0.0.1", port))
                connections.append((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as middle:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield middle.getsockname()[1], connections
        finally:
            with contextlib.suppress(OSError):
                middle.shutdown(socket.SHUT_RDWR)  # or `accept` would wait on
            accepting.join(20)
            for end in itertools.chain.from_iterable(connections):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


def test_an_old_connection_is_renewed_without_an_error(start):
    service = start(max_connection_age_s=1)
    with (
        counted_connections(service.port) as (port, connections),
        EscalationClient(f"127.0.0.1:{port}") as client,
    ):
        ends = time.monotonic() + 30
        while len(connections) < 3:
            assert time.monotonic() < ends
            assert client.predict("late").level == 1
            time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="others have one address of their own only")
@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_metrics_are_told_at_the_address_that_is_set(start):
    service = start(metrics_host="127.0.0.2")
    with urllib.request.urlopen(
        f"http://127.0.0.2:{service.metrics_port}/metrics", timeout=10
    ) as reply:
        assert b"deesc_calls" in reply.read()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.metrics_port), timeout=10)


@pytest.mark.parametrize("settings", [{"max_connection_age_s": 1}, {"max_connection_age_s": 0}])
def test_a_live_conversation_outlasts_its_connection(start, settings):
    service = start(**settings, drain_s=0.1)

    def say():
        for _ in range(6):
            yield "late"
            time.sleep(0.4)

    with EscalationClient(f"127.0.0.1:{service.port}") as client:
        assert len(list(client.monitor_conversation(say()))) == 6
