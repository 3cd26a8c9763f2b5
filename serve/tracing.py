"""OpenTelemetry spans, where opentelemetry-api is installed and set up; else nothing at all."""

import contextlib
from collections.abc import Iterable
from contextlib import AbstractContextManager

try:
    from opentelemetry import propagate, trace
except ModuleNotFoundError:
    propagate = None  # type: ignore[assignment]


def span(
    method: str, metadata: Iterable[tuple[str, str | bytes]], request_id: str
) -> AbstractContextManager[object]:
    """Return a server span around a call, a child of the caller's if it sent a traceparent."""
    if propagate is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return contextlib.nullcontext()
    carrier = {key: value for key, value in metadata if isinstance(value, str)}
    service, _, name = method.removeprefix("/").partition("/")
    return trace.get_tracer("deesc.serve").start_as_current_span(
        method.removeprefix("/"),
        propagate.extract(carrier),
        kind=trace.SpanKind.SERVER,
        attributes={
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": name,
            "deesc.request_id": request_id,
        },
        record_exception=False,  # its message may quote a text
        set_status_on_exception=False,
    )
