"""The classifier's methods over gRPC, from a server that `python -m serve.server` started.

with EscalationClient("127.0.0.1:50051") as client:
    print(client.predict("You lied to me!").level)

Calls have deadlines. UNAVAILABLE and RESOURCE_EXHAUSTED are tried again with growing pauses,
or with the pause that a busy server asks for; other errors are not. gRPC itself does this, see
https://github.com/grpc/proposal/blob/master/A6-client-retries.md
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Self

from deesc_model.errors import DeescError, InvalidInputError, MissingExtraError, ServiceError
from deesc_model.types import Prediction, Turn, as_batch, as_list, as_turn

try:
    import grpc
    from google.protobuf.json_format import MessageToDict

    from deesc_model._proto import escalation_pb2 as pb
    from deesc_model._proto import escalation_pb2_grpc as pb_grpc
    from deesc_model.messages import predict_request, read_prediction, turn_message
except ModuleNotFoundError as error:
    raise MissingExtraError(f"the package {error.name}", "client") from None

REQUESTS_PER_CALL: Final = 100
"""Utterances of `predict_batch` that go into one call at most."""

BYTES_PER_CALL: Final = 2**20
"""Their size at most, contexts included, unless one alone is larger."""

OnError = Callable[[int, DeescError], object]
"""Told the index of a turn of a live conversation that was not labelled, and why."""

_PASSING: Final = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_PAUSES_S: Final = (0.1, 0.4, 1.6, 2.0)
"""Before each further try, more or less; gRPC takes them for calls, we for turns."""

_MAX_ANSWER_BYTES: Final = 16 * 2**20
_MAX_RETRIED_BYTES: Final = 4 * 2**20
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": "deesc.v1.EscalationService"}],
            "retryPolicy": {
                "maxAttempts": 1 + len(_PAUSES_S),
                "initialBackoff": f"{_PAUSES_S[0]}s",
                "backoffMultiplier": 4,
                "maxBackoff": f"{_PAUSES_S[-1]}s",
                "retryableStatusCodes": _PASSING,
            },
        }
    ]
}
_OPTIONS: Final = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A call that is larger is sent once: servers take so much by default, and refuse what is over
    # with RESOURCE_EXHAUSTED, however often it comes.
    ("grpc.per_rpc_retry_buffer_size", _MAX_RETRIED_BYTES),
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # While a call runs, a silent connection is probed, however long nobody speaks; the server ends
    # those probed in less than 10 s. grpc.keepalive_timeout_ms alone waits for a minute.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection of its own: a server limits the calls on one, and live conversations last.
    ("grpc.use_local_subchannel_pool", 1),
]


class EscalationClient:
    """Labels utterances on a server; may be shared by threads.

    Args:
        address: ``"host:port"``.
        credentials: For TLS, what `grpc.ssl_channel_credentials` returns; None is plain text.
        token: The bearer token that the server asks for.
        timeout_s: Deadline of every call, its retries included. A live conversation has none, but
            ends with an error when the connection is dead.

    Raises:
        InvalidInputError: No header can hold the token.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        if credentials is None:
            self._channel = grpc.insecure_channel(address, _OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, _OPTIONS)
        self._stub = pb_grpc.EscalationServiceStub(self._channel)
        self._metadata = _metadata(token)
        self._timeout_s = timeout_s
        self._closed = False

    def predict(self, utterance: str | Turn, context: Sequence[str | Turn] = ()) -> Prediction:
        """Label one utterance; see `EscalationClassifier.predict`.

        Raises:
            InvalidInputError: A text is empty, too long, or not proper text.
            ServiceError: The server did not answer.
        """
        request = predict_request(as_turn(utterance), _turns(context, "context"))
        return read_prediction(self._call(self._stub.Predict, request).prediction)

    def predict_batch(
        self,
        utterances: Sequence[str | Turn],
        contexts: Sequence[Sequence[str | Turn]] | None = None,
    ) -> list[Prediction]:
        """Label many utterances; see `EscalationClassifier.predict_batch`.

        Raises:
            InvalidInputError: A text is not proper text; the message names its index.
            ServiceError: The server did not answer.
        """
        predictions: list[Prediction] = []
        for request in _batches(utterances, contexts):
            reply = self._call(self._stub.PredictBatch, request)
            predictions += _read_results(reply, len(predictions))
        return predictions

    def predict_conversation(self, turns: Sequence[Turn]) -> list[Prediction]:
        """Label every turn in context; see `EscalationClassifier.predict_conversation`.

        Raises:
            InvalidInputError: A turn is not proper text.
            ServiceError: The server did not answer.
        """
        reply = self._call(self._stub.PredictConversation, _conversation(turns))
        return [read_prediction(prediction) for prediction in reply.predictions]

    def monitor_conversation(
        self, turns: Iterable[str | Turn], on_error: OnError | None = None
    ) -> Iterator[Prediction]:
        """Follow a live conversation: yields the prediction of each turn as it comes.

        A turn that the server has no room for is sent again, before the next one.

        Args:
            turns: May block until the next turn is said; it is asked for one turn after the
                answer to the last was taken, in the same thread.
            on_error: Called for a turn that cannot be labelled, in place of its prediction; the
                conversation goes on without that turn. By default its error is raised.

        Raises:
            InvalidInputError: A turn is not proper text, and there is no `on_error`.
            ServiceError: The server did not answer, is stopping, or had no room for a turn and
                there is no `on_error`.
        """
        requests: SimpleQueue[pb.MonitorConversationRequest | None] = SimpleQueue()
        with self._translated():
            call = self._stub.MonitorConversation(iter(requests.get, None), metadata=self._metadata)

        def ask(turn: str | Turn) -> Prediction | DeescError:
            request = _said(turn)
            if isinstance(request, DeescError):
                return request
            for pause_s in _pauses():
                time.sleep(pause_s)
                requests.put(request)
                with self._translated():
                    result = _answer(next(call, None))
                if not _may_pass(result):
                    break
            return result

        try:
            for index, turn in enumerate(turns):
                result = ask(turn)
                if isinstance(result, Prediction):
                    yield result
                else:
                    _refused(index, result, on_error)
            requests.put(None)
            with self._translated():
                next(call, None)
        finally:  # also when the caller goes away between two turns
            call.cancel()
            requests.put(None)

    def model_info(self) -> dict[str, Any]:
        """Return which model answers, which labels it knows and which limits hold.

        Raises:
            ServiceError: The server did not answer.
        """
        return _info(self._call(self._stub.GetModelInfo, pb.GetModelInfoRequest()))

    def close(self) -> None:
        """Close the connection; calls that are under way end with a ServiceError."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        with self._translated():
            return method(request, timeout=self._timeout_s, metadata=self._metadata)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what gRPC raises as the package's own errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise _error_of(error) from None
        except ValueError:  # what gRPC says of a channel that is closed
            if not self._closed:
                raise
            raise _closed() from None


class AsyncEscalationClient:
    """As `EscalationClient`, for asyncio; make it inside the event loop.

    Args:
        address: ``"host:port"``.
        credentials: For TLS, what `grpc.ssl_channel_credentials` returns; None is plain text.
        token: The bearer token that the server asks for.
        timeout_s: Deadline of every call, its retries included. A live conversation has none, but
            ends with an error when the connection is dead.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, _OPTIONS)
        self._stub = pb_grpc.EscalationServiceStub(self._channel)
        self._metadata = _metadata(token)
        self._timeout_s = timeout_s
        self._closed = False

    async def predict(
        self, utterance: str | Turn, context: Sequence[str | Turn] = ()
    ) -> Prediction:
        """As `EscalationClient.predict`."""
        request = predict_request(as_turn(utterance), _turns(context, "context"))
        return read_prediction((await self._call(self._stub.Predict, request)).prediction)

    async def predict_batch(
        self,
        utterances: Sequence[str | Turn],
        contexts: Sequence[Sequence[str | Turn]] | None = None,
    ) -> list[Prediction]:
        """As `EscalationClient.predict_batch`."""
        predictions: list[Prediction] = []
        for request in _batches(utterances, contexts):
            reply = await self._call(self._stub.PredictBatch, request)
            predictions += _read_results(reply, len(predictions))
        return predictions

    async def predict_conversation(self, turns: Sequence[Turn]) -> list[Prediction]:
        """As `EscalationClient.predict_conversation`."""
        reply = await self._call(self._stub.PredictConversation, _conversation(turns))
        return [read_prediction(prediction) for prediction in reply.predictions]

    async def monitor_conversation(
        self, turns: AsyncIterable[str | Turn], on_error: OnError | None = None
    ) -> AsyncIterator[Prediction]:
        """As `EscalationClient.monitor_conversation`."""
        with self._translated():
            call = self._stub.MonitorConversation(metadata=self._metadata)
        replies = aiter(call)

        async def ask(turn: str | Turn) -> Prediction | DeescError:
            request = _said(turn)
            if isinstance(request, DeescError):
                return request
            for pause_s in _pauses():
                await asyncio.sleep(pause_s)
                with self._translated():
                    if not call.done():  # otherwise the reply says why
                        await call.write(request)
                    result = _answer(await anext(replies, None))
                if not _may_pass(result):
                    break
            return result

        index = 0
        try:
            async for turn in turns:
                result = await ask(turn)
                if isinstance(result, Prediction):
                    yield result
                else:
                    _refused(index, result, on_error)
                index += 1
            with self._translated():
                await call.done_writing()
                await anext(replies, None)
        finally:
            call.cancel()

    async def model_info(self) -> dict[str, Any]:
        """As `EscalationClient.model_info`."""
        return _info(await self._call(self._stub.GetModelInfo, pb.GetModelInfoRequest()))

    async def close(self) -> None:
        """Close the connection; calls that are under way end with a ServiceError."""
        self._closed = True
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def _call(self, method: Any, request: Any) -> Any:
        with self._translated():
            return await method(request, timeout=self._timeout_s, metadata=self._metadata)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what gRPC raises as the package's own errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise _error_of(error) from None
        except asyncio.CancelledError:
            # Closing cancels the calls, and so whoever waits for them; nobody cancelled the task.
            task = asyncio.current_task()
            if not self._closed or (task and task.cancelling()):
                raise
            raise _closed() from None
        except grpc.aio.UsageError:
            if not self._closed:
                raise
            raise _closed() from None


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    if token is None:
        return ()
    bare = token.strip()  # a file of one ends with a line break
    if not (bare.isascii() and bare.isprintable()):
        raise InvalidInputError("token must be printable ASCII")
    return (("authorization", f"Bearer {bare}"),)


def _turns(values: object, name: str) -> list[Turn]:
    return [as_turn(item) for item in as_list(values, name)]


def _batches(utterances: object, contexts: object) -> Iterator[pb.PredictBatchRequest]:
    """Check every text before the first call, then make the calls' requests."""
    requests = [predict_request(turn, context) for turn, context in as_batch(utterances, contexts)]
    batch: list[pb.PredictRequest] = []
    size = 0
    for request in requests:
        size += request.ByteSize()
        if batch and (len(batch) == REQUESTS_PER_CALL or size > BYTES_PER_CALL):
            yield pb.PredictBatchRequest(requests=batch)
            batch, size = [], request.ByteSize()
        batch.append(request)
    if batch:
        yield pb.PredictBatchRequest(requests=batch)


def _conversation(turns: object) -> pb.PredictConversationRequest:
    return pb.PredictConversationRequest(
        turns=[turn_message(turn) for turn in _turns(turns, "turns")]
    )


def _read_results(reply: pb.PredictBatchResponse, start: int) -> list[Prediction]:
    predictions = []
    for index, result in enumerate(reply.results, start):
        if result.HasField("error"):
            raise _error(result.error.code, f"utterance {index}: {result.error.message}")
        predictions.append(read_prediction(result.prediction))
    return predictions


def _said(turn: str | Turn) -> pb.MonitorConversationRequest | InvalidInputError:
    try:
        return pb.MonitorConversationRequest(turn=turn_message(as_turn(turn)))
    except InvalidInputError as error:
        return error


def _answer(reply: pb.MonitorConversationResponse | None) -> Prediction | DeescError:
    if reply is None:
        raise ServiceError("UNAVAILABLE", "the server ended the conversation")
    if reply.HasField("error"):
        return _error(reply.error.code, reply.error.message)
    return read_prediction(reply.prediction)


def _pauses() -> Iterator[float]:
    """Yield the pause before each try, of the first too; callers shall not come back in step."""
    yield 0
    for pause_s in _PAUSES_S:
        yield pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - no secret


def _may_pass(result: Prediction | DeescError) -> bool:
    return isinstance(result, ServiceError) and result.code in _PASSING


def _refused(index: int, error: DeescError, on_error: OnError | None) -> None:
    if on_error is None:
        raise error
    on_error(index, error)


def _info(reply: pb.GetModelInfoResponse) -> dict[str, Any]:
    return MessageToDict(reply, preserving_proto_field_name=True)


def _error_of(error: grpc.RpcError) -> DeescError:
    number, _ = error.code().value
    return _error(number, error.details() or "no reason given")


def _closed() -> ServiceError:
    return ServiceError("CANCELLED", "this client was closed")


def _error(number: int, message: str) -> DeescError:
    """Return what a status is for callers of the classifier's methods."""
    code = next(code for code in grpc.StatusCode if code.value[0] == number)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInputError(message)
    return ServiceError(code.name, message)
