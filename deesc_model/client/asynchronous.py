"""The classifier's methods over gRPC, for asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from deesc_model._proto import escalation_pb2 as pb
from deesc_model._proto import escalation_pb2_grpc as pb_grpc
from deesc_model.client.calls import (
    OPTIONS,
    OnError,
    may_pass,
    pauses,
    report_refused,
    token_metadata,
)
from deesc_model.client.payloads import (
    as_turns,
    batch_requests,
    closed_error,
    conversation_request,
    error_of,
    read_answer,
    read_info,
    read_results,
    turn_request,
)
from deesc_model.errors import DeescError, ServiceError
from deesc_model.messages import predict_request, read_prediction
from deesc_model.types import Prediction, Turn, as_turn


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
            self._channel = grpc.aio.insecure_channel(address, OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, OPTIONS)
        self._stub = pb_grpc.EscalationServiceStub(self._channel)
        self._metadata = token_metadata(token)
        self._timeout_s = timeout_s
        self._closed = False

    async def predict(
        self, utterance: str | Turn, context: Sequence[str | Turn] = ()
    ) -> Prediction:
        """As `EscalationClient.predict`."""
        request = predict_request(as_turn(utterance), as_turns(context, "context"))
        return read_prediction((await self._call(self._stub.Predict, request)).prediction)

    async def predict_batch(
        self,
        utterances: Sequence[str | Turn],
        contexts: Sequence[Sequence[str | Turn]] | None = None,
    ) -> list[Prediction]:
        """As `EscalationClient.predict_batch`."""
        predictions: list[Prediction] = []
        for request in batch_requests(utterances, contexts):
            reply = await self._call(self._stub.PredictBatch, request)
            predictions += read_results(reply, len(predictions))
        return predictions

    async def predict_conversation(self, turns: Sequence[Turn]) -> list[Prediction]:
        """As `EscalationClient.predict_conversation`."""
        reply = await self._call(self._stub.PredictConversation, conversation_request(turns))
        return [read_prediction(prediction) for prediction in reply.predictions]

    async def monitor_conversation(
        self, turns: AsyncIterable[str | Turn], on_error: OnError | None = None
    ) -> AsyncIterator[Prediction]:
        """As `EscalationClient.monitor_conversation`."""
        with self._translated():
            call = self._stub.MonitorConversation(metadata=self._metadata)
        replies = aiter(call)

        async def ask(turn: str | Turn) -> Prediction | DeescError:
            request = turn_request(turn)
            if isinstance(request, DeescError):
                return request
            for pause_s in pauses():
                await asyncio.sleep(pause_s)
                with self._translated():
                    if not call.done():  # otherwise the reply says why
                        await _write(call, request)
                    result = read_answer(await anext(replies, None))
                if not may_pass(result):
                    break
            return result

        index = 0
        try:
            async for turn in turns:
                result = await ask(turn)
                if isinstance(result, Prediction):
                    yield result
                else:
                    report_refused(index, result, on_error)
                index += 1
            with self._translated():
                with contextlib.suppress(grpc.aio.InternalError):  # it ended meanwhile
                    await call.done_writing()
                await anext(replies, None)
        finally:
            call.cancel()

    async def model_info(self) -> dict[str, Any]:
        """As `EscalationClient.model_info`."""
        return read_info(await self._call(self._stub.GetModelInfo, pb.GetModelInfoRequest()))

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

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what gRPC raises as the package's own errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise error_of(error) from None
        except asyncio.CancelledError:
            # Closing cancels the calls, and so whoever waits for them; nobody cancelled the task.
            task = asyncio.current_task()
            if not self._closed or (task and task.cancelling()):
                raise
            raise closed_error() from None
        except grpc.aio.UsageError:
            if not self._closed:
                raise
            raise closed_error() from None


async def _write(call: Any, request: Any) -> None:
    """Send a live turn.

    Raises:
        ServiceError: The stream ended meanwhile, of which gRPC makes an error inside itself.
    """
    try:
        await call.write(request)
    except grpc.aio.AioRpcError as error:
        if not (error.details() or "").startswith("Internal error from Core"):
            raise
        raise ServiceError("UNAVAILABLE", "the server ended the conversation") from None
