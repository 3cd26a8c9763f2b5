"""The handler that writes log lines together."""

import asyncio
import io
import json
import logging

import pytest

from serve import logs
from serve.logs import ATOMIC_WRITE, COLLECT_S, JsonFormatter, LineHandler


class Writes(io.StringIO):
    """Remembers each write."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, text):
        self.writes += [text] if text else []
        return len(text)


@pytest.fixture
def writes():
    return Writes()


@pytest.fixture
def tell(writes):
    handler = LineHandler(writes)

    def tell(text, level=logging.INFO):
        handler.handle(logging.LogRecord("x", level, "", 0, text, None, None))

    return tell


def test_lines_of_the_event_loop_are_written_together_and_soon(tell, writes):
    async def scenario():
        tell("one")
        tell("two")
        assert writes.writes == []
        await asyncio.sleep(2 * COLLECT_S)

    asyncio.run(scenario())
    assert writes.writes == ["one\ntwo\n"]


def test_a_warning_is_written_at_once_after_what_was_collected(tell, writes):
    async def scenario():
        tell("one")
        tell("trouble", logging.WARNING)
        assert writes.writes == ["one\ntrouble\n"]

    asyncio.run(scenario())


def test_without_an_event_loop_lines_are_written_at_once(tell, writes):
    tell("one")
    tell("two")
    assert writes.writes == ["one\n", "two\n"]


def test_no_write_is_larger_than_a_pipe_keeps_whole(tell, writes):
    async def scenario():
        for _ in range(10):
            tell("x" * (ATOMIC_WRITE // 3))
        await asyncio.sleep(2 * COLLECT_S)

    asyncio.run(scenario())
    assert [text.count("\n") for text in writes.writes] == [2] * 5
    assert max(map(len, writes.writes)) <= ATOMIC_WRITE


def test_an_error_is_told_without_its_message():
    try:
        raise ValueError("cannot read: secret")
    except ValueError as error:
        raised = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "unforeseen error", None, raised)
    line = JsonFormatter().format(record)
    assert json.loads(line)["error"] == "ValueError"
    assert [place.split("/")[-1].split(":")[0] for place in json.loads(line)["where"]] == [
        "test_logs.py"
    ]
    assert "secret" not in line


@pytest.mark.parametrize(
    ("message", "arguments"), [("read %d", ("secret",)), ("%s and %s", ("secret",))]
)
def test_a_wrong_log_call_is_told_without_what_it_was_given(writes, capsys, message, arguments):
    handler = LineHandler(writes)
    handler.setFormatter(JsonFormatter())
    record = logging.LogRecord("x", logging.INFO, "library.py", 7, message, arguments, None)
    handler.handle(record)  # raises nothing
    (line,) = map(json.loads, writes.writes)
    assert (line["event"], line["level"]) == ("wrong log call", "error")
    assert (line["error"], line["where"]) == ("TypeError", ["library.py:7"])
    assert "secret" not in str(line) + capsys.readouterr().err


def test_a_stream_that_is_gone_stops_nobody(tell, writes):
    def fail(_):
        raise BrokenPipeError

    writes.write = fail
    tell("one")
    tell("two")


def test_what_repeats_is_told_once_and_then_counted(monkeypatch, caplog):
    monkeypatch.setattr(logs, "REPEATED_S", 3600)
    caplog.set_level("INFO", logs.LOGGER.name)

    async def scenario():
        repeated = logs.Repeated("again", "BUSY")
        assert [repeated.counts() for _ in range(4)] == [False, True, True, True]
        repeated.tell()
        repeated.tell()  # nothing since
        assert repeated.counts() is False
        repeated.tell()  # nothing but what was not counted

    asyncio.run(scenario())
    assert [(each.getMessage(), each.fields) for each in caplog.records] == [
        ("again", {"code": "BUSY", "count": 3})
    ]


def test_the_count_is_told_by_itself(monkeypatch, caplog):
    monkeypatch.setattr(logs, "REPEATED_S", 0.01)
    caplog.set_level("INFO", logs.LOGGER.name)

    async def scenario():
        repeated = logs.Repeated("again", "BUSY")
        repeated.counts()
        repeated.counts()
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert repeated.counts() is False

    asyncio.run(asyncio.wait_for(scenario(), 10))
