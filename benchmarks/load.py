"""An asyncio load generator: closed loops that wait for answers, open loops that do not.

It only ever calls the loopback address, and ends after the seconds it is given.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

from deesc_model._proto import escalation_pb2 as pb
from deesc_model._proto import escalation_pb2_grpc as pb_grpc
from deesc_model.messages import predict_request
from deesc_model.records import Record, read_records

CONNECTIONS: Final = 8
"""Connections that an open loop spreads its calls over, as several clients would."""

OPTIONS: Final = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
"""Every answer counts, and each channel has a connection of its own, as a client has."""


@dataclass
class Tally:
    """What came back in one run: milliseconds by status, and how long it took."""

    seconds: float = 0.0
    ms: dict[str, list[float]] = field(default_factory=dict)
    late: int = 0

    def add(self, code: str, ms: float) -> None:
        """Count one answer."""
        self.ms.setdefault(code, []).append(ms)

    def percentile(self, percent: float, code: str = "OK") -> float:
        """Return a percentile of the milliseconds of a status that came back at least once."""
        return float(np.percentile(self.ms[code], percent))

    @property
    def rate(self) -> float:
        """Return predictions per second."""
        return len(self.ms.get("OK", ())) / self.seconds

    def summary(self) -> dict[str, Any]:
        """Return the figures that are printed."""
        by_code = {
            code: {
                "count": len(values),
                "p50_ms": round(self.percentile(50, code), 3),
                "p99_ms": round(self.percentile(99, code), 3),
            }
            for code, values in sorted(self.ms.items())
        }
        return {"per_s": round(self.rate, 1), **by_code}


def requests_of(corpus: Path, count: int = 500) -> list[pb.PredictRequest]:
    """Return requests for customers' turns of our corpus, in context; the same ones each time."""
    found = []
    for path in sorted(corpus.glob("*.jsonl")):
        with path.open(encoding="utf-8") as stream:
            for record in read_records(stream, "jsonl", context_turns=2):
                if isinstance(record, Record) and record.turn.speaker == "customer":
                    found.append(predict_request(record.turn, record.context))
    return random.Random(4).sample(found, count)  # noqa: S311 - no secret


async def _call(stub: Any, request: pb.PredictRequest, tally: Tally, timeout_s: float) -> None:
    started = time.perf_counter()
    try:
        await stub.Predict(request, timeout=timeout_s)
        code = "OK"
    except grpc.aio.AioRpcError as error:
        code = error.code().name
    tally.add(code, (time.perf_counter() - started) * 1000)


async def closed_loop(
    port: int, requests: Sequence[pb.PredictRequest], *, clients: int, seconds: float
) -> Tally:
    """Let each client ask again as soon as it has its answer."""
    tally, source = Tally(), itertools.cycle(requests)
    ends = time.perf_counter() + seconds

    async def client(source: Iterator[pb.PredictRequest]) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) as channel:
            stub = pb_grpc.EscalationServiceStub(channel)
            while time.perf_counter() < ends:
                await _call(stub, next(source), tally, 30)

    started = time.perf_counter()
    await asyncio.gather(*(client(source) for _ in range(clients)))
    tally.seconds = time.perf_counter() - started
    return tally


async def open_loop(
    port: int, requests: Sequence[pb.PredictRequest], *, rate: float, seconds: float
) -> Tally:
    """Ask `rate` times a second, whatever comes back; arrivals are Poisson."""
    tally, source = Tally(), itertools.cycle(requests)
    arrivals = random.Random(4)  # noqa: S311 - no secret
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) for _ in range(CONNECTIONS)]
    stubs = itertools.cycle([pb_grpc.EscalationServiceStub(channel) for channel in channels])
    calls: set[asyncio.Task[None]] = set()
    started = due = time.perf_counter()
    while due < started + seconds:
        pause = due - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        elif pause < -0.1:  # the generator itself cannot keep up: say so
            tally.late += 1
        task = asyncio.create_task(_call(next(stubs), next(source), tally, 10))
        calls.add(task)
        task.add_done_callback(calls.discard)
        due += arrivals.expovariate(rate)
    if calls:
        await asyncio.wait(calls)
    tally.seconds = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return tally
