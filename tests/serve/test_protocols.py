"""Standard protocols: Open Inference Protocol v2, health, reflection; also an unmodified client."""

import dataclasses
import importlib.util
import json
import struct
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deesc_model import SIGNALS, TRIGGERS, Prediction, Turn
from serve.generated import open_inference_pb2 as pb
from serve.generated import open_inference_pb2_grpc as pb_grpc

TEXTS = ["the parcel is late", "again", "naïve 😡 idiot"]


@pytest.fixture
def inference(channel):
    return pb_grpc.GRPCInferenceServiceStub(channel)


def request(*texts, **fields):
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)]
    )
    tensor.contents.bytes_contents.extend(
        text if isinstance(text, bytes) else text.encode() for text in texts
    )
    return pb.ModelInferRequest(**{"model_name": "deesc", "inputs": [tensor], **fields})


def outputs(reply):
    return {
        output.name: raw
        for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


def strings(raw):
    found, start = [], 0
    while start < len(raw):
        (length,) = struct.unpack_from("<I", raw, start)
        found.append(raw[start + 4 : start + 4 + length].decode())
        start += 4 + length
    return found


def test_infer_answers_as_the_classifier_does(inference, classifier):
    reply = inference.ModelInfer(request(*TEXTS, id="7"))
    assert (reply.model_name, reply.id) == ("deesc", "7")
    assert reply.model_version == classifier.model_version
    expected = classifier.predict_batch(TEXTS)
    raw = outputs(reply)
    answers = [Prediction.from_dict(json.loads(each)) for each in strings(raw["prediction"])]
    assert [each.triggers for each in answers] == [each.triggers for each in expected]
    assert np.frombuffer(raw["level"], "<i8").tolist() == [each.level for each in expected]
    assert np.frombuffer(raw["frustration"], "<f8") == pytest.approx(
        [each.frustration for each in expected], abs=1e-6
    )
    assert np.frombuffer(raw["uncertain"], "?").tolist() == [each.uncertain for each in expected]
    scores = {
        "level_scores": [each.level_scores for each in expected],
        "trigger_scores": [[each.trigger_scores[name] for name in TRIGGERS] for each in expected],
        "signal_scores": [[each.signal_scores[name] for name in SIGNALS] for each in expected],
    }
    shapes = {output.name: list(output.shape) for output in reply.outputs}
    for name, rows in scores.items():
        assert shapes[name] == [3, len(rows[0])]
        found = np.frombuffer(raw[name], "<f8").reshape(shapes[name])
        assert found == pytest.approx(np.array(rows), abs=1e-6)


def test_raw_texts_and_chosen_outputs(inference):
    asked = request(*TEXTS)
    encoded = [text.encode() for text in TEXTS]
    asked.raw_input_contents.append(b"".join(struct.pack("<I", len(e)) + e for e in encoded))
    del asked.inputs[0].contents.bytes_contents[:]
    asked.inputs[0].parameters["content_type"].string_param = "str"  # as MLServer's clients do
    asked.outputs.add(name="level")
    reply = inference.ModelInfer(asked)
    assert list(outputs(reply)) == ["level"]
    assert np.frombuffer(reply.raw_output_contents[0], "<i8").tolist() == [1, 2, 4]


def test_the_texts_may_be_one_conversation(inference, classifier):
    turns = [Turn("agent", "again"), Turn("customer", "the parcel")]
    asked = request(*(turn.text for turn in turns))
    speakers = asked.inputs.add(name="speaker", datatype="BYTES", shape=[2, 1])
    speakers.contents.bytes_contents.extend(turn.speaker.encode() for turn in turns)
    asked.parameters["conversation"].bool_param = True
    raw = outputs(inference.ModelInfer(asked))
    answers = [Prediction.from_dict(json.loads(each)) for each in strings(raw["prediction"])]
    expected = classifier.predict_conversation(turns)
    assert [each.triggers for each in answers] == [each.triggers for each in expected]
    assert "unresolved" in answers[1].triggers


def tensor(**changes):
    contents = {"bytes_contents": [b"late"]}
    return [{"name": "text", "datatype": "BYTES", "shape": [1], "contents": contents, **changes}]


def spoken(speaker):
    return tensor(name="speaker", contents={"bytes_contents": [speaker.encode()]})


def said(value):
    kind = "string_param" if isinstance(value, str) else "int64_param"
    return {"conversation": pb.InferParameter(**{kind: value})}


CLASSES = {"classification": pb.InferParameter(int64_param=3)}
SHARED_MEMORY = {"shared_memory_region": pb.InferParameter(string_param="mine")}


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        (request("late", model_name="bert"), "NOT_FOUND", "there is 'deesc'"),
        (request("late", model_version="1"), "NOT_FOUND", "'deesc' version 'tiny@"),
        (request("late", model_name="b" * 20_000), "NOT_FOUND", "there is 'deesc'"),
        (request("late", model_version="é" * 20_000), "NOT_FOUND", "there is 'deesc'"),
        (request("late", ""), "INVALID_ARGUMENT", r"inputs text[1]: text is empty"),
        (request("late", inputs=tensor() + spoken("bot")), "INVALID_ARGUMENT", "speaker[0]: 'bot'"),
        (request("late", inputs=tensor() + spoken("é" * 9000)), "INVALID_ARGUMENT", "speaker[0]"),
        (request("late", inputs=tensor(name="é" * 9000)), "INVALID_ARGUMENT", "is none of"),
        (request("late", inputs=tensor(datatype="é" * 9000)), "INVALID_ARGUMENT", "'BYTES'"),
        (request("late", outputs=[{"name": "é" * 9000}]), "INVALID_ARGUMENT", "is none of"),
        (request(b"\xff"), "INVALID_ARGUMENT", "not UTF-8"),
        (request("late", inputs=tensor(shape=[2])), "INVALID_ARGUMENT", "[2] does not fit"),
        (request("late", inputs=tensor(datatype="FP32")), "INVALID_ARGUMENT", "'BYTES'"),
        (request("late", inputs=tensor(name="words")), "INVALID_ARGUMENT", "'words' is none of"),
        (request("late", inputs=[]), "INVALID_ARGUMENT", "'text' is missing"),
        (request("late", inputs=tensor() * 2), "INVALID_ARGUMENT", "comes twice"),
        (request("late", outputs=[{"name": "mood"}]), "INVALID_ARGUMENT", "outputs[0].name"),
        (
            request("late", outputs=[{"name": "level"}] * 9000),
            "INVALID_ARGUMENT",
            "asked for twice",
        ),
        (request("late", raw_input_contents=[b"\1"]), "INVALID_ARGUMENT", "within a length"),
        (request("late", raw_input_contents=[b"\2\0\0\0x"]), "INVALID_ARGUMENT", "within a text"),
        (request("late", raw_input_contents=[b""] * 2), "INVALID_ARGUMENT", "2 contents"),
        (request(*["late"] * 501), "INVALID_ARGUMENT", "limit is 500"),
        (request("late", parameters=said("true")), "INVALID_ARGUMENT", "must be a bool_param"),
        (request("late", parameters=said(1)), "INVALID_ARGUMENT", "parameters[conversation]"),
        (
            request("late", parameters={"sequence_id": pb.InferParameter(int64_param=1)}),
            "INVALID_ARGUMENT",
            "parameters: 'sequence_id' is not supported",
        ),
        (
            request("late", outputs=[{"name": "level", "parameters": CLASSES}]),
            "INVALID_ARGUMENT",
            "outputs[0].parameters: 'classification' is not supported",
        ),
        (
            request("late", inputs=tensor(parameters=SHARED_MEMORY)),
            "INVALID_ARGUMENT",
            "inputs[0].parameters: 'shared_memory_region' is not supported",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(inference, asked, code, said):
    with pytest.raises(grpc.RpcError) as caught:
        inference.ModelInfer(asked)
    assert caught.value.code() is grpc.StatusCode[code]
    assert said in caught.value.details()


class Renamed:
    """Another bundle that answers the same."""

    model_version = "other@00000000"

    def __init__(self, classifier):
        self._classifier = classifier
        self.bundle = classifier.bundle

    def predict_batch(self, *args, **kwargs):
        answers = self._classifier.predict_batch(*args, **kwargs)
        return [dataclasses.replace(each, model_version=self.model_version) for each in answers]


def test_the_version_is_the_one_that_answered_also_if_another_took_over(start, gate, classifier):
    service = start()
    service.model.current = gate
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        infer = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        first = infer.future(request("the"))
        assert gate.entered.wait(10)
        asked = infer.future(request("late", model_version=classifier.model_version))
        plain = infer.future(request("again"))
        while service.batcher.depth < 2:
            time.sleep(0.01)
        service.model.current = Renamed(classifier)
        gate.open()
        assert first.result(10).model_version == classifier.model_version
        assert plain.result(10).model_version == Renamed.model_version
        with pytest.raises(grpc.RpcError) as caught:
            asked.result(10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert f"version '{Renamed.model_version}'" in caught.value.details()


def test_the_model_is_listed_and_described(inference, classifier):
    (model,) = inference.RepositoryIndex(pb.RepositoryIndexRequest()).models
    assert (model.name, model.version, model.state) == ("deesc", classifier.model_version, "READY")
    described = inference.ModelMetadata(pb.ModelMetadataRequest(name="deesc"))
    assert [each.name for each in described.inputs] == ["text", "speaker"]
    reply = inference.ModelInfer(request("late"))
    assert [(each.name, each.datatype) for each in described.outputs] == [
        (each.name, each.datatype) for each in reply.outputs
    ]
    assert inference.ServerLive(pb.ServerLiveRequest()).live
    assert inference.ServerReady(pb.ServerReadyRequest()).ready
    assert inference.ModelReady(pb.ModelReadyRequest(name="deesc")).ready
    assert not inference.ModelReady(pb.ModelReadyRequest(name="bert")).ready
    server = inference.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, list(server.extensions)) == ("deesc", [])


TRITON = """
import sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("deesc")
(model,) = client.get_model_repository_index().models
assert model.name == "deesc", model
assert client.get_model_metadata("deesc").inputs[0].name == "text"
texts = triton.InferInput("text", [2], "BYTES")
texts.set_data_from_numpy(np.array(["the parcel is late", "naïve 😡 idiot"], dtype=np.object_))
answer = client.infer("deesc", [texts])
assert answer.as_numpy("level").tolist() == [1, 4], answer
assert answer.as_numpy("level_scores").shape == (2, 5)
wanted = [triton.InferRequestedOutput("level"), triton.InferRequestedOutput("uncertain")]
answer = client.infer("deesc", [texts], outputs=wanted, parameters={"conversation": True})
assert answer.as_numpy("level").tolist() == [1, 4], answer
answer = client.infer("deesc", [texts])
assert b'"delay"' in answer.as_numpy("prediction")[0]
for name in sys.argv[2].split():  # its messages hold every field of ours
    theirs = service_pb2.DESCRIPTOR.message_types_by_name[name]
    print(name, sorted((f.number, f.name, f.type) for f in theirs.fields))
"""


def test_an_unmodified_tritonclient_lists_checks_and_queries(shared):
    if importlib.util.find_spec("tritonclient") is None:
        pytest.skip("tritonclient is not installed: pip install 'tritonclient[grpc]'")
    names = list(pb.DESCRIPTOR.message_types_by_name)
    # In a process of its own: it brings descriptors of the same names.
    result = subprocess.run(
        [sys.executable, "-c", TRITON, f"127.0.0.1:{shared.port}", " ".join(names)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    for line, name in zip(result.stdout.splitlines(), names, strict=True):
        ours = pb.DESCRIPTOR.message_types_by_name[name].fields
        for field in ours:
            assert str((field.number, field.name, field.type)) in line


def test_health_is_told_for_every_service(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "deesc.v1.EscalationService", "inference.GRPCInferenceService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nonsense"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_health_watch_hears_of_the_stop_and_does_not_hold_it_up(start, loop):
    service = start(drain_s=600.0)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        answers = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(answers).status == health_pb2.HealthCheckResponse.SERVING
        loop.run(service.stop(), timeout_s=100)  # a sixth of drain_s
        assert next(answers).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_reflection_lists_and_describes_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    kind = reflection_pb2.ServerReflectionRequest
    asked = [kind(list_services=""), kind(file_containing_symbol="deesc.v1.EscalationService")]
    listed, described = stub.ServerReflectionInfo(iter(asked))
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {"deesc.v1.EscalationService", "inference.GRPCInferenceService"}
    (raw,) = described.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(raw).package == "deesc.v1"
