"""`deesc.v1.EscalationService`. Errors are raised; the interceptor makes them statuses."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, TypedDict

import grpc

from deesc_model import SIGNALS, TRIGGERS, EscalationClassifier, Level, Prediction, Turn
from deesc_model._proto import escalation_pb2 as pb
from deesc_model._proto import escalation_pb2_grpc as pb_grpc
from deesc_model.messages import prediction_message
from deesc_model.rendering import newest_turns
from serve.batching import Batcher, deadline_of
from serve.config import Settings
from serve.errors import (
    FieldError,
    StoppingError,
    caught,
    status_code,
    status_message,
)
from serve.interceptor import REQUEST_ID
from serve.logs import log
from serve.requests import (
    Utterance,
    check_count,
    in_context,
    let_others_in,
    read_turn,
    read_utterance,
)

SERVICE: Final = pb.DESCRIPTOR.services_by_name["EscalationService"].full_name


class EscalationServicer(pb_grpc.EscalationServiceServicer):
    """The typed API; it validates on the event loop and computes in the batcher.

    Args:
        classifier: Returns the classifier that serves now.
        batcher: Labels checked utterances.
        settings: Limits of a request.
        stopping: Done when the server begins to stop; streams end between two turns then.
        observe_error: Told method and status of every error that an answer carries.
    """

    def __init__(
        self,
        classifier: Callable[[], EscalationClassifier],
        batcher: Batcher,
        settings: Settings,
        stopping: asyncio.Future[None],
        observe_error: Callable[[str, str], None],
    ) -> None:
        self._classifier = classifier
        self._batcher = batcher
        self._settings = settings
        self._stopping = stopping
        self._observe_error = observe_error

    async def Predict(
        self, request: pb.PredictRequest, context: grpc.aio.ServicerContext
    ) -> pb.PredictResponse:
        """Label one utterance."""
        utterance = read_utterance(request, self._reach, self._settings)
        (prediction,) = await self._batcher.predict([utterance], deadline_of(context))
        return pb.PredictResponse(prediction=prediction_message(prediction))

    async def PredictBatch(
        self, request: pb.PredictBatchRequest, context: grpc.aio.ServicerContext
    ) -> pb.PredictBatchResponse:
        """Label many utterances; each gets a prediction or an error of its own."""
        count = len(request.requests)
        check_count(count, self._settings.max_requests, "requests", "utterances")
        self._batcher.admit(count)  # before all is read
        reach = self._reach
        read = []
        for index, item in enumerate(request.requests):
            await let_others_in(index)
            read.append(caught(read_utterance, item, reach, self._settings, f"requests[{index}]."))
        good = [item for item in read if isinstance(item, Utterance)]
        answers = iter(await self._batcher.predict_each(good, deadline_of(context)))
        results = [next(answers) if isinstance(item, Utterance) else item for item in read]
        self._tell_errors("PredictBatch", results, context)
        return pb.PredictBatchResponse(
            results=[pb.BatchResult(**_either(result)) for result in results]
        )

    async def PredictConversation(
        self, request: pb.PredictConversationRequest, context: grpc.aio.ServicerContext
    ) -> pb.PredictConversationResponse:
        """Label every turn of a conversation."""
        count = len(request.turns)
        check_count(count, self._settings.max_turns, "turns", "turns")
        self._batcher.admit(count)  # before all is read
        turns = []
        for index, message in enumerate(request.turns):
            await let_others_in(index)
            turns.append(read_turn(message, f"turns[{index}]", self._settings))
        utterances = in_context(turns, self._reach)
        predictions = await self._batcher.predict(utterances, deadline_of(context))
        return pb.PredictConversationResponse(
            predictions=[prediction_message(prediction) for prediction in predictions]
        )

    async def MonitorConversation(
        self,
        requests: AsyncIterator[pb.MonitorConversationRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.MonitorConversationResponse]:
        """Answer every turn at once; a turn that cannot be labelled does not end the stream."""
        before: Sequence[Turn] = ()
        answer: Prediction | Exception
        async for request in _until(self._stopping, requests):
            try:
                turn = read_turn(request.turn, "turn", self._settings)
                utterance = Utterance(turn, before)
                (answer,) = await self._batcher.predict([utterance], deadline_of(context))
                before = newest_turns([*before, turn], self._reach)
            except Exception as error:  # whatever it is, the next turn may do better
                answer = error
                self._tell_errors("MonitorConversation", [error], context)
            yield pb.MonitorConversationResponse(**_either(answer))

    async def GetModelInfo(
        self, request: pb.GetModelInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetModelInfoResponse:
        """Say which model answers."""
        classifier, settings = self._classifier(), self._settings
        manifest = classifier.bundle.manifest
        return pb.GetModelInfoResponse(
            model_version=classifier.model_version,
            name=manifest.name,
            base_model=manifest.base_model,
            weights=manifest.weights,
            training_run=manifest.training_run,
            git_commit=manifest.git_commit,
            data_fingerprint=manifest.data_fingerprint,
            levels=[level.label for level in Level],
            triggers=TRIGGERS,
            signals=SIGNALS,
            context_turns=self._reach,
            limits=pb.Limits(
                max_characters=settings.max_characters,
                max_turns=settings.max_turns,
                max_requests=settings.max_requests,
                max_message_bytes=settings.max_message_bytes,
            ),
        )

    def _tell_errors(
        self, method: str, results: Sequence[object], context: grpc.aio.ServicerContext
    ) -> None:
        """Count the errors of a call's utterances, and log the first that nobody foresaw."""
        errors = [result for result in results if isinstance(result, Exception)]
        for error in errors:
            self._observe_error(f"/{SERVICE}/{method}", status_code(error).name)
        faults = [error for error in errors if status_code(error) is grpc.StatusCode.INTERNAL]
        if faults:
            request_id = dict(context.trailing_metadata())[REQUEST_ID]
            log(
                logging.ERROR,
                "unforeseen error",
                error=faults[0],
                request_id=request_id,
                utterances=len(faults),
            )

    @property
    def _reach(self) -> int:
        """How many preceding turns the model reads."""
        return self._classifier().bundle.config.encoder.context_turns


class _Either(TypedDict, total=False):
    """The one field of a result that is set."""

    prediction: pb.Prediction
    error: pb.ItemError


def _either(result: Prediction | Exception) -> _Either:
    if isinstance(result, Prediction):
        return {"prediction": prediction_message(result)}
    number, _ = status_code(result).value
    field = result.field if isinstance(result, FieldError) else ""
    return {"error": pb.ItemError(code=number, message=status_message(result), field=field)}


async def _until(
    stopping: asyncio.Future[None], requests: AsyncIterator[pb.MonitorConversationRequest]
) -> AsyncIterator[pb.MonitorConversationRequest]:
    """Pass requests on until the server stops.

    Raises:
        StoppingError: The server stops, and no further request had come.
    """
    while True:
        coming = asyncio.ensure_future(anext(requests, None))
        try:
            await asyncio.wait((coming, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                raise StoppingError
        finally:
            coming.cancel()  # of no effect once it is done
        request = coming.result()
        if request is None:
            return
        yield request
