"""Real servers on loopback sockets, in this process or in one of their own."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from deesc_model import EscalationClassifier
from deesc_model._proto import escalation_pb2_grpc as pb_grpc
from serve.config import Settings
from serve.server import Service

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(port=0, metrics_port=0, threads=1)


class Loop:
    """One event loop in a thread, for everything of grpc.aio in this process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any, timeout_s: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def start(loop: Loop, tiny_bundle: Path) -> Iterator[Callable[..., Service]]:
    """Start a server with settings of the test's own; all are stopped at its end."""
    running: list[Service] = []

    def start(**changes: Any) -> Service:
        service = Service(replace(SETTINGS, **{"model": tiny_bundle, "drain_s": 2.0, **changes}))
        loop.run(service.start())
        running.append(service)
        return service

    yield start
    for service in running:
        loop.run(service.stop())


@pytest.fixture(scope="session")
def shared(loop: Loop, tiny_bundle: Path) -> Iterator[Service]:
    """A server with default settings for tests that leave it as it is."""
    service = Service(replace(SETTINGS, model=tiny_bundle, drain_s=2.0))
    loop.run(service.start())
    yield service
    loop.run(service.stop())


@pytest.fixture
def channel(shared: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> pb_grpc.EscalationServiceStub:
    return pb_grpc.EscalationServiceStub(channel)


class Gate:
    """A classifier that waits for `open`, and remembers what it was asked."""

    def __init__(self, classifier: EscalationClassifier) -> None:
        self._classifier = classifier
        self._open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def predict_batch(self, turns: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        self.batches.append([turn.text for turn in turns])
        self.entered.set()
        assert self._open.wait(20)
        return self._classifier.predict_batch(turns, *args, **kwargs)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(classifier: EscalationClassifier) -> Iterator[Gate]:
    gate = Gate(classifier)
    yield gate
    gate.open()


class Process:
    """A server as users start it; `lines` are its log so far."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "serve.server", "--port", "0", "--metrics-port", "0"]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.lines: list[dict[str, Any]] = []
        self._coming: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            serving = self.wait_for("serving")
        except BaseException:
            self.end()
            raise
        self.address = f"127.0.0.1:{serving['port']}"
        self.port, self.metrics_port = serving["port"], serving["metrics_port"]

    def _read(self) -> None:
        """Read all the time, and all of it: a server stops at a pipe that is full."""
        assert self.process.stderr is not None
        with self.process.stderr as log:
            for text in log:
                self._coming.put(text)
        self._coming.put("")

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log until an event."""
        while text := self._coming.get(timeout=60):
            self.lines.append(json.loads(text))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"the server ended before {event!r}: {self.lines}")

    def stop(self, number: int = 15) -> int:
        """Send a signal, read the rest of the log, return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        while text := self._coming.get(timeout=60):
            self.lines.append(json.loads(text))
        return code

    def end(self) -> None:
        """End it, whatever it does; its log is closed by the thread that reads it."""
        self.process.kill()
        self.process.wait(timeout=60)
        self._reader.join(timeout=60)


@pytest.fixture
def spawn(tiny_bundle: Path) -> Iterator[Callable[..., Process]]:
    """Start a server in a process of its own; all are ended with the test."""
    with contextlib.ExitStack() as stack:

        def spawn(*arguments: object) -> Process:
            process = Process("--model", tiny_bundle, "--threads", 1, *arguments)
            stack.callback(process.end)
            return process

        yield spawn
