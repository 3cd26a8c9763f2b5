"""Load the server on this machine and print its figures.

    python -m benchmarks.serve batching --seconds 10
    python -m benchmarks.serve all --seconds 60 --soak-seconds 600 --out benchmarks

Scenarios: `latency` (one client, beside `predict` in process), `batching` (on and off),
`overload` (four times capacity), `soak` (memory), `handover` (restart and reload under load).
Generator and server share the machine's cores, so capacity is lower than with clients elsewhere;
what counts are the ratios, each measured in one run.
"""

import argparse
import asyncio
import contextlib
import datetime
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.echo import bare_call
from benchmarks.load import Tally, closed_loop, open_loop, requests_of
from benchmarks.machine import machine
from benchmarks.section import write_section
from benchmarks.serve_report import BATCH, section_of
from deesc_model import EscalationClassifier, ServiceError
from deesc_model._proto import escalation_pb2 as pb
from deesc_model.bundle import default_bundle_path, read_bundle
from deesc_model.client import AsyncEscalationClient, EscalationClient
from deesc_model.messages import SPEAKER_NAMES
from deesc_model.types import Turn

ROOT: Final = Path(__file__).parents[1]
Figures = dict[str, Any]

TURNS: Final = 5
"""How often servers that are compared take turns."""


class Server:
    """A server process on a free port of the loopback address."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._log = folder / f"server-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "serve.server", "--port", "0", "--metrics-port", "0"]
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                [*command, *map(str, arguments)], stderr=stream, cwd=ROOT
            )
        self.port: int = self.wait_for("serving")["port"]

    def lines(self) -> list[dict[str, Any]]:
        """Return the log so far."""
        text = self._log.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the first line of an event, if it comes within a minute."""
        ends = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < ends:
            for line in self.lines():
                if line["event"] == event:
                    return line
            time.sleep(0.05)
        log = self._log.read_text(encoding="utf-8")
        raise SystemExit(f"the server ended or did not log {event!r}: {log}")

    def resident_mb(self) -> float:
        """Return the memory that the process holds."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Let it drain, and wait for its end; twice does no harm."""
        self.send(signal.SIGTERM)
        self._process.wait(60)


class Bench:
    """The scenarios; each returns its figures.

    Args:
        bundle: The bundle that is served.
        seconds: Length of a measurement.
        soak_seconds: Length of the soak.
        clients: Clients of the closed loops.
        folder: For logs and bundles, thrown away.
    """

    def __init__(
        self, bundle: Path, seconds: float, soak_seconds: float, clients: int, folder: Path
    ) -> None:
        self._bundle, self._clients, self._folder = bundle, clients, folder
        self._seconds, self._soak_seconds = seconds, soak_seconds
        self._requests = requests_of(ROOT / "data" / "corpus")

    def latency(self) -> Figures:
        """One client, turn about with `predict` in this process on the same text.

        An empty call shows what any call costs, whatever the model does; one to a bare server
        that only echoes, what gRPC costs.
        """
        classifier = EscalationClassifier.from_pretrained(self._bundle)
        spent: dict[str, list[float]] = {
            "in_process": [],
            "call": [],
            "empty_call": [],
            "bare_call": [],
        }

        def timed(kind: str, action: Callable[[], object]) -> None:
            started = time.perf_counter()
            action()
            spent[kind].append((time.perf_counter() - started) * 1000)

        with (
            self._server() as server,
            EscalationClient(f"127.0.0.1:{server.port}") as client,
            bare_call() as echo,
        ):
            ends = time.perf_counter() + self._seconds
            for request in itertools.cycle(self._requests):
                if time.perf_counter() > ends:
                    break
                turn, context = _turns(request)
                timed("in_process", partial(classifier.predict, turn, context))
                timed("call", partial(client.predict, turn, context))
                timed("empty_call", client.model_info)
                timed("bare_call", partial(echo, b""))
        median = {kind: statistics.median(values) for kind, values in spent.items()}
        over = statistics.median(
            call - here for call, here in zip(spent["call"], spent["in_process"], strict=True)
        )
        shown = {f"{kind}_p50_ms": round(value, 3) for kind, value in median.items()}
        return {"calls": len(spent["call"]), **shown, "over_p50_ms": round(over, 3)}

    def batching(self) -> Figures:
        """The same clients with batching on and off, in turns; and the network's own gain."""
        found: Figures = {}
        tallies: dict[str, list[Tally]] = {"on": [], "off": []}
        with self._server() as on, self._server("--max-batch", 1) as off:
            for round_ in range(TURNS + 1):
                for name, server in (("on", on), ("off", off)):
                    tally = self._closed(server, seconds=self._seconds / TURNS)
                    if round_:  # the first warms up
                        tallies[name].append(tally)
        for name, each in tallies.items():
            found[name] = sorted(each, key=lambda tally: tally.rate)[TURNS // 2].summary()
        ratios = (on.rate / off.rate for on, off in zip(*tallies.values(), strict=True))
        found["ratio"] = round(statistics.median(ratios), 2)
        found["in_process_ratio"] = self._in_process_ratio()
        return found

    def _in_process_ratio(self) -> float:
        """Return what batches give over one text at a time without a server."""
        classifier = EscalationClassifier.from_pretrained(self._bundle)
        turns, contexts = zip(*map(_turns, self._requests), strict=True)
        ratios = []
        for start in range(0, len(turns) - BATCH, BATCH):
            chosen = slice(start, start + BATCH)
            begun = time.perf_counter()
            for turn, context in zip(turns[chosen], contexts[chosen], strict=True):
                classifier.predict(turn, context)
            between = time.perf_counter()
            classifier.predict_batch(turns[chosen], contexts[chosen])
            ratios.append((between - begun) / (time.perf_counter() - between))
        return round(statistics.median(ratios), 2)

    def overload(self) -> Figures:
        """Offer nine tenths of capacity, as no queue is steady at all of it, then four times."""
        with self._server() as server:
            capacity = self._closed(server).rate
            below = self._open(server, rate=0.9 * capacity)
            before = server.resident_mb()
            over = self._open(server, rate=4 * capacity)
            after = server.resident_mb()
        ratio = over.percentile(99) / below.percentile(99)
        return {
            "capacity_per_s": round(capacity, 1),
            "at_nine_tenths": below.summary(),
            "at_four_times": over.summary(),
            "late_sends": over.late,
            "p99_ratio": round(ratio, 2),
            "memory_mb": [round(before, 1), round(after, 1)],
        }

    def soak(self) -> Figures:
        """Half of capacity; memory after a tenth of the time against memory at the end."""
        with self._server() as server:
            capacity = self._closed(server, seconds=2).rate
            self._open(server, rate=capacity / 2, seconds=self._soak_seconds / 10)
            before = server.resident_mb()
            tally = self._open(server, rate=capacity / 2, seconds=self._soak_seconds * 0.9)
            after = server.resident_mb()
        growth = round((after / before - 1) * 100, 2)
        memory = [round(before, 1), round(after, 1)]
        return {**tally.summary(), "memory_mb": memory, "growth_percent": growth}

    def handover(self) -> Figures:
        """Reload, then restart on the same port, under load; the client tries again as it does."""
        folder = self._folder / "reloaded"
        shutil.copytree(self._bundle, folder)
        first = Server(self._folder, "--model", folder, "--reuse-port")
        servers = [first]

        def hand_over() -> None:
            first.send(signal.SIGHUP)
            first.wait_for("model loaded")
            port = ("--reuse-port", "--port", first.port)
            servers.append(Server(self._folder, "--model", folder, *port))
            first.stop()

        try:
            answered, lost = asyncio.run(self._during(first.port, hand_over))
        finally:
            for server in servers:
                server.stop()
        served = [
            line["request_id"]
            for server in servers
            for line in server.lines()
            if line["event"] == "call" and line["code"] == "OK"
        ]
        return {
            "answered": answered,
            "lost": lost,
            "duplicated": len(served) - len(set(served)) + max(0, len(served) - answered),
        }

    async def _during(self, port: int, action: Callable[[], None]) -> tuple[int, int]:
        """Ask from many clients until `action` is over and some more."""
        over = asyncio.Event()
        answered = lost = 0

        async def client() -> None:
            nonlocal answered, lost
            async with AsyncEscalationClient(f"127.0.0.1:{port}") as each:
                while not over.is_set():
                    try:
                        await each.predict("the parcel is late")
                        answered += 1
                    except ServiceError:
                        lost += 1

        clients = [asyncio.create_task(client()) for _ in range(self._clients)]
        await asyncio.sleep(self._seconds / 4)
        await asyncio.to_thread(action)
        await asyncio.sleep(self._seconds / 4)
        over.set()
        await asyncio.gather(*clients)
        return answered, lost

    @contextlib.contextmanager
    def _server(self, *arguments: object) -> Iterator[Server]:
        server = Server(self._folder, "--model", self._bundle, *arguments)
        try:
            yield server
        finally:
            server.stop()

    def _closed(
        self, server: Server, *, clients: int | None = None, seconds: float | None = None
    ) -> Tally:
        work = closed_loop(
            server.port,
            self._requests,
            clients=clients or self._clients,
            seconds=seconds or self._seconds,
        )
        return asyncio.run(work)

    def _open(self, server: Server, *, rate: float, seconds: float | None = None) -> Tally:
        work = open_loop(server.port, self._requests, rate=rate, seconds=seconds or self._seconds)
        return asyncio.run(work)


def _turns(request: pb.PredictRequest) -> tuple[Turn, list[Turn]]:
    turn, *context = (
        Turn(SPEAKER_NAMES[each.speaker], each.text)
        for each in (request.utterance, *request.context)
    )
    return turn, context


SCENARIOS: Final = ("latency", "batching", "overload", "soak", "handover")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the scenarios asked for and print their figures."""
    parser = argparse.ArgumentParser(description="Load the gRPC server on this machine.")
    parser.add_argument("scenario", nargs="?", default="all", choices=("all", *SCENARIOS))
    parser.add_argument("--model", type=Path, default=default_bundle_path(), help="a bundle")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a measurement")
    parser.add_argument("--soak-seconds", type=float, default=60.0, help="length of the soak")
    parser.add_argument("--clients", type=int, default=16, help="clients of a closed loop")
    parser.add_argument("--out", type=Path, help="folder for serve.json and its README's section")
    chosen = parser.parse_args(arguments)
    if chosen.out:  # now, not after minutes of measuring
        chosen.out.mkdir(parents=True, exist_ok=True)
    names = SCENARIOS if chosen.scenario == "all" else (chosen.scenario,)
    figures: Figures = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": machine(),
        "model_version": read_bundle(chosen.model).manifest.model_version,
        "clients": chosen.clients,
        "seconds": chosen.seconds,
        "soak_seconds": chosen.soak_seconds,
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            chosen.model, chosen.seconds, chosen.soak_seconds, chosen.clients, Path(folder)
        )
        for name in names:
            figures[name] = getattr(bench, name)()
            print(json.dumps({name: figures[name]}, indent=1), flush=True)
    section = section_of(figures)
    print(section)
    if chosen.out:
        text = json.dumps(figures, indent=1) + "\n"
        (chosen.out / "serve.json").write_text(text, encoding="utf-8")
        if (document := chosen.out / "README.md").is_file():
            write_section(document, "make bench-serve", section)


if __name__ == "__main__":
    main()
