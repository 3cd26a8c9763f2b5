"""Prometheus metrics, on a port of their own. No label and no value comes from a text."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from deesc_model import Level, Prediction
from serve.errors import ConfigError

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What the service counts; each server has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "deesc_calls", "Calls by method and status.", ["method", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "deesc_call_seconds",
            "Time from a call's arrival to its answer, of calls that ended well; not of streams.",
            ["method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._utterance_errors = Counter(
            "deesc_utterance_errors",
            "Errors of single utterances, within answers that are OK.",
            ["method", "code"],
            registry=self.registry,
        )
        self._batches = Histogram(
            "deesc_batch_size", "Utterances per batch.", buckets=SIZES, registry=self.registry
        )
        self._levels = Counter(
            "deesc_predictions", "Predicted levels.", ["level"], registry=self.registry
        )
        self._reloads = Counter(
            "deesc_reloads", "Reloads of the bundle.", ["result"], registry=self.registry
        )
        self._model = Gauge(
            "deesc_model_loaded",
            "1 for the model that serves.",
            ["version"],
            registry=self.registry,
        )
        self._waiting = Gauge("deesc_waiting", "Utterances that wait.", registry=self.registry)
        self._stop: Callable[[], None] = lambda: None
        for level in Level:
            self._levels.labels(level.label)

    def call(self, method: str, code: str, seconds: float | None) -> None:
        """Count a finished call, and how long it took, if that says how fast the service is."""
        self._calls.labels(method, code).inc()
        if seconds is not None:
            self._seconds.labels(method).observe(seconds)

    def utterance_error(self, method: str, code: str) -> None:
        """Count an error that an answer carries for one utterance."""
        self._utterance_errors.labels(method, code).inc()

    def batch(self, size: int) -> None:
        """Count a batch."""
        self._batches.observe(size)

    def predictions(self, predictions: Iterable[Prediction]) -> None:
        """Count predicted levels."""
        for prediction in predictions:
            self._levels.labels(prediction.level.label).inc()

    def loaded(self, version: str, *, reloaded: bool = False) -> None:
        """Say which model serves now."""
        self._model.clear()
        self._model.labels(version).set(1)
        if reloaded:
            self._reloads.labels("loaded").inc()

    def reload_refused(self) -> None:
        """Count a new bundle that could not be used."""
        self._reloads.labels("refused").inc()

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Report the depth of the queue whenever somebody asks."""
        self._waiting.set_function(depth)

    def listen(self, host: str, port: int) -> int:
        """Answer scrapes in a thread; return the port.

        Raises:
            ConfigError: The port is taken or the address is not this machine's.
        """
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise ConfigError(
                f"--metrics-port {port} of {host}: {error.strerror}; every server needs its own,"
                " beside --reuse-port too; 0 takes any free one"
            ) from None

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop = stop
        return int(server.server_port)

    def close(self) -> None:
        """Stop answering."""
        self._stop()
