"""Files of utterances, row by row: JSON Lines and CSV in, the same with predictions out.

A row needs ``text``. It may have ``speaker`` (customer by default) and
``conversation_id``: neighbouring rows that share it are one conversation, and each is
read with the rows before it as context.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from deesc_model.errors import InvalidInputError
from deesc_model.types import Prediction, Turn

FORMATS: Final = ("jsonl", "csv")
SUFFIXES: Final = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
"""The format that the end of a file name stands for."""

# Long texts are for `Turn` to refuse, so that they spoil one row; this stops a quotation
# mark that is never closed from swallowing the file.
csv.field_size_limit(16_000_000)


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: Line number in the file, from 1, where the row starts.
        row: Its fields as read.
        turn: The utterance.
        context: The turns before it in its conversation, oldest first.
    """

    line: int
    row: dict[str, Any]
    turn: Turn
    context: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A row that cannot be labelled.

    Attributes:
        line: Line number in the file, from 1.
        raw: The row as read, to be written aside.
        message: What is wrong with it.
    """

    line: int
    raw: str
    message: str

    def __str__(self) -> str:
        """Return ``line N: what is wrong``."""
        return f"line {self.line}: {self.message}"


def format_of(path: Path) -> str:
    """Return the format that a file name stands for.

    Raises:
        InvalidInputError: The name ends in none of `SUFFIXES`.
    """
    if (known := SUFFIXES.get(path.suffix.lower())) is None:
        raise InvalidInputError(f"{path}: the name must end in .jsonl, .ndjson or .csv")
    return known


def read_records(
    stream: TextIO, file_format: str, context_turns: int
) -> Iterator[Record | BadRecord]:
    """Yield the rows of a file in order, good and bad, in constant memory.

    Args:
        stream: Open with ``newline=""`` and ``errors="surrogateescape"``, so that bytes that
            are not UTF-8 spoil their row only.
        file_format: One of `FORMATS`.
        context_turns: How many turns of a conversation are remembered.

    Raises:
        InvalidInputError: A CSV file has no column ``text``.
    """
    conversation: object = None
    before: deque[Turn] = deque(maxlen=context_turns)
    for item in read_rows(stream, file_format):
        if isinstance(item, BadRecord):
            yield item
            continue
        line, row = item
        try:
            speaker = row.get("speaker")
            turn = Turn("customer" if speaker in (None, "") else speaker, _text(row))
        except InvalidInputError as error:
            yield BadRecord(line, json.dumps(row, ensure_ascii=True), str(error))
            continue
        named = row.get("conversation_id")
        if named in (None, "") or named != conversation:
            before.clear()
        conversation = named
        yield Record(line, row, turn, tuple(before))
        before.append(turn)


def read_rows(
    stream: TextIO, file_format: str, text_column: str = "text"
) -> Iterator[tuple[int, dict[str, Any]] | BadRecord]:
    """Yield line number and fields of each row, whatever they say.

    Args:
        stream: Open as for `read_records`.
        file_format: One of `FORMATS`.
        text_column: What a CSV file must have a column of.

    Raises:
        InvalidInputError: A CSV file has no such column, or is no CSV file.
    """
    return _jsonl_rows(stream) if file_format == "jsonl" else _csv_rows(stream, text_column)


def _text(row: Mapping[str, Any]) -> Any:
    if "text" not in row:
        raise InvalidInputError("the field text is missing")
    return row["text"]


def _jsonl_rows(stream: TextIO) -> Iterator[tuple[int, dict[str, Any]] | BadRecord]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            yield BadRecord(number, line.rstrip("\r\n"), f"not JSON: {error}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield BadRecord(number, line.rstrip("\r\n"), "not a JSON object")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _csv_rows(stream: TextIO, text_column: str) -> Iterator[tuple[int, dict[str, Any]] | BadRecord]:
    reader = csv.reader(stream, strict=True)
    try:
        header = next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise InvalidInputError(f"line 1: {error}; is it a CSV file?") from None
    if header is None:
        return
    if text_column not in header:
        shown = ", ".join(header)[:200].encode("unicode_escape").decode()
        hint = "; commas must separate columns" if re.search("[;\t]", header[0]) else ""
        raise InvalidInputError(
            f"line {reader.line_num}: no column named {text_column} among {shown}{hint}"
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InvalidInputError(f"line {reader.line_num}: the column {twice[0]!r} stands twice")
    end = reader.line_num
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidInputError(
                f"line {end + 1}: {error}; is a quotation mark left open?"
            ) from None
        line, end = end + 1, reader.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            message = f"{len(cells)} cells where the header has {len(header)}"
            yield BadRecord(line, json.dumps(cells), message)
            continue
        yield line, dict(zip(header, cells, strict=True))


RowWriter = Callable[[Record, Prediction], None]


def record_writer(stream: TextIO, file_format: str) -> RowWriter:
    """Return a function that writes one row with its prediction.

    JSON Lines rows keep their fields and gain an object ``deesc``; CSV rows gain columns
    ``deesc_level``, ``deesc_frustration``, ``deesc_triggers`` and so on, lists joined by
    spaces, one column for each score. What an earlier run added is replaced.
    """
    if file_format == "jsonl":
        return lambda record, prediction: _write_json(stream, record, prediction)
    # Python 3.11 leaves a lone carriage return unquoted unless it ends lines.
    writer = csv.writer(stream, lineterminator="\r\n")
    header: list[str] = []

    def write(record: Record, prediction: Prediction) -> None:
        cells = flat_prediction(prediction)
        if not header:
            header.extend(name for name in record.row if name not in cells)
            writer.writerow([*header, *cells])
        if extra := record.row.keys() - set(header) - cells.keys():
            raise InvalidInputError(
                f"line {record.line}: the field {min(extra)} is not in the first row, so a CSV"
                " table has no column for it; write JSON Lines instead"
            )
        kept = (_cell(record.row.get(name, "")) for name in header)
        writer.writerow([*kept, *cells.values()])

    return write


def _cell(value: object) -> str:
    """Return a field as a table shows it: text as it is, all else as JSON."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair, from a JSON escape
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _write_json(stream: TextIO, record: Record, prediction: Prediction) -> None:
    row = {**record.row, "deesc": prediction.to_dict()}
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # a lone surrogate in some other field
        line = json.dumps(row, ensure_ascii=True)
    stream.write(line + "\n")


def flat_prediction(prediction: Prediction) -> dict[str, str | int | float]:
    """Return a prediction as one flat row, for tables."""
    return {
        "deesc_level": int(prediction.level),
        "deesc_level_name": prediction.level.label,
        "deesc_frustration": round(prediction.frustration, 4),
        "deesc_uncertain": int(prediction.uncertain),
        "deesc_triggers": " ".join(prediction.triggers),
        "deesc_signals": " ".join(prediction.signals),
        **{f"deesc_level_{k}": round(v, 4) for k, v in enumerate(prediction.level_scores)},
        **{f"deesc_{k}": round(v, 4) for k, v in prediction.trigger_scores.items()},
        **{f"deesc_{k}": round(v, 4) for k, v in prediction.signal_scores.items()},
        "deesc_model_version": prediction.model_version,
    }
