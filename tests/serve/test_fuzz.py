"""Whatever arrives is answered or refused: no crash, no INTERNAL, no UNKNOWN.

DEESC_FUZZ_MESSAGES=10000 sends as many messages; a few hundred by default.
"""

import os

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deesc_model._proto import escalation_pb2 as pb
from serve.generated import open_inference_pb2 as inference

MESSAGES = int(os.environ.get("DEESC_FUZZ_MESSAGES", "300"))
OWN, STANDARD = "/deesc.v1.EscalationService", "/inference.GRPCInferenceService"
FAIR = {  # one call at a time: no server is too busy for that
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
}

texts = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["late", "again", "the parcel is fine", "", " ", "\0", "x" * 20_000]),
)
turns = st.builds(pb.Turn, speaker=st.integers(-5, 5), text=texts)
requests = st.builds(
    pb.PredictRequest,
    utterance=st.none() | turns,
    context=st.lists(turns, max_size=3),
)
contents = st.lists(texts.map(str.encode) | st.binary(max_size=20), max_size=4)
tensors = st.builds(
    inference.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["text", "speaker", "", "other"]),
    datatype=st.sampled_from(["BYTES", "FP32", ""]),
    shape=st.lists(st.integers(-3, 5), max_size=3),
    contents=st.builds(inference.InferTensorContents, bytes_contents=contents),
)
infers = st.builds(
    inference.ModelInferRequest,
    model_name=st.sampled_from(["deesc", "deesc", "deesc", ""]),
    inputs=st.lists(tensors, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=40), max_size=3),
)
MESSAGES_OF = {
    f"{OWN}/Predict": requests,
    f"{OWN}/PredictBatch": st.builds(
        pb.PredictBatchRequest, requests=st.lists(requests, max_size=4)
    ),
    f"{OWN}/PredictConversation": st.builds(
        pb.PredictConversationRequest, turns=st.lists(turns, max_size=5)
    ),
    f"{OWN}/MonitorConversation": st.builds(pb.MonitorConversationRequest, turn=turns),
    f"{OWN}/GetModelInfo": st.just(pb.GetModelInfoRequest()),
    f"{STANDARD}/ModelInfer": infers,
    f"{STANDARD}/ModelMetadata": st.builds(inference.ModelMetadataRequest, name=texts),
}


@st.composite
def calls(draw):
    """A method and the bytes of a message: a sensible one, one with a fault, or any bytes."""
    method = draw(st.sampled_from(sorted(MESSAGES_OF)))
    raw = draw(MESSAGES_OF[method]).SerializeToString()
    kind = draw(st.sampled_from(["whole", "whole", "flipped", "cut", "any"]))
    if kind == "flipped" and raw:
        at = draw(st.integers(0, len(raw) - 1))
        raw = raw[:at] + bytes([raw[at] ^ draw(st.integers(1, 255))]) + raw[at + 1 :]
    elif kind == "cut":
        raw = raw[: draw(st.integers(0, len(raw)))]
    elif kind == "any":
        raw = draw(st.binary(max_size=200))
    return method, raw


def ask(channel, method, raw):
    """Send a message and return the status; of several utterances the first that is an error's."""
    try:
        if method.endswith("MonitorConversation"):
            raws = list(channel.stream_stream(method)(iter([raw, raw]), timeout=30))
            results = [pb.MonitorConversationResponse.FromString(each) for each in raws]
        else:
            reply = channel.unary_unary(method)(raw, timeout=30)
            batch = method.endswith("PredictBatch")
            results = pb.PredictBatchResponse.FromString(reply).results if batch else []
    except grpc.RpcError as error:
        return error.code()
    numbers = [result.error.code for result in results if result.HasField("error")]
    return next(code for code in grpc.StatusCode if code.value[0] == (numbers or [0])[0])


@pytest.fixture(scope="module")
def seen():
    """Statuses that came back; both kinds must, or the messages were all alike."""
    found = set()
    yield found
    assert found >= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


def test_any_message_is_answered_or_refused(shared, seen):
    with grpc.insecure_channel(f"127.0.0.1:{shared.port}") as channel:

        @settings(
            max_examples=MESSAGES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(calls())
        def fuzz(call):
            code = ask(channel, *call)
            seen.add(code)
            assert code in FAIR

        fuzz()
        good = pb.PredictRequest(utterance=pb.Turn(text="late")).SerializeToString()
        assert ask(channel, f"{OWN}/Predict", good) is grpc.StatusCode.OK
