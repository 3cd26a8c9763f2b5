"""How calls are made: the options of a connection, the token, and when to come back."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Final

from deesc_model.errors import DeescError, InvalidInputError, ServiceError
from deesc_model.types import Prediction

OnError = Callable[[int, DeescError], object]
"""Told the index of a turn of a live conversation that was not labelled, and why."""

PASSING: Final = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
PAUSES_S: Final = (0.1, 0.4, 1.6, 2.0)
"""Before each further try, more or less; gRPC takes them for calls, we for turns."""

_MAX_ANSWER_BYTES: Final = 16 * 2**20
_MAX_RETRIED_BYTES: Final = 4 * 2**20
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": "deesc.v1.EscalationService"}],
            "retryPolicy": {
                "maxAttempts": 1 + len(PAUSES_S),
                "initialBackoff": f"{PAUSES_S[0]}s",
                "backoffMultiplier": 4,
                "maxBackoff": f"{PAUSES_S[-1]}s",
                "retryableStatusCodes": PASSING,
            },
        }
    ]
}
OPTIONS: Final = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A call that is larger is sent once: servers take so much by default, and refuse what is over
    # with RESOURCE_EXHAUSTED, however often it comes.
    ("grpc.per_rpc_retry_buffer_size", _MAX_RETRIED_BYTES),
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also the time that a connection may take to come about.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # While a call runs, a silent connection is probed, however long nobody speaks; the server ends
    # those probed in less than 10 s. grpc.keepalive_timeout_ms alone waits for a minute.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection of its own: a server limits the calls on one, and live conversations last.
    ("grpc.use_local_subchannel_pool", 1),
]


def token_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the header that a token travels in, none without one.

    Raises:
        InvalidInputError: No header can hold it.
    """
    if token is None:
        return ()
    bare = token.strip()  # a file of one ends with a line break
    if not (bare.isascii() and bare.isprintable()):
        raise InvalidInputError("token must be printable ASCII")
    return (("authorization", f"Bearer {bare}"),)


def pauses() -> Iterator[float]:
    """Yield the pause before each try, of the first too; callers shall not come back in step."""
    yield 0
    for pause_s in PAUSES_S:
        yield pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


def may_pass(result: Prediction | DeescError) -> bool:
    """Return whether asking again may help."""
    return isinstance(result, ServiceError) and result.code in PASSING


def report_refused(index: int, error: DeescError, on_error: OnError | None) -> None:
    """Tell `on_error` of a turn without a label, or raise its error."""
    if on_error is None:
        raise error
    on_error(index, error)
