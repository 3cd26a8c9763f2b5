"""The client against a real server: the same answers as the classifier, deadlines, retries."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

import deesc_model.client
from deesc_model import DeescError, InvalidInputError, ServiceError, Turn
from deesc_model._proto import escalation_pb2 as pb
from deesc_model.client import AsyncEscalationClient, EscalationClient, asynchronous

TURNS = [Turn("customer", "the parcel is late"), Turn("agent", "the parcel is fine")]
TURNS += [Turn("customer", "again")]


class Sync:
    """Calls an asynchronous client from a test; it lives in the servers' event loop."""

    def __init__(self, loop, address, **options):
        async def make():
            return AsyncEscalationClient(address, **options)

        self._loop = loop
        self._client = loop.run(make())

    def __getattr__(self, name):
        def call(*arguments):
            return self._loop.run(getattr(self._client, name)(*arguments))

        return call

    def monitor_conversation(self, turns, *arguments):
        async def said():
            coming = iter(turns)
            while (turn := await asyncio.to_thread(next, coming, None)) is not None:
                yield turn

        async def following():
            return await anext(answers, None)

        answers = self._client.monitor_conversation(said(), *arguments)
        while (answer := self._loop.run(following())) is not None:
            yield answer


@pytest.fixture(params=["sync", "async"])
def connect(request, loop):
    clients = []

    def connect(port, **options):
        kind = EscalationClient if request.param == "sync" else lambda *a, **o: Sync(loop, *a, **o)
        clients.append(kind(f"127.0.0.1:{port}", **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def test_every_method_answers_as_the_classifier_does(connect, shared, classifier):
    client = connect(shared.port)
    assert client.predict("late", ["again"]) == classifier.predict("late", ["again"])
    assert client.predict(TURNS[2], TURNS[:2]) == classifier.predict(TURNS[2], TURNS[:2])
    texts = ["late", "again"] * 120  # three calls
    for answer, expected in zip(
        client.predict_batch(texts), classifier.predict_batch(texts), strict=True
    ):
        assert (answer.level, answer.triggers) == (expected.level, expected.triggers)
        assert list(answer.trigger_scores) == list(expected.trigger_scores)
    assert client.predict_batch(["late"], [["fine"]]) == classifier.predict_batch(
        ["late"], [["fine"]]
    )
    assert [answer.triggers for answer in client.predict_conversation(TURNS)] == [
        expected.triggers for expected in classifier.predict_conversation(TURNS)
    ]
    assert [answer.triggers for answer in client.monitor_conversation(TURNS)] == [
        expected.triggers for expected in classifier.predict_conversation(TURNS)
    ]
    assert client.model_info()["model_version"] == classifier.model_version
    assert client.predict_batch([]) == client.predict_conversation([]) == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("predict", ("",)),
        ("predict", (7,)),
        ("predict", ("fine", "again")),
        ("predict_batch", (["fine", " "],)),
        ("predict_batch", ("fine",)),
        ("predict_batch", (["fine"], [])),
        ("predict_conversation", ([Turn("agent", "fine"), {}],)),
    ],
)
def test_bad_input_raises_as_in_the_classifier(connect, shared, classifier, method, arguments):
    with pytest.raises(InvalidInputError):
        getattr(classifier, method)(*arguments)
    with pytest.raises(InvalidInputError):
        getattr(connect(shared.port), method)(*arguments)


def test_the_limits_of_the_server_are_told(connect, shared):
    client = connect(shared.port)
    with pytest.raises(InvalidInputError, match=r"utterance\.text: .* limit is 10,000"):
        client.predict("x" * 20_000)
    with pytest.raises(InvalidInputError, match=r"utterance 101: requests\[1\]\.utterance\.text"):
        client.predict_batch(["late"] * 101 + ["x" * 20_000])
    with pytest.raises(InvalidInputError, match="201 turns"):
        client.predict_conversation(TURNS[:1] * 201)


def test_a_batch_larger_than_a_message_is_cut(connect, shared):
    contexts = [["x" * 1_000] * 50] * 100  # 5 MB; the server takes 4 MiB
    assert len(connect(shared.port, timeout_s=60).predict_batch(["late"] * 100, contexts)) == 100


def test_a_deadline_ends_a_call(connect, start, gate):
    service = start()
    service.model.current = gate
    client = connect(service.port, timeout_s=0.3)
    with pytest.raises(ServiceError) as caught:
        client.predict("late")
    assert caught.value.code == "DEADLINE_EXCEEDED"


def triggers_until_error(answers):
    """Return what a live conversation answered, and the error that ended it."""
    got = []
    try:
        for answer in answers:
            got.append(answer.triggers)
    except Exception as error:
        return got, error
    raise AssertionError(f"nothing ended it: {got}")


def test_a_live_conversation_answers_before_it_asks_for_more(connect, shared):
    got = []

    def say():
        for text in ("late", "again", "fine"):
            yield text
            assert got.pop()

    for answer in connect(shared.port).monitor_conversation(say()):
        got.append(answer)
    assert got == []


def test_a_bad_turn_is_told_after_the_answers_to_the_good_ones(connect, shared):
    got, error = triggers_until_error(connect(shared.port).monitor_conversation(["late", " "]))
    assert got == [("delay",)]
    assert isinstance(error, InvalidInputError)


def test_a_live_conversation_goes_on_without_the_bad_turns(connect, shared, classifier):
    errors = []
    turns = ["late", " ", "x" * 20_000, "again"]  # one the client refuses, one the server
    live = connect(shared.port).monitor_conversation(turns, lambda *error: errors.append(error))
    assert list(live) == [classifier.predict("late"), classifier.predict("again", ["late"])]
    assert [index for index, _ in errors] == [1, 2]
    assert all(isinstance(error, InvalidInputError) for _, error in errors)


def test_the_callers_own_error_comes_back_to_the_caller(connect, shared):
    def say():
        yield "late"
        raise KeyError("telephone")

    got, error = triggers_until_error(connect(shared.port).monitor_conversation(say()))
    assert got == [("delay",)]
    assert isinstance(error, KeyError)


def test_a_write_into_a_stream_that_ended_is_its_end():
    """What grpc.aio makes of it, when the end is known to gRPC's core and not yet to Python."""

    class Call:
        async def write(self, request):
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.INTERNAL, None, None, details="Internal error from Core"
            )

    with pytest.raises(ServiceError) as caught:
        asyncio.run(asynchronous._write(Call(), pb.MonitorConversationRequest()))
    assert caught.value.code == "UNAVAILABLE"


def test_a_server_that_stops_ends_a_live_conversation(connect, start, loop):
    service = start()

    def say():
        yield "late"
        loop.run(service.stop())
        yield "again"

    got, error = triggers_until_error(connect(service.port).monitor_conversation(say()))
    assert got == [("delay",)]
    assert error.code == "UNAVAILABLE"


def test_a_live_conversation_that_is_left_makes_room(connect, start):
    full = connect(start(max_streams=1).port)
    said = threading.Event()

    def say():
        yield "late"
        said.wait(20)

    for answer in full.monitor_conversation(say()):
        assert answer.triggers == ("delay",)
        break
    assert full.predict("late").triggers == ("delay",)
    said.set()


def test_clients_do_not_share_a_connection(connect, start):
    service = start(max_streams=1)
    held = connect(service.port).monitor_conversation(["late", "again"])
    assert next(held).triggers == ("delay",)
    assert connect(service.port).predict("late").triggers == ("delay",)
    held.close()


def test_a_dead_connection_ends_a_live_conversation(connect, spawn, monkeypatch):
    short = {"grpc.keepalive_time_ms": 1_000, "grpc.http2.ping_timeout_ms": 500}
    options = [(key, short.get(key, value)) for key, value in deesc_model.client.blocking.OPTIONS]
    monkeypatch.setattr("deesc_model.client.blocking.OPTIONS", options)
    server = spawn()
    frozen = connect(server.port)

    def say():
        yield "late"
        server.process.send_signal(signal.SIGSTOP)  # its system still takes what is sent
        yield "again"

    got, error = triggers_until_error(frozen.monitor_conversation(say()))
    assert got == [("delay",)]
    assert error.code == "UNAVAILABLE"
    server.process.send_signal(signal.SIGCONT)
    assert frozen.predict("late").triggers == ("delay",)


def test_a_distant_server_is_reached_by_one_connection(connect, shared):
    came = []

    def carry(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)

    def relay(listener):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            while True:
                near = stack.enter_context(listener.accept()[0])
                came.append(near)
                time.sleep(0.6)  # as TLS over a long way takes
                far = stack.enter_context(socket.create_connection(("127.0.0.1", shared.port)))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=relay, args=(listener,), daemon=True).start()
        client = connect(listener.getsockname()[1])
        assert client.predict("late").model_version
    assert len(came) == 1


def test_nobody_there_is_an_error_after_some_tries(connect, deserted):
    _, port = deserted.split(":")
    with pytest.raises(ServiceError) as caught:
        connect(int(port), timeout_s=1).predict("late")
    assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert isinstance(caught.value, DeescError)


class Silent(grpc.GenericRpcHandler):
    """A server that takes calls and answers none before it is let."""

    def __init__(self):
        self.called, self.let = threading.Event(), threading.Event()

    def service(self, details):
        def behave(raw, context):
            self.called.set()
            self.let.wait(10)
            return b""

        return grpc.unary_unary_rpc_method_handler(behave)


def test_closing_ends_the_calls_under_way_and_those_to_come(connect, serve_with):
    server = serve_with(Silent())
    client = connect(server.port)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.predict, "late")
        assert server.called.wait(5)
        client.close()
        with pytest.raises(ServiceError) as caught:
            waiting.result(5)
        server.let.set()
    assert caught.value.code == "CANCELLED"
    for call in (lambda: client.predict("late"), lambda: list(client.monitor_conversation(TURNS))):
        with pytest.raises(ServiceError, match="this client was closed"):
            call()


def test_a_callers_own_cancellation_stays_one(serve_with):
    server = serve_with(Silent())

    async def cancelled():
        async with AsyncEscalationClient(f"127.0.0.1:{server.port}") as client:
            task = asyncio.create_task(client.predict("late"))
            await asyncio.to_thread(server.called.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        server.let.set()

    asyncio.run(cancelled())


@pytest.mark.parametrize("token", ["two\nlines", "ü"])
def test_a_token_that_no_header_can_hold_is_refused(token):
    with pytest.raises(InvalidInputError, match="token must be printable ASCII"):
        EscalationClient("127.0.0.1:1", token=token)


class Crowded(grpc.GenericRpcHandler):
    """A server that has no room for a turn a number of times, then gives `answer`."""

    def __init__(self, times, answer):
        self.times, self.answer = times, answer
        self.heard = []

    def service(self, details):
        def behave(requests, context):
            for request in requests:
                self.heard.append(request.turn.text)
                full = self.heard.count(request.turn.text) <= self.times
                error = pb.ItemError(code=8, message="no room")
                yield pb.MonitorConversationResponse(
                    **{"error": error} if full else {"prediction": self.answer}
                )

        return grpc.stream_stream_rpc_method_handler(
            behave,
            pb.MonitorConversationRequest.FromString,
            pb.MonitorConversationResponse.SerializeToString,
        )


class Flaky(grpc.GenericRpcHandler):
    """A server that gives one status a number of times, then whatever `answer` is."""

    def __init__(self, code, times, answer, pushback=None):
        self.code, self.times, self.answer, self.pushback = code, times, answer, pushback
        self.calls = 0

    def service(self, details):
        def behave(raw, context):
            self.calls += 1
            if self.calls > self.times:
                return self.answer
            if self.pushback:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", self.pushback),))
            context.abort(self.code, "not now")

        return grpc.unary_unary_rpc_method_handler(behave)


@pytest.fixture
def serve_with():
    """Start a server with a handler of the test's own, and note its port there."""
    servers = []

    def serve_with(handler):
        options = [("grpc.max_receive_message_length", -1)]
        server = grpc.server(ThreadPoolExecutor(2), handlers=[handler], options=options)
        handler.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return handler

    yield serve_with
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def flaky(stub, serve_with):
    """Start a server that fails as told and then answers "late"."""
    reply = stub.Predict(pb.PredictRequest(utterance=pb.Turn(text="late"))).SerializeToString()

    def flaky(code, times, pushback=None):
        return serve_with(Flaky(code, times, reply, pushback))

    return flaky


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_what_may_pass_is_tried_again(connect, flaky, code):
    server = flaky(code, 2)
    assert connect(server.port).predict("late").triggers == ("delay",)
    assert server.calls == 3


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.ABORTED,
    ],
)
def test_what_will_not_pass_is_not_tried_again(connect, flaky, code):
    server = flaky(code, 2)
    with pytest.raises(DeescError):
        connect(server.port).predict("late")
    assert server.calls == 1


@pytest.fixture
def crowded(stub, serve_with, monkeypatch):
    """Start a server that has no room for a turn at first; clients come back at once."""
    monkeypatch.setattr("deesc_model.client.calls.PAUSES_S", (0, 0, 0, 0))
    answer = stub.Predict(pb.PredictRequest(utterance=pb.Turn(text="late"))).prediction
    return lambda times: serve_with(Crowded(times, answer))


def test_a_turn_there_was_no_room_for_is_said_again_before_the_next(connect, crowded):
    server = crowded(2)
    answers = list(connect(server.port).monitor_conversation(["late", "again"]))
    assert [answer.triggers for answer in answers] == [("delay",), ("delay",)]
    assert server.heard == ["late"] * 3 + ["again"] * 3


def test_a_turn_is_not_said_again_for_ever(connect, crowded):
    server = crowded(99)
    errors = []
    turns = ["late", "again"]
    assert not list(connect(server.port).monitor_conversation(turns, lambda *e: errors.append(e)))
    assert [(index, error.code) for index, error in errors] == [
        (0, "RESOURCE_EXHAUSTED"),
        (1, "RESOURCE_EXHAUSTED"),
    ]
    assert server.heard == ["late"] * 5 + ["again"] * 5


def test_tries_end(connect, flaky):
    server = flaky(grpc.StatusCode.RESOURCE_EXHAUSTED, 99, pushback="1")
    with pytest.raises(ServiceError, match="RESOURCE_EXHAUSTED: not now"):
        connect(server.port).predict("late")
    assert server.calls == 5


def test_what_is_too_large_for_a_server_is_sent_once(connect, flaky):
    server = flaky(grpc.StatusCode.RESOURCE_EXHAUSTED, 99, pushback="1")
    with pytest.raises(ServiceError, match="RESOURCE_EXHAUSTED"):
        connect(server.port).predict("late", ["x" * 100_000] * 42)
    assert server.calls == 1


def test_the_pause_that_the_server_asks_for_is_kept(connect, flaky):
    server = flaky(grpc.StatusCode.RESOURCE_EXHAUSTED, 1, pushback="60000")
    with pytest.raises(ServiceError) as caught:
        connect(server.port, timeout_s=1).predict("late")
    assert caught.value.code in ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    assert server.calls == 1  # the second try would have come after the deadline


def test_a_full_server_is_asked_again_until_it_has_room(connect, start, gate):
    service = start(max_load=1)
    service.model.current = gate
    client = connect(service.port)
    answers = []

    def ask():
        answers.append(client.predict("late").triggers)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert gate.entered.wait(10)
    refused = {"method": "/deesc.v1.EscalationService/Predict", "code": "RESOURCE_EXHAUSTED"}
    for _ in range(1000):  # or all six might come when there is room
        if service._metrics.registry.get_sample_value("deesc_calls_total", refused):
            break
        time.sleep(0.01)
    else:
        raise AssertionError("no call was refused")
    gate.open()
    for thread in threads:
        thread.join(20)
    assert answers == [("delay",)] * 6


def test_without_the_extra_the_pip_command_is_named(tmp_path):
    (tmp_path / "grpc.py").write_text("raise ModuleNotFoundError('no grpc', name='grpc')")
    result = subprocess.run(
        [sys.executable, "-c", "import deesc_model.client"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "pip install '.[client]'" in result.stderr
