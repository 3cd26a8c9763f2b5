"""The classifier's methods over gRPC, for threads."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
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
from deesc_model.errors import DeescError
from deesc_model.messages import predict_request, read_prediction
from deesc_model.types import Prediction, Turn, as_turn


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
            self._channel = grpc.insecure_channel(address, OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, OPTIONS)
        self._stub = pb_grpc.EscalationServiceStub(self._channel)
        self._metadata = token_metadata(token)
        self._timeout_s = timeout_s
        self._closed = False

    def predict(self, utterance: str | Turn, context: Sequence[str | Turn] = ()) -> Prediction:
        """Label one utterance; see `EscalationClassifier.predict`.

        Raises:
            InvalidInputError: A text is empty, too long, or not proper text.
            ServiceError: The server did not answer.
        """
        request = predict_request(as_turn(utterance), as_turns(context, "context"))
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
        for request in batch_requests(utterances, contexts):
            reply = self._call(self._stub.PredictBatch, request)
            predictions += read_results(reply, len(predictions))
        return predictions

    def predict_conversation(self, turns: Sequence[Turn]) -> list[Prediction]:
        """Label every turn in context; see `EscalationClassifier.predict_conversation`.

        Raises:
            InvalidInputError: A turn is not proper text.
            ServiceError: The server did not answer.
        """
        reply = self._call(self._stub.PredictConversation, conversation_request(turns))
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
            request = turn_request(turn)
            if isinstance(request, DeescError):
                return request
            for pause_s in pauses():
                time.sleep(pause_s)
                requests.put(request)
                with self._translated():
                    result = read_answer(next(call, None))
                if not may_pass(result):
                    break
            return result

        try:
            for index, turn in enumerate(turns):
                result = ask(turn)
                if isinstance(result, Prediction):
                    yield result
                else:
                    report_refused(index, result, on_error)
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
        return read_info(self._call(self._stub.GetModelInfo, pb.GetModelInfoRequest()))

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
            raise error_of(error) from None
        except ValueError:  # what gRPC says of a channel that is closed
            if not self._closed:
                raise
            raise closed_error() from None
