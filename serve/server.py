"""Start, run and stop the service.

python -m serve.server --help
"""

import signal

if __name__ == "__main__":  # before the imports below, a second in which it would end the server
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

import asyncio
import contextlib
import logging
import sys

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from deesc_model import DeescError
from deesc_model._proto import escalation_pb2_grpc
from serve import standard_input
from serve.auth import Tokens
from serve.batching import Batcher
from serve.config import MOST, Settings, parse
from serve.errors import ConfigError
from serve.generated import open_inference_pb2, open_inference_pb2_grpc
from serve.health import HealthServicer
from serve.inference_protocol import InferenceServicer
from serve.interceptor import CallInterceptor
from serve.logs import log, set_up
from serve.metrics import Metrics
from serve.reload import Model
from serve.servicer import SERVICE, EscalationServicer
from serve.tls import CertificateFiles, certificate_files
from serve.workers import run_workers

LULL_S = 0.3
"""Time between the last answer and the end of the connections."""

CALLS_CUT = 1
"""Exit code where accepted calls were not answered within `drain_s`."""

ENDED_BY_ITSELF = 70
"""Exit code where gRPC ended untold; not 1, by which a worker says that it cannot start."""

PATIENCE_S = 0.4
"""Longest wait for that answer before other clients are sent to another server; with `LULL_S` below
what refused callers wait."""


class Service:
    """The server with everything around it.

    Attributes:
        port: Where it listens, known after `start`.
        metrics_port: Where the metrics are, known after `start`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = self.metrics_port = 0

    async def start(self) -> None:
        """Load the model and listen.

        Raises:
            BundleError: The bundle cannot be used.
            ConfigError: A file of certificates or tokens cannot be used, or a port is taken.
        """
        settings = self.settings
        self._tokens = Tokens(settings.token_file) if settings.token_file else None
        self._refused = ""
        self._certificates = certificate_files(settings)
        credentials = self._certificates and self._certificates.credentials()
        self._metrics = Metrics()
        self.model = Model(settings.model, settings.threads, self._metrics)
        self.batcher = Batcher(
            lambda: self.model.current,
            max_batch=settings.max_batch,
            max_load=settings.max_load,
            observe_batch=self._metrics.batch,
            observe_predictions=self._metrics.predictions,
        )
        self._metrics.watch_queue(lambda: self.batcher.depth)
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls = CallInterceptor(
            self._metrics, self._tokens, self._stopping, self.batcher.admit
        )
        self._server = grpc.aio.server(interceptors=[self._calls], options=_options(settings))
        self._add_services()
        address = f"{settings.host}:{settings.port}"
        if ":" in settings.host:
            address = f"[{settings.host}]:{settings.port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ConfigError(f"{address} cannot be listened on: {error}") from None
        self.metrics_port = self._metrics.listen(settings.metrics_host, settings.metrics_port)
        await self._server.start()
        self._watches = []
        if self._tokens:
            self._watches.append(asyncio.create_task(self._watch_tokens()))
        if self._certificates:
            self._watches.append(asyncio.create_task(self._watch_certificates(self._certificates)))
        if settings.watch_s > 0:
            self._watches.append(asyncio.create_task(self.model.watch(settings.watch_s)))
        log(
            logging.INFO,
            "serving",
            address=settings.host,
            port=self.port,
            metrics_port=self.metrics_port,
            model=self.model.current.model_version,
        )

    async def ended(self) -> None:
        """Wait until gRPC serves no more, whoever ended it."""
        await self._server.wait_for_termination()

    async def stop(self) -> int:
        """Refuse new calls, answer the accepted ones, then stop; a second time does nothing.

        Returns:
            How many accepted calls were cut, as they took longer than `drain_s`.
        """
        if self._stopping.done():
            return 0
        self._stopping.set_result(None)
        log(logging.INFO, "stopping")
        self._health.stop()
        for task in self._watches:
            task.cancel()
        # New calls are refused by hand at first: gRPC answers what comes while it closes with
        # CANCELLED, which no client tries again. It is told to close when nothing comes any more,
        # and before those refused come again: clients connect anew only when it closes.
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.settings.drain_s
        await self._quiet(min(self.settings.drain_s, PATIENCE_S))
        await asyncio.sleep(LULL_S)
        # Longer than is waited below, so that what is cut is cut, and counted, there.
        grace_s = self.settings.drain_s + 2 * LULL_S
        closing = asyncio.create_task(self._server.stop(grace_s))
        await self._quiet(ends - loop.time())
        await asyncio.wait((closing,), timeout=LULL_S)  # unless a health watch is open
        cut = self._calls.active
        if cut:
            log(logging.WARNING, "calls were cut", count=cut, drain_s=self.settings.drain_s)
        await self._server.stop(None)
        await closing
        self._calls.close()
        await self.batcher.close()
        await asyncio.to_thread(self._metrics.close)
        log(logging.INFO, "stopped")
        return cut

    async def _quiet(self, longest_s: float) -> None:
        """Wait until every call has been answered, but no longer than told."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._calls.quiet(), longest_s)

    async def reload(self) -> None:
        """Read everything again that may change while serving."""
        self._refresh_tokens(told=True)
        if self._certificates:
            await asyncio.to_thread(self._certificates.refresh, told=True)
        await self.model.reload()

    def _add_services(self) -> None:
        own = EscalationServicer(
            lambda: self.model.current,
            self.batcher,
            self.settings,
            self._stopping,
            self._metrics.utterance_error,
        )
        inference = InferenceServicer(lambda: self.model.current, self.batcher, self.settings)
        server = self._server
        escalation_pb2_grpc.add_EscalationServiceServicer_to_server(own, server)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, server)
        names = [
            SERVICE,
            open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
        ]
        self._health = HealthServicer(names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names += ["grpc.health.v1.Health", reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)

    async def _watch_tokens(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._refresh_tokens()

    async def _watch_certificates(self, files: CertificateFiles) -> None:
        while True:
            await asyncio.sleep(1)
            await asyncio.to_thread(files.refresh)

    def _refresh_tokens(self, *, told: bool = False) -> None:
        if self._tokens is None:
            return
        refused = ""
        try:
            if self._tokens.refresh(force=told):
                log(logging.INFO, "tokens read again")
        except ConfigError as error:  # names the file, no token
            refused = str(error)
            if told or refused != self._refused:  # not every second
                log(logging.ERROR, "new tokens refused", reason=refused)
        self._refused = refused


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # None but "identity": a message is unpacked whole before its length is looked at.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.max_connection_age_ms", settings.max_connection_age_s * 1000 or MOST),
        ("grpc.max_connection_age_grace_ms", round(settings.connection_grace_s * 1000)),
        ("grpc.keepalive_time_ms", settings.keepalive_s * 1000),
        # What ends a silent connection; grpc.keepalive_timeout_ms alone waits for a minute.
        ("grpc.http2.ping_timeout_ms", min(settings.keepalive_s, 20) * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads.

    Raises:
        DeescError: The service cannot start as told.
        SystemExit: Accepted calls were cut, or gRPC ended by itself.
    """
    loop = asyncio.get_running_loop()
    service = Service(settings)
    await service.start()
    told = asyncio.Event()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def look_at_stdin() -> None:
        if standard_input.is_over():
            loop.remove_reader(sys.stdin)  # or it would be called again, without a pause
            told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))  # a worker starts with it blocked
    if settings.stop_with_stdin:
        loop.add_reader(sys.stdin, look_at_stdin)
        standard_input.tell_serving()
    ended = asyncio.create_task(service.ended())
    await asyncio.wait((asyncio.create_task(told.wait()), ended), return_when="FIRST_COMPLETED")
    if not told.is_set():
        log(logging.ERROR, "gRPC ended by itself")
    cut = await service.stop()
    if not told.is_set():
        raise SystemExit(ENDED_BY_ITSELF)
    if cut:
        raise SystemExit(CALLS_CUT)


def main() -> None:
    """Run the server; what it cannot start with becomes one line and exit code 1."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # or it would end a server that starts
    # Without it the first process of a container would not hear of it before it serves.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = parse()
    set_up(settings.log_level)
    sys.setswitchinterval(0.0005)  # or calls wait for the model's thread each time it is in Python
    try:
        if settings.stop_with_stdin:
            standard_input.check()
        if settings.workers > 1:
            raise SystemExit(run_workers(settings, sys.argv[1:]))
        asyncio.run(run(settings))
    except DeescError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
