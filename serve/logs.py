"""JSON lines on standard error. A text of a customer never gets into them.

Messages of errors that nobody foresaw might quote what was being worked on, so an error is
logged as its type and the lines that raised it, not its message.
"""

import asyncio
import contextlib
import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final, TextIO

LOGGER: Final = logging.getLogger("deesc.serve")

COLLECT_S: Final = 0.05
"""Longest time that a line is held back, in seconds."""

REPEATED_S: Final = 1.0
"""Time, in seconds, for which one line stands for all that `Repeated` counts."""

ATOMIC_WRITE: Final = 4096
"""Most characters written at once: a pipe keeps those of several processes apart, by POSIX."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, and what `log` was given."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["where"] = [f"{frame.filename}:{frame.lineno}" for frame in frames]
        return json.dumps(line)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of the event loop together, so that no call waits for its own.

    Warnings and errors are written at once, after what was collected; the end of the process
    writes the rest.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._collected = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, soon or now."""
        try:
            line = self.format(record) + "\n"
        except Exception as error:  # a library's call was wrong, which may end nothing
            self._tell_wrong(record, error)
            return
        if len(self._collected) + len(line) > ATOMIC_WRITE:
            self.flush()
        first = not self._collected
        self._collected += line
        if record.levelno > logging.INFO:
            self.flush()
        elif first:
            try:
                asyncio.get_running_loop().call_later(COLLECT_S, self.flush)
            except RuntimeError:  # another thread, or no event loop yet
                self.flush()

    def _tell_wrong(self, record: logging.LogRecord, error: Exception) -> None:
        """Say which call was wrong, and not what it was given, as `handleError` does."""
        wrong = logging.LogRecord(record.name, logging.ERROR, "", 0, "wrong log call", None, None)
        wrong.fields = {
            "error": type(error).__name__,
            "where": [f"{record.pathname}:{record.lineno}"],
        }
        self.emit(wrong)

    def flush(self) -> None:
        """Write what was collected."""
        self.acquire()
        try:
            lines, self._collected = self._collected, ""
            with contextlib.suppress(OSError):  # a lost stream stops no call
                self.stream.write(lines)
                self.stream.flush()
        finally:
            self.release()


def log(level: int, event: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Log an event with named fields; `error` adds its type and where it was raised."""
    if not LOGGER.isEnabledFor(level):
        return
    raised = (type(error), error, error.__traceback__) if error else None
    # Made by hand: logging would look for the line that called, which nobody reads.
    record = logging.LogRecord(LOGGER.name, level, "", 0, event, None, raised)
    record.fields = fields
    LOGGER.handle(record)


class Repeated:
    """Counts what would fill the log in an overload, and so be a part of it.

    Args:
        event: What the line is called that says how often it happened.
        code: The status that it says.
    """

    def __init__(self, event: str, code: str) -> None:
        self._event, self._code = event, code
        self._count = -1  # nothing happened for a while

    def counts(self) -> bool:
        """Return whether this time is counted, and told of later; the first time is not."""
        self._count += 1
        if self._count == 0:
            asyncio.get_running_loop().call_later(REPEATED_S, self.tell)
        return self._count > 0

    def tell(self) -> None:
        """Log how often it happened since the last time that was not counted, if it did."""
        if self._count > 0:
            log(logging.WARNING, self._event, code=self._code, count=self._count)
        self._count = -1


def _is_ours(record: logging.LogRecord) -> bool:
    """Return whether gRPC does not quote bytes of a caller's, as of a header that is no text."""
    return not record.exc_info or record.exc_info[0] is not UnicodeDecodeError


def set_up(level: str) -> None:
    """Send the log of everything, libraries included, to standard error as JSON lines."""
    handler = LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # A line has none of them, and looking them up takes longer than to write it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    LOGGER.setLevel(level.upper())
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_ours)
