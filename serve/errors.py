"""The errors of the service, and the one table from an error to a gRPC status.

DeescError
├── ConfigError            the server was told something impossible; it does not start
├── FieldError             a field of a request cannot be used   (also an InvalidInputError)
├── NotFoundError          a model or tensor of that name is not here
├── UnauthenticatedError   no accepted token came with the call
├── ExpiredError           the caller's deadline passed while the call waited
└── TryLaterError          comes with a time to try again
    ├── BusyError          too much is waiting already
    └── StoppingError      the server is stopping
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

from deesc_model.errors import DeescError, InvalidInputError

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


class ConfigError(DeescError):
    """The server cannot start as told; the message names the flag."""


class FieldError(InvalidInputError):
    """A field of a request cannot be used.

    Attributes:
        field: Its path within the request, for example ``"context[1].text"``.
    """

    def __init__(self, field: str, problem: object) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class NotFoundError(DeescError):
    """No model or tensor has the name asked for; the message says which there are."""


class UnauthenticatedError(DeescError):
    """No accepted bearer token came with the call."""


class TryLaterError(DeescError):
    """The same call may succeed later.

    Attributes:
        retry_after_s: How long to wait before.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BusyError(TryLaterError):
    """The queue is full; it is likely to have room after `retry_after_s`."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(f"too much is waiting already ({waiting}); try later", retry_after_s)


class ExpiredError(DeescError):
    """The caller's deadline passed before the work began."""

    def __init__(self) -> None:
        super().__init__("the deadline passed while the call waited; nothing was computed")


class StoppingError(TryLaterError):
    """The server is stopping; the call belongs on another connection."""

    def __init__(self) -> None:
        super().__init__("the server is stopping; connect again", retry_after_s=1.0)


LONGEST_MESSAGE: Final = 500
"""Characters of a message. It quotes what callers sent, and is sent up to three times in a header,
of which many clients take 8 kB."""

STATUS_CODES: Final[dict[type[Exception], grpc.StatusCode]] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ExpiredError: grpc.StatusCode.DEADLINE_EXCEEDED,
    StoppingError: grpc.StatusCode.UNAVAILABLE,
}


def status_code(error: Exception) -> grpc.StatusCode:
    """Return the status that an error becomes; one that nobody foresaw is INTERNAL."""
    kinds = (STATUS_CODES[kind] for kind in type(error).__mro__ if kind in STATUS_CODES)
    return next(kinds, grpc.StatusCode.INTERNAL)


def status_message(error: Exception) -> str:
    """Return what a caller is told, cut to `LONGEST_MESSAGE`.

    What nobody foresaw might quote a text, so it is not told.
    """
    if status_code(error) is grpc.StatusCode.INTERNAL:
        return "internal error; the server's log has more under this request id"
    told = str(error)
    return told if len(told) <= LONGEST_MESSAGE else f"{told[: LONGEST_MESSAGE - 1]}…"


def error_details(error: Exception) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that tells programs which field, or when to try again.

    The form is google.rpc.Status, which gRPC libraries of all languages read. The pushback
    is what gRPC's own retries obey.
    """
    code, _ = status_code(error).value
    status = Status(code=code, message=status_message(error))
    if isinstance(error, FieldError):
        violation = BadRequest.FieldViolation(field=error.field, description=status_message(error))
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    if not isinstance(error, TryLaterError):
        return (("grpc-status-details-bin", status.SerializeToString()),)
    milliseconds = max(1, round(error.retry_after_s * 1000))
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("grpc-retry-pushback-ms", str(milliseconds)),
    )


def caught(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result | DeescError:
    """Return what a function returns, or the error that one of several items shall carry."""
    try:
        return function(*args, **kwargs)
    except DeescError as error:
        return error
