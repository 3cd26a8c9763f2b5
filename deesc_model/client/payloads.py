"""What is asked in a call, and what its answer stands for."""

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict

from deesc_model._proto import escalation_pb2 as pb
from deesc_model.errors import DeescError, InvalidInputError, ServiceError
from deesc_model.messages import predict_request, read_prediction, turn_message
from deesc_model.types import Prediction, Turn, as_batch, as_list, as_turn

REQUESTS_PER_CALL: Final = 100
"""Utterances of `predict_batch` that go into one call at most."""

BYTES_PER_CALL: Final = 2**20
"""Their size at most, contexts included, unless one alone is larger."""


def as_turns(values: object, name: str) -> list[Turn]:
    """Check a list of turns; errors call it by name."""
    return [as_turn(item) for item in as_list(values, name)]


def batch_requests(utterances: object, contexts: object) -> Iterator[pb.PredictBatchRequest]:
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


def conversation_request(turns: object) -> pb.PredictConversationRequest:
    """Return the request to label every turn of a conversation."""
    return pb.PredictConversationRequest(
        turns=[turn_message(turn) for turn in as_turns(turns, "turns")]
    )


def read_results(reply: pb.PredictBatchResponse, start: int) -> list[Prediction]:
    """Return the predictions of a batch whose first has the index `start`, or raise an error."""
    predictions = []
    for index, result in enumerate(reply.results, start):
        if result.HasField("error"):
            raise _error(result.error.code, f"utterance {index}: {result.error.message}")
        predictions.append(read_prediction(result.prediction))
    return predictions


def turn_request(turn: str | Turn) -> pb.MonitorConversationRequest | InvalidInputError:
    """Return the request to label a live turn, or why there is none."""
    try:
        return pb.MonitorConversationRequest(turn=turn_message(as_turn(turn)))
    except InvalidInputError as error:
        return error


def read_answer(reply: pb.MonitorConversationResponse | None) -> Prediction | DeescError:
    """Return the answer to a live turn, of either kind.

    Raises:
        ServiceError: The stream is over.
    """
    if reply is None:
        raise ServiceError("UNAVAILABLE", "the server ended the conversation")
    if reply.HasField("error"):
        return _error(reply.error.code, reply.error.message)
    return read_prediction(reply.prediction)


def read_info(reply: pb.GetModelInfoResponse) -> dict[str, Any]:
    """Return what a server says of its model as plain JSON types."""
    return MessageToDict(
        reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def error_of(error: grpc.RpcError) -> DeescError:
    """Return gRPC's error as one of ours."""
    number, _ = error.code().value
    return _error(number, error.details() or "no reason given")


def closed_error() -> ServiceError:
    """Return the error of a call on a client that was closed."""
    return ServiceError("CANCELLED", "this client was closed")


def _error(number: int, message: str) -> DeescError:
    """Return what a status is for callers of the classifier's methods."""
    code = next(code for code in grpc.StatusCode if code.value[0] == number)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInputError(message)
    return ServiceError(code.name, message)
