"""What happens around every call: token, decoding, errors to statuses, metrics, log, trace.

One interceptor does it all, so servicers hold no error handling, and a call passes one layer.
"""

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from deesc_model.errors import DeescError, InvalidInputError
from serve.auth import EXEMPT, Tokens
from serve.errors import StoppingError, error_details, status_code, status_message
from serve.logs import Repeated, log
from serve.metrics import Metrics
from serve.tracing import span

REQUEST_ID: Final = "x-request-id"
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

ENDING_S: Final = 0.05
"""Time in which gRPC cancels a call that is over, once it has ended the call's messages."""

STREAM_ENDING_S: Final = 0.005
"""The same of a stream. Shorter, as every stream that ends well waits for it, and all that depends
on it is under which status one is counted that does not."""

EARLY_S: Final = 0.02
EARLY_SHARE: Final = 0.01
"""How long before its deadline a call may be ended by it: seconds, and of its duration a share."""

LABELLING: Final = frozenset(
    {
        "/deesc.v1.EscalationService/Predict",
        "/deesc.v1.EscalationService/PredictBatch",
        "/deesc.v1.EscalationService/PredictConversation",
        "/inference.GRPCInferenceService/ModelInfer",
    }
)
"""Methods whose calls end when the model is too busy; a stream's turns are refused one by one."""

REFUSALS: Final = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNAVAILABLE,
)
"""Statuses of calls that come again and again from those who are refused."""

WATCHING: Final = (EXEMPT, "/grpc.reflection.")
"""Services whose streams are held open for ever and end with the server."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler.

    Args:
        metrics: Told of every finished call.
        tokens: Checks who calls; None lets everybody in.
        stopping: Done when the server begins to stop; new calls are sent elsewhere then.
        admit: Raises `BusyError` when the model has too much to do.
    """

    def __init__(
        self,
        metrics: Metrics,
        tokens: Tokens | None,
        stopping: asyncio.Future[None],
        admit: Callable[[], None],
    ) -> None:
        self._metrics = metrics
        self._tokens = tokens
        self._stopping = stopping
        self._admit = admit
        self._repeated = {code: Repeated("more calls were refused", code.name) for code in REFUSALS}
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def close(self) -> None:
        """Log what is only counted so far."""
        for repeated in self._repeated.values():
            repeated.tell()

    @property
    def active(self) -> int:
        """Calls that have not been answered yet, health watches and reflection aside."""
        return self._active

    async def quiet(self) -> None:
        """Wait until every call has been answered, health watches and reflection aside."""
        await self._quiet.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call, wrapped; None if there is no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:  # first of all: a caller's invention is no name of a metric
            return None
        call = _Call(handler_call_details, streams=handler.response_streaming)
        try:
            self._let_in(call)
        except DeescError as refusal:  # all that a server in overload does for most calls
            return self._refuse(call, refusal)
        decode, encode = _decoder(handler.request_deserializer), handler.response_serializer

        async def unary(raw: AsyncIterator[bytes], context: Any) -> Any:
            async with self._around(call, context):
                behaviour = handler.unary_unary or handler.unary_stream
                return await behaviour(decode(await _only(raw)), context)

        async def stream(raw: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            async with self._around(call, context):
                requests = (decode(each) async for each in raw)
                async for reply in handler.stream_stream(requests, context):
                    yield reply
                # Not before the handler knows of the end: it would wait, and take a stop for it.
                await asyncio.sleep(STREAM_ENDING_S)

        # Messages are received and decoded inside: grpc.aio would answer a malformed one with
        # UNKNOWN, and a call that ends without one with nothing. On the wire it is the same.
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(stream, None, encode)
        if handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(unary, None, encode)
        return grpc.stream_unary_rpc_method_handler(unary, None, encode)

    def _let_in(self, call: "_Call") -> None:
        """Refuse a call that need not be looked at: before its message is read.

        Raises:
            DeescError: No accepted token came with it, the server stops or is too busy.
        """
        if self._tokens is not None:
            self._tokens.check(call.method, call.metadata)
        if self._stopping.done() and not call.method.startswith(EXEMPT):
            raise StoppingError
        if call.method in LABELLING:
            self._admit()

    def _refuse(self, call: "_Call", refusal: DeescError) -> grpc.RpcMethodHandler:
        """Return a handler, good for every kind of method, that ends the call."""

        async def refuse(_: AsyncIterator[bytes], context: Any) -> None:
            self._count(call.method, context)
            try:
                await _abort(call, context, refusal)
            finally:
                self._tell(call, status_code(refusal), refused=True)

        return grpc.stream_unary_rpc_method_handler(refuse)

    @contextlib.asynccontextmanager
    async def _around(self, call: "_Call", context: Any) -> AsyncIterator[None]:
        code, refused = grpc.StatusCode.OK, False
        self._count(call.method, context)
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        try:
            with span(call.method, call.metadata, call.request_id):
                yield
        except grpc.aio.AbortError:  # the health service answers by itself
            code = context.code()
            raise
        except asyncio.CancelledError as over:
            code = _code_of(over, call, context)
            raise
        except GeneratorExit:  # the caller left while an answer of a stream was on its way
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            code, refused = status_code(error), True
            if code is grpc.StatusCode.INTERNAL:
                log(logging.ERROR, "unforeseen error", error=error, request_id=call.request_id)
            await _abort(call, context, error)
        finally:
            self._tell(call, code, refused=refused)

    def _tell(self, call: "_Call", code: grpc.StatusCode, *, refused: bool) -> None:
        """Count a finished call and log it; of those that the server would not take, the first."""
        seconds = time.perf_counter() - call.started
        # Neither a refusal nor a conversation of minutes says how long an answer takes.
        timed = code is grpc.StatusCode.OK and not call.streams
        self._metrics.call(call.method, code.name, seconds if timed else None)
        if refused and code in REFUSALS and self._repeated[code].counts():
            return
        log(
            logging.INFO,
            "call",
            request_id=call.request_id,
            method=call.method,
            code=code.name,
            ms=round(seconds * 1000, 3),
        )

    def _count(self, method: str, context: Any) -> None:
        """Count a call until its answer has left, unless it may last as long as it likes."""
        if method.startswith(WATCHING):
            return
        self._active += 1
        self._quiet.clear()

        def leave(_: Any) -> None:
            self._active -= 1
            if self._active == 0:
                self._quiet.set()

        context.add_done_callback(leave)


class _Call:
    """What is known of a call when it comes."""

    __slots__ = ("metadata", "method", "request_id", "started", "streams")

    def __init__(self, details: grpc.HandlerCallDetails, *, streams: bool) -> None:
        self.started, self.streams = time.perf_counter(), streams
        self.method, self.metadata = details.method, details.invocation_metadata
        self.request_id = _request_id(self.metadata)


async def _abort(call: _Call, context: Any, error: Exception) -> None:
    trailing = (*error_details(error), (REQUEST_ID, call.request_id))
    await context.abort(status_code(error), status_message(error), trailing)


def _decoder(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except DecodeError:
            raise InvalidInputError(
                "the message is not of this method's type, or a text in it is not UTF-8"
            ) from None

    return decode


class _NothingCameError(asyncio.CancelledError):
    """The call was over before its one message was here."""


def _code_of(over: asyncio.CancelledError, call: _Call, context: Any) -> grpc.StatusCode:
    """Return the status of a call that gRPC ended, as the caller sees it."""
    remaining = context.time_remaining()
    # The caller's own clock may end it first, as a deadline travels rounded up.
    if remaining is not None and remaining <= EARLY_S + EARLY_SHARE * (
        time.perf_counter() - call.started
    ):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    # A caller who leaves in the middle of the message looks the same, and is rarer by far.
    too_large = isinstance(over, _NothingCameError)
    return grpc.StatusCode.RESOURCE_EXHAUSTED if too_large else grpc.StatusCode.CANCELLED


async def _only(raw: AsyncIterator[bytes]) -> bytes:
    message = await anext(raw, None)
    if message is not None:
        return message
    try:
        await asyncio.sleep(ENDING_S)
    except asyncio.CancelledError:
        raise _NothingCameError from None
    raise InvalidInputError("the call ended without a message; send one")


def _request_id(metadata: Any) -> str:
    """Return the caller's id if it is a plain one, or a new one."""
    sent = next((value for key, value in metadata if key == REQUEST_ID), "")
    if isinstance(sent, str) and _PLAIN_ID.fullmatch(sent):
        return sent
    return f"{random.getrandbits(128):032x}"
