"""JSON lines on standard error. A text of a customer never gets into them.

Messages of errors that nobody foresaw might quote what was being worked on, so an error is
logged as its type and the lines that raised it, not its message.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

LOGGER: Final = logging.getLogger("deesc.serve")


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


def log(level: int, event: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Log an event with named fields; `error` adds its type and where it was raised."""
    if not LOGGER.isEnabledFor(level):
        return
    raised = error and (type(error), error, error.__traceback__)
    # Made by hand: logging would look for the line that called, which nobody reads.
    record = logging.LogRecord(LOGGER.name, level, "", 0, event, None, raised)
    record.fields = fields
    LOGGER.handle(record)


def set_up(level: str) -> None:
    """Send the log of everything, libraries included, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # A line has none of them, and looking them up takes longer than to write it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    LOGGER.setLevel(level.upper())
