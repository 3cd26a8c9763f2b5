"""What goes wrong, over a real socket: each gets a status that says what, where, what to do."""

import asyncio
import queue
import threading
import time
from unittest.mock import Mock

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from deesc_model import Turn
from deesc_model._proto import escalation_pb2 as pb
from deesc_model._proto import escalation_pb2_grpc as pb_grpc
from deesc_model.messages import read_prediction, turn_message
from serve import logs, requests
from serve.batching import MAX_LARGE_CALLS
from serve.generated import open_inference_pb2 as inference
from serve.generated import open_inference_pb2_grpc as inference_grpc

SERVICE = "/deesc.v1.EscalationService"
CODE = grpc.StatusCode


def raw_call(channel, method, *messages, timeout=10):
    """Send bytes as they are; streams may send any number of messages."""
    return channel.stream_unary(f"{SERVICE}/{method}")(iter(messages), timeout=timeout)


def details(error):
    """Return the google.rpc details of an error, unpacked, by kind."""
    metadata = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = {}
    for kind in (error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
        for each in status.details:
            if each.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(each.value)
    return found


def samples(service, name):
    metrics = service._metrics.registry.collect()
    return [sample for metric in metrics for sample in metric.samples if sample.name == name]


def calls(service):
    """How many calls ended, by method and code."""
    return {
        (sample.labels["method"].split("/")[-1], sample.labels["code"]): sample.value
        for sample in samples(service, "deesc_calls_total")
    }


def utterance_errors(service):
    """How many errors answers carried, by method and code."""
    return {
        (sample.labels["method"].split("/")[-1], sample.labels["code"]): sample.value
        for sample in samples(service, "deesc_utterance_errors_total")
    }


def predicted(service):
    """How many utterances the model has labelled."""
    return sum(sample.value for sample in samples(service, "deesc_predictions_total"))


def predict(text="late", speaker=0, context=()):
    return pb.PredictRequest(utterance=pb.Turn(text=text, speaker=speaker), context=context)


@pytest.mark.parametrize(
    ("method", "request_", "field", "said"),
    [
        ("Predict", pb.PredictRequest(), "utterance", "is missing"),
        ("Predict", predict(""), "utterance.text", "empty"),
        ("Predict", predict("late\0"), "utterance.text", "control character"),
        ("Predict", predict("x" * 10_001), "utterance.text", "limit is 10,000"),
        ("Predict", predict(speaker=9), "utterance.speaker", "9 is no speaker"),
        ("Predict", predict(context=[pb.Turn(text="a"), pb.Turn()]), "context[1].text", "empty"),
        ("Predict", predict(context=[pb.Turn(text="a")] * 201), "context", "201 turns"),
        (
            "PredictConversation",
            pb.PredictConversationRequest(turns=[pb.Turn(text="a"), pb.Turn(text="b", speaker=-1)]),
            "turns[1].speaker",
            "-1 is no speaker",
        ),
        (
            "PredictConversation",
            pb.PredictConversationRequest(turns=[pb.Turn(text="a")] * 201),
            "turns",
            "limit is 200",
        ),
        (
            "PredictBatch",
            pb.PredictBatchRequest(requests=[predict()] * 501),
            "requests",
            "501 utterances, this server's limit is 500; send fewer",
        ),
    ],
)
def test_a_field_that_cannot_be_used_is_named(stub, method, request_, field, said):
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request_)
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{field}: ")
    assert said in caught.value.details()
    (violation,) = details(caught.value)[error_details_pb2.BadRequest].field_violations
    assert violation.field == field


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff",  # malformed
        b"\x0a\x03\x12\x01\xff",  # a text that is not UTF-8
        b"\x0a\xff\xff\xff\xff\x0f",  # a length that is not there
        b"\x0b",  # a group that never ends
    ],
)
def test_bytes_that_are_no_request_are_refused(channel, raw):
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel, "Predict", raw)
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    assert "not UTF-8" in caught.value.details()


def test_a_message_of_another_type_is_refused(channel):
    info = pb.GetModelInfoResponse(model_version="late", context_turns=3)
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel, "Predict", info.SerializeToString())
    assert caught.value.code() is CODE.INVALID_ARGUMENT


def test_too_large_a_message_is_refused_before_it_is_read(channel, shared):
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel, "Predict", b"\0" * (shared.settings.max_message_bytes + 1))
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()


def test_too_large_a_message_is_counted_as_its_caller_sees_it(start, caplog):
    service = start(max_message_bytes=1024)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        for _ in range(5):
            with pytest.raises(grpc.RpcError):
                raw_call(channel, "Predict", b"\0" * 2000)
        call = channel.stream_stream(f"{SERVICE}/MonitorConversation")
        with pytest.raises(grpc.RpcError):
            list(call(iter([b"", b"\0" * 2000]), timeout=10))
        channel.unary_unary(f"{SERVICE}/GetModelInfo")(b"", timeout=10)
    assert calls(service) == {
        ("Predict", "RESOURCE_EXHAUSTED"): 5,
        ("MonitorConversation", "CANCELLED"): 1,
        ("GetModelInfo", "OK"): 1,
    }
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("method", [f"{SERVICE}/Predict", "/grpc.health.v1.Health/Check"])
def test_a_compressed_message_is_never_unpacked(channel, method):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"\0" * 2**20, compression=grpc.Compression.Gzip, timeout=10)
    assert caught.value.code() is CODE.UNIMPLEMENTED
    assert "'gzip' is disabled" in caught.value.details()


@pytest.mark.parametrize("method", [f"{SERVICE}/Nonsense", "/nonsense.Service/Predict", "/"])
def test_an_unknown_method_is_unimplemented(channel, method):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"", timeout=10)
    assert caught.value.code() is CODE.UNIMPLEMENTED


def test_a_call_that_is_half_closed_without_a_message_is_told_so(channel):
    with pytest.raises(grpc.RpcError) as caught:
        raw_call(channel, "Predict")
    assert caught.value.code() is CODE.INVALID_ARGUMENT
    assert "without a message" in caught.value.details()


def test_a_stream_that_is_half_closed_is_answered_to_its_end(stub):
    turns = [pb.MonitorConversationRequest(turn=pb.Turn(text="late"))] * 3
    assert len(list(stub.MonitorConversation(iter(turns)))) == 3
    assert list(stub.MonitorConversation(iter([]))) == []


def test_a_malformed_message_ends_its_stream(channel):
    call = channel.stream_stream(f"{SERVICE}/MonitorConversation")
    good = pb.MonitorConversationRequest(turn=pb.Turn(text="late")).SerializeToString()
    answers = call(iter([good, b"\xff"]), timeout=10)
    assert pb.MonitorConversationResponse.FromString(next(answers)).prediction.level == 1
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is CODE.INVALID_ARGUMENT


@pytest.fixture
def busy(start, gate):
    """A server whose model is at work on "the" until the gate opens, and its stub."""
    service = start(max_load=250)  # room for two short texts to wait
    service.model.current = gate
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        first = stub.Predict.future(predict("the"))
        assert gate.entered.wait(10)
        yield service, stub
        gate.open()
        assert first.result(10)


def waiting(service, count):
    """Return once so many utterances wait."""
    for _ in range(1000):
        if service.batcher.depth == count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{service.batcher.depth} utterances wait, not {count}")


@pytest.mark.parametrize(
    "method",
    [
        f"{SERVICE}/Predict",
        f"{SERVICE}/PredictBatch",
        f"{SERVICE}/PredictConversation",
        "/inference.GRPCInferenceService/ModelInfer",
    ],
)
def test_a_full_queue_refuses_before_a_message_is_read(busy, method):
    service, stub = busy
    held = [stub.Predict.future(predict(text)) for text in ("late", "again")]
    waiting(service, 2)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"\xff", timeout=10)
        assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
        info = channel.unary_unary(f"{SERVICE}/GetModelInfo")
        assert info(b"", timeout=10)  # what the model has no part in is answered
    for call in held:
        call.cancel()


def infer(*texts):
    """A request of the Open Inference Protocol."""
    tensor = inference.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)]
    )
    tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    return inference.ModelInferRequest(model_name="deesc", inputs=[tensor])


def test_a_large_call_without_room_is_refused_before_its_texts_are_read(start, gate):
    service = start(max_batch=4)
    service.model.current = gate
    texts = ["late"] * 20 + [""]
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        large = pb.PredictBatchRequest(requests=[predict("late")] * 20)
        held = [stub.PredictBatch.future(large) for _ in range(MAX_LARGE_CALLS)]
        waiting(service, 20 * MAX_LARGE_CALLS - 4)
        turns = [pb.Turn(text=text) for text in texts]
        for call, asked in (
            (stub.PredictConversation, pb.PredictConversationRequest(turns=turns)),
            (inference_grpc.GRPCInferenceServiceStub(channel).ModelInfer, infer(*texts)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(asked, timeout=10)
            assert caught.value.code() is CODE.RESOURCE_EXHAUSTED  # not INVALID_ARGUMENT
        gate.open()
        assert all(call.result(20) for call in held)


def test_others_are_looked_at_while_a_large_call_is_read():
    async def turns_of_others(count):
        turns, done = 0, asyncio.Event()

        async def other():
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        for index in range(count):
            await requests.let_others_in(index)
        done.set()
        await task
        return turns

    assert asyncio.run(turns_of_others(requests.READ_AT_ONCE)) == 1  # nor does a small one wait
    assert asyncio.run(turns_of_others(3 * requests.READ_AT_ONCE)) == 3


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(busy, gate):
    service, stub = busy
    held = [stub.Predict.future(predict(text)) for text in ("late", "again")]
    waiting(service, 2)
    with pytest.raises(grpc.RpcError) as caught:  # though the model is stuck
        stub.Predict(predict("fine"), timeout=10)
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
    delay = details(caught.value)[error_details_pb2.RetryInfo].retry_delay
    assert delay.ToMilliseconds() > 0
    pushback = dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"]
    assert int(pushback) == delay.ToMilliseconds()
    gate.open()
    assert [call.result(10).prediction.triggers for call in held] == [["delay"], ["unresolved"]]


def test_a_turn_refused_for_want_of_room_does_not_enter_the_conversation(busy, gate, classifier):
    service, stub = busy
    held = [stub.Predict.future(predict(text)) for text in ("late", "again")]
    waiting(service, 2)
    said = queue.SimpleQueue()
    answers = stub.MonitorConversation(iter(said.get, None))
    said.put(pb.MonitorConversationRequest(turn=pb.Turn(text="late")))
    assert next(answers).error.code == CODE.RESOURCE_EXHAUSTED.value[0]
    gate.open()
    assert all(call.result(10) for call in held)
    said.put(pb.MonitorConversationRequest(turn=pb.Turn(text="again")))
    assert read_prediction(next(answers).prediction) == classifier.predict("again")
    said.put(None)
    assert list(answers) == []


def test_refusals_do_not_fill_the_log(busy, gate, loop, monkeypatch, caplog):
    monkeypatch.setattr(logs, "REPEATED_S", 3600)
    caplog.set_level("INFO", logs.LOGGER.name)
    service, stub = busy
    held = [stub.Predict.future(predict(text)) for text in ("late", "again")]
    waiting(service, 2)
    for _ in range(5):
        with pytest.raises(grpc.RpcError):
            stub.Predict(predict("fine"), timeout=10)
    gate.open()
    assert all(call.result(10) for call in held)
    loop.run(service.stop())  # what is only counted yet is told before the end
    told = [
        (record.getMessage(), record.fields.get("count"))
        for record in caplog.records
        if record.fields.get("code") == "RESOURCE_EXHAUSTED"
    ]
    assert told == [("call", None), ("more calls were refused", 4)]


def test_calls_without_a_token_or_at_the_end_do_not_fill_the_log(
    start, loop, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(logs, "REPEATED_S", 3600)
    caplog.set_level("INFO", logs.LOGGER.name)
    (tmp_path / "tokens").write_text("secret\n")
    service = start(token_file=tmp_path / "tokens", max_message_bytes=1024)
    bearer = (("authorization", "Bearer secret"),)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)

        def fail(times, metadata=None, text="late"):
            for _ in range(times):
                with pytest.raises(grpc.RpcError):
                    stub.Predict(predict(text), timeout=10, metadata=metadata)

        fail(3)
        fail(2, bearer, "late" * 500)  # too large: a line each
        with monkeypatch.context() as patch:
            patch.setattr(service._calls, "_stopping", Mock(done=lambda: True))
            fail(4, bearer)
    loop.run(service.stop())
    told = [
        (record.fields["code"], record.fields.get("count"))
        for record in caplog.records
        if record.getMessage() in ("call", "more calls were refused")
    ]
    assert told == [
        ("UNAUTHENTICATED", None),
        ("RESOURCE_EXHAUSTED", None),
        ("RESOURCE_EXHAUSTED", None),
        ("UNAVAILABLE", None),
        ("UNAUTHENTICATED", 2),
        ("UNAVAILABLE", 3),
    ]


class Slow:
    """A classifier that gives others the time to call."""

    def __init__(self, classifier):
        self._classifier = classifier
        self.bundle = classifier.bundle

    def predict_batch(self, *args, **options):
        time.sleep(0.01)
        return self._classifier.predict_batch(*args, **options)


def test_large_calls_do_not_lock_out_a_live_one(start, classifier):
    service = start()
    service.model.current = Slow(classifier)
    large = pb.PredictBatchRequest(requests=[predict("late " * 60)] * 100)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        calls = [stub.PredictBatch.future(large) for _ in range(2)]
        live = 0
        while not all(call.done() for call in calls):
            assert stub.Predict(predict(), timeout=10).prediction.level == 1  # never refused
            live += 1
        assert [len(call.result().results) for call in calls] == [100, 100]
    assert live > 2


def test_work_past_its_deadline_is_not_computed(busy, gate):
    _, stub = busy
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(predict("late"), timeout=0.2)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    gate.open()
    stub.Predict(predict("fine"), timeout=10)
    assert gate.batches == [["the"], ["fine"]]


def test_cancelled_work_is_not_computed(busy, gate):
    service, stub = busy
    call = stub.Predict.future(predict("late"))
    waiting(service, 1)
    call.cancel()
    waiting(service, 0)
    last = stub.Predict.future(predict("fine"))
    waiting(service, 1)
    gate.open()
    last.result(10)
    assert gate.batches == [["the"], ["fine"]]


def test_a_cancelled_stream_leaves_the_server_well(stub):
    said = threading.Event()

    def say():
        yield pb.MonitorConversationRequest(turn=turn_message(Turn("customer", "late")))
        said.wait(10)

    answers = stub.MonitorConversation(say())
    next(answers)
    answers.cancel()
    said.set()
    assert stub.Predict(predict()).prediction.level == 1


def test_a_stream_whose_answers_nobody_takes_is_counted_as_cancelled(start):
    service = start()
    little_room = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 2**14)]
    with grpc.insecure_channel(f"127.0.0.1:{service.port}", little_room) as channel:
        turns = [pb.MonitorConversationRequest(turn=pb.Turn(text="late"))] * 3000
        answers = pb_grpc.EscalationServiceStub(channel).MonitorConversation(iter(turns))
        answered = -1
        while answered < (answered := predicted(service)):  # until the connection is full
            time.sleep(0.5)
        assert 0 < answered < len(turns)
        answers.cancel()
        for _ in range(100):
            if codes := calls(service):
                break
            time.sleep(0.05)
    assert codes == {("MonitorConversation", "CANCELLED"): 1}


def test_what_nobody_foresaw_is_internal_and_tells_no_text(start, classifier, caplog):
    class Broken:
        bundle = classifier.bundle

        def predict_batch(self, turns, *args, **kwargs):
            raise RuntimeError(f"cannot read {turns[0].text}")

    service = start()
    whole, service.model.current = service.model.current, Broken()
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(predict("secret"))
        assert caught.value.code() is CODE.INTERNAL
        assert "secret" not in str(caught.value)
        assert "RuntimeError" in caplog.text
        assert dict(caught.value.trailing_metadata())["x-request-id"]
        service.model.current = whole
        assert stub.Predict(predict()).prediction.level == 1


class Faulty:
    """A classifier that breaks at furious texts."""

    def __init__(self, classifier):
        self._classifier = classifier

    def __getattr__(self, name):
        return getattr(self._classifier, name)

    def predict_batch(self, turns, *args, **kwargs):
        if any("furious" in turn.text for turn in turns):
            raise RuntimeError(f"cannot read {turns[0].text}")
        return self._classifier.predict_batch(turns, *args, **kwargs)


@pytest.fixture
def faulty(start, classifier):
    service = start()
    service.model.current = Faulty(classifier)
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        yield service, pb_grpc.EscalationServiceStub(channel)


def faults(caplog):
    """Return which calls had how many, by the log."""
    return [
        (record.fields["request_id"], record.fields["utterances"])
        for record in caplog.records
        if record.getMessage() == "unforeseen error"
    ]


@pytest.mark.parametrize("repeats", [1, 40])  # one batch, and a large call of several
def test_a_fault_at_one_text_of_a_batch_is_that_texts_error(faulty, repeats, caplog):
    texts = ["late", "furious", "", "again"] * repeats
    requests = [predict(text) for text in texts]
    service, stub = faulty
    reply, call = stub.PredictBatch.with_call(
        pb.PredictBatchRequest(requests=requests), metadata=(("x-request-id", "mine"),)
    )
    codes = [CODE.OK, CODE.INTERNAL, CODE.INVALID_ARGUMENT, CODE.OK]
    assert [result.error.code for result in reply.results] == [
        code.value[0] for code in codes * repeats
    ]
    assert "internal error; the server's log" in reply.results[1].error.message
    assert [result.prediction.triggers for result in reply.results[::4]] == [["delay"]] * repeats
    assert dict(call.trailing_metadata())["x-request-id"] == "mine"
    assert faults(caplog) == [("mine", repeats)]
    assert utterance_errors(service) == {
        ("PredictBatch", "INTERNAL"): repeats,
        ("PredictBatch", "INVALID_ARGUMENT"): repeats,
    }


def test_a_fault_at_one_turn_does_not_end_the_conversation(faulty, caplog):
    turns = [
        pb.MonitorConversationRequest(turn=pb.Turn(text=text))
        for text in ("late", "furious", "again")
    ]
    service, stub = faulty
    answers = list(stub.MonitorConversation(iter(turns), metadata=(("x-request-id", "mine"),)))
    assert [answer.error.code for answer in answers] == [0, CODE.INTERNAL.value[0], 0]
    assert answers[2].prediction.triggers == ["delay", "unresolved"]  # not with "furious" before
    assert faults(caplog) == [("mine", 1)]
    assert utterance_errors(service) == {("MonitorConversation", "INTERNAL"): 1}


def test_a_fault_fails_a_call_that_has_one_answer_for_all(faulty):
    _, stub = faulty
    turns = [pb.Turn(text=text) for text in ("late", "furious")]
    with pytest.raises(grpc.RpcError) as caught:
        stub.PredictConversation(pb.PredictConversationRequest(turns=turns))
    assert caught.value.code() is CODE.INTERNAL


class Panic(BaseException):
    """What a library in Rust raises when it breaks: no `Exception`."""


def test_a_panic_of_the_model_spoils_no_other_call(start, gate, classifier, caplog, capfd):
    class Panicking:
        bundle = classifier.bundle

        def predict_batch(self, turns, *args, **kwargs):
            if any("secret" in turn.text for turn in turns):
                raise Panic(turns[0].text)
            return gate.predict_batch(turns, *args, **kwargs)

    service = start(max_load=1_000)
    service.model.current = Panicking()
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        calls = [stub.Predict.future(predict("the"))]
        assert gate.entered.wait(10)
        calls += [stub.Predict.future(predict(text)) for text in ("late", "secret", "again")]
        waiting(service, 3)
        gate.open()
        triggers = [call.result(10).prediction.triggers for call in (*calls[:2], calls[3])]
        assert triggers == [[], ["delay"], ["unresolved"]]
        assert calls[2].code() is CODE.INTERNAL
        assert stub.Predict(predict(), timeout=10).prediction.triggers == ["delay"]
    assert service.batcher._running_load == 0
    assert "secret" not in calls[2].details() + caplog.text + capfd.readouterr().err
    assert "unforeseen error" in caplog.text


def test_a_model_without_a_thread_fails_its_calls_until_it_has_one(start, monkeypatch):
    service, begin = start(), threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("model"):
            raise RuntimeError("can't start new thread")
        begin(thread)

    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub = pb_grpc.EscalationServiceStub(channel)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(predict(), timeout=10)
        assert caught.value.code() is CODE.INTERNAL
        assert stub.Predict(predict(), timeout=10).prediction.triggers == ["delay"]
