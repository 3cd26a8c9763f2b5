"""Open Inference Protocol v2: what tritonclient and KServe speak.

One model, `deesc`. Its input `text` holds utterances of customers; `speaker` may come beside
it. With the parameter `conversation` the texts are the turns of one conversation, else each
stands alone. The output `prediction` is the whole answer as JSON, the others are its numbers.
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import grpc
import numpy as np

from deesc_model import (
    SIGNALS,
    SPEAKERS,
    TRIGGERS,
    EscalationClassifier,
    Level,
    Prediction,
    Turn,
    __version__,
)
from serve.batching import Batcher, deadline_of
from serve.config import Settings
from serve.errors import FieldError, NotFoundError
from serve.generated import open_inference_pb2 as pb
from serve.generated import open_inference_pb2_grpc as pb_grpc
from serve.requests import Utterance, check_count, checked_turn, in_context, let_others_in

MODEL: Final = "deesc"
INPUTS: Final = ("text", "speaker")
CONVERSATION: Final = "conversation"
CONTENT_TYPE: Final = "content_type"
"""With which MLServer's clients say that bytes are text, as they are here anyway."""

Output = tuple[str, list[int], Callable[[Sequence[Prediction]], Any]]

OUTPUTS: Final[dict[str, Output]] = {
    "prediction": ("BYTES", [-1], lambda all_: [json.dumps(each.to_dict()) for each in all_]),
    "level": ("INT64", [-1], lambda all_: [int(each.level) for each in all_]),
    "frustration": ("FP64", [-1], lambda all_: [each.frustration for each in all_]),
    "uncertain": ("BOOL", [-1], lambda all_: [each.uncertain for each in all_]),
    "level_scores": ("FP64", [-1, len(Level)], lambda all_: [each.level_scores for each in all_]),
    "trigger_scores": (
        "FP64",
        [-1, len(TRIGGERS)],
        lambda all_: [[each.trigger_scores[name] for name in TRIGGERS] for each in all_],
    ),
    "signal_scores": (
        "FP64",
        [-1, len(SIGNALS)],
        lambda all_: [[each.signal_scores[name] for name in SIGNALS] for each in all_],
    ),
}
"""Data type, shape and values of every output; -1 is the number of texts."""

DTYPES: Final = {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """The standard protocol over the same batcher as the typed API."""

    def __init__(
        self, classifier: Callable[[], EscalationClassifier], batcher: Batcher, settings: Settings
    ) -> None:
        self._classifier = classifier
        self._batcher = batcher
        self._settings = settings

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """Say that the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """Say that a model is loaded; the server does not listen before."""
        return pb.ServerReadyResponse(ready=True)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """Say whether a model serves."""
        ready = request.name == MODEL and request.version in ("", self._version)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """Say what this server is."""
        return pb.ServerMetadataResponse(name="deesc", version=__version__)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """List the one model."""
        index = pb.RepositoryIndexResponse.ModelIndex
        return pb.RepositoryIndexResponse(
            models=[index(name=MODEL, version=self._version, state="READY")]
        )

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """Describe inputs and outputs."""
        self._check_name(request.name, request.version)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=MODEL,
            versions=[self._version],
            platform="deesc_onnxruntime",
            inputs=[tensor(name=name, datatype="BYTES", shape=[-1]) for name in INPUTS],
            outputs=[
                tensor(name=name, datatype=datatype, shape=shape)
                for name, (datatype, shape, _) in OUTPUTS.items()
            ],
        )

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        """Label the texts of one request."""
        self._check_name(request.model_name, request.model_version)
        _refuse_parameters(request.parameters, "", known=CONVERSATION)
        wanted = [output.name for output in request.outputs] or list(OUTPUTS)
        for index, name in enumerate(wanted):
            if name not in OUTPUTS:
                raise FieldError(f"outputs[{index}].name", f"{name!r:.80} is none of {[*OUTPUTS]}")
            if name in wanted[:index]:  # at most as often as there are outputs, so no long list
                raise FieldError(f"outputs[{index}].name", f"{name!r} is asked for twice")
        for index, output in enumerate(request.outputs):
            _refuse_parameters(output.parameters, f"outputs[{index}].")
        utterances = await self._read(request)
        predictions = await self._batcher.predict(utterances, deadline_of(context))
        # Another bundle may have taken over in between, even between two batches of a large call.
        *others, version = sorted({each.model_version for each in predictions}) or [self._version]
        if request.model_version and (others or version != request.model_version):
            raise _not_found(request.model_name, request.model_version, self._version)
        if others:
            version = predictions[-1].model_version
        reply = pb.ModelInferResponse(model_name=MODEL, model_version=version, id=request.id)
        for name in wanted:
            datatype, shape, values = OUTPUTS[name]
            reply.outputs.add(name=name, datatype=datatype, shape=[len(predictions), *shape[1:]])
            reply.raw_output_contents.append(_to_raw(values(predictions), datatype))
        return reply

    @property
    def _version(self) -> str:
        return self._classifier().model_version

    def _check_name(self, name: str, version: str) -> None:
        if name != MODEL or version not in ("", self._version):
            raise _not_found(name, version, self._version)

    async def _read(self, request: pb.ModelInferRequest) -> list[Utterance]:
        conversation = _flag(request, CONVERSATION)
        limit = self._settings.max_turns if conversation else self._settings.max_requests
        tensors = _tensors(request, limit)
        if "text" not in tensors:
            raise FieldError("inputs", "the tensor 'text' is missing")
        texts = tensors["text"]
        speakers = tensors.get("speaker", [b"customer"] * len(texts))
        if len(speakers) != len(texts):
            raise FieldError("inputs", f"{len(texts)} texts but {len(speakers)} speakers")
        self._batcher.admit(len(texts))  # before all is read
        turns = []
        for index, (speaker, text) in enumerate(zip(speakers, texts, strict=True)):
            await let_others_in(index)
            turns.append(self._turn(index, speaker, text))
        reach = self._classifier().bundle.config.encoder.context_turns if conversation else 0
        return in_context(turns, reach)

    def _turn(self, index: int, speaker: bytes, text: bytes) -> Turn:
        who = _decoded(speaker, f"inputs speaker[{index}]")
        if who not in SPEAKERS:
            raise FieldError(f"inputs speaker[{index}]", f"{who!r:.40} is none of {[*SPEAKERS]}")
        field = f"inputs text[{index}]"
        return checked_turn(who, _decoded(text, field), field, self._settings)


def _not_found(name: str, version: str, served: str) -> NotFoundError:
    asked = f"{name!r:.80} version {version!r:.80}" if version else f"{name!r:.80}"
    return NotFoundError(f"no model {asked}; there is {MODEL!r} version {served!r}")


def _refuse_parameters(parameters: Iterable[str], field: str, known: str = "") -> None:
    """Refuse what would be ignored, as the classes or shared memory of Triton's extensions.

    Raises:
        FieldError: One of them is not the known one.
    """
    for name in parameters:
        if name not in (known, CONTENT_TYPE):
            raise FieldError(f"{field}parameters", f"{name!r:.80} is not supported; leave it out")


def _flag(request: pb.ModelInferRequest, name: str) -> bool:
    """Return a parameter that is true or false; without it, false."""
    if name not in request.parameters:
        return False
    parameter = request.parameters[name]
    if parameter.WhichOneof("parameter_choice") != "bool_param":
        raise FieldError(f"parameters[{name}]", "must be a bool_param, true or false")
    return bool(parameter.bool_param)


def _tensors(request: pb.ModelInferRequest, limit: int) -> dict[str, list[bytes]]:
    """Return the texts of every input tensor, by name; no more of one than allowed."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise FieldError(
            "raw_input_contents", f"{len(raw)} contents for {len(request.inputs)} inputs"
        )
    found: dict[str, list[bytes]] = {}
    for index, tensor in enumerate(request.inputs):
        field = f"inputs[{index}]"
        if tensor.name not in INPUTS or tensor.name in found:
            raise FieldError(
                f"{field}.name", f"{tensor.name!r:.80} is none of {[*INPUTS]}, or comes twice"
            )
        _refuse_parameters(tensor.parameters, f"{field}.")
        if tensor.datatype != "BYTES":
            raise FieldError(f"{field}.datatype", f"{tensor.datatype!r:.80}, but texts are 'BYTES'")
        shape = list(tensor.shape[:3])
        count = shape[0] if shape else 0
        check_count(count, limit, "inputs", "texts")  # before the contents are split
        items = _from_raw(raw[index], field) if raw else iter(tensor.contents.bytes_contents)
        found[tensor.name] = texts = list(islice(items, max(count, 0) + 1))
        if shape not in ([len(texts)], [len(texts), 1]):
            raise FieldError(
                f"{field}.shape", f"{shape!s:.80} does not fit the texts; send their number"
            )
    return found


def _decoded(text: bytes, field: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FieldError(field, f"is not UTF-8: {error.reason}") from None


def _from_raw(raw: bytes, field: str) -> Iterator[bytes]:
    """Split a BYTES tensor: each element is its length, 4 bytes little-endian, and its bytes."""
    start = 0
    while start < len(raw):
        if start + 4 > len(raw):
            raise FieldError(field, "the raw contents end within a length")
        (length,) = struct.unpack_from("<I", raw, start)
        start += 4
        if start + length > len(raw):
            raise FieldError(field, "the raw contents end within a text")
        yield raw[start : start + length]
        start += length


def _to_raw(values: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        encoded = (value.encode() for value in values)
        return b"".join(struct.pack("<I", len(item)) + item for item in encoded)
    return np.asarray(values, dtype=DTYPES[datatype]).tobytes()
