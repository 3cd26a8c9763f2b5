"""Rows of utterances, read from JSON Lines and CSV.

A row needs ``text``. It may have ``speaker`` (customer by default, in words as transcripts have
them) and ``conversation_id``: rows that share it are one conversation, whatever stands between
them, and each is read with those before it as context.
"""

import csv
import json
import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self, TextIO

from deesc_model.errors import InvalidInputError
from deesc_model.files import InputFile
from deesc_model.renaming import AS_NAMED, rename_fields, rename_header
from deesc_model.transcripts.speakers import role_of_name
from deesc_model.types import Turn

FORMATS: Final = ("jsonl", "csv", "parquet")
SUFFIXES: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""The format that the end of a file name stands for."""

LONGEST_LINE: Final = 16_000_000
"""Characters of a line from which on it is not read: no line may fill the memory."""

REMEMBERED: Final = 1_000
"""Conversations whose last turns are remembered, those that spoke last; more would cost memory."""

ROLES: Final = "customer, agent, or a word such as caller, user, advisor, bot"
"""What the speaker of a row may be."""

_OTHER_FORMAT: Final = "; if it is another format, say which with --input-format NAME"

# Long texts are for `Turn` to refuse, so that they spoil one row; this stops a quotation
# mark that is never closed from swallowing the file.
csv.field_size_limit(LONGEST_LINE)

Row = Mapping[str, Any]
"""The fields of a row, as plain JSON types."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: Line number in the file, from 1, where the row starts; of Parquet the row's number.
        row: Its fields as read.
        turn: The utterance.
        context: The turns before it in its conversation, oldest first.
        starts: Whether a conversation begins with it: it has no id, or one that is not, or no
            longer, among the `REMEMBERED`.
        size: About how many characters all its fields have.
    """

    line: int
    row: Row
    turn: Turn
    context: tuple[Turn, ...]
    starts: bool
    size: int


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A row that cannot be labelled, or a file, or the rest of one, that cannot be read.

    Attributes:
        line: As in `Record`; 0 of a file as a whole.
        raw: The row as read, to be written aside; empty of what cannot be read.
        message: What is wrong with it.
    """

    line: int
    raw: str
    message: str

    @property
    def size(self) -> int:
        """As in `Record`."""
        return len(self.raw)

    def __str__(self) -> str:
        """Return ``line N: what is wrong``."""
        return f"line {self.line}: {self.message}" if self.line else self.message

    @classmethod
    def of_row(cls, line: int, row: "Row", message: str) -> Self:
        """Return what is written aside of a row that was read."""
        return cls(line, json.dumps(dict(row), ensure_ascii=True), message)


class NumberedRow(NamedTuple):
    """A row that was read.

    Attributes:
        line: As in `Record`.
        row: As in `Record`.
        size: As in `Record`.
    """

    line: int
    row: Row
    size: int


def format_of(path: InputFile) -> str:
    """Return the format that a file name stands for.

    Raises:
        InvalidInputError: The name ends in none of `SUFFIXES`.
    """
    if (known := SUFFIXES.get(path.suffix.lower())) is None:
        raise InvalidInputError(f"{path}: the name must end in {', '.join(SUFFIXES)}")
    return known


def read_records(
    stream: TextIO, file_format: str, context_turns: int
) -> Iterator[Record | BadRecord]:
    """Yield the rows of a text file in order, good and bad, in constant memory.

    Args:
        stream: As in `read_rows`.
        file_format: As in `read_rows`.
        context_turns: How many turns of a conversation are remembered.

    Raises:
        InvalidInputError: A CSV file has no column ``text``.
    """
    _, rows = read_rows(stream, file_format)
    return in_context(rows, context_turns)


def read_rows(
    stream: TextIO, file_format: str, columns: Mapping[str, str] | None = AS_NAMED
) -> tuple[Sequence[str], Iterator[NumberedRow | BadRecord]]:
    """Read the header of a text file; the rest is read row by row, in constant memory.

    Args:
        stream: Open with ``newline=""`` and ``errors="surrogateescape"``, so that bytes that
            are not UTF-8 spoil their row only.
        file_format: ``"jsonl"`` or ``"csv"``.
        columns: What the file calls fields that are called otherwise here; they are renamed, as
            `rename_header` and `rename_fields` say. None: nothing is.

    Returns:
        The columns, none of JSON Lines, and the rows.

    Raises:
        InvalidInputError: It is no CSV file, or as `rename_header`.
    """
    return (
        ((), _jsonl_rows(stream, columns)) if file_format == "jsonl" else _csv_rows(stream, columns)
    )


def in_context(
    rows: Iterable[NumberedRow | BadRecord], context_turns: int
) -> Iterator[Record | BadRecord]:
    """Yield rows as records, good and bad, each with the turns before it in its conversation.

    Conversations may stand mixed, as in an export that is sorted by time. Memory does not grow
    with their number: those that were silent longest are forgotten, see `REMEMBERED`.

    Args:
        rows: The rows of one file, in order.
        context_turns: How many turns of a conversation are remembered.
    """
    remembered: OrderedDict[str, deque[Turn]] = OrderedDict()
    for item in rows:
        if isinstance(item, BadRecord):
            yield item
            continue
        line, row, size = item
        try:
            turn = Turn(_speaker(row), _text(row))
        except InvalidInputError as error:
            yield BadRecord.of_row(line, row, str(error))
            continue
        if (name := conversation_of(row)) is None:
            yield Record(line, row, turn, (), True, size)
            continue
        starts = name not in remembered
        before = remembered.setdefault(name, deque(maxlen=context_turns))
        remembered.move_to_end(name)
        if len(remembered) > REMEMBERED:
            remembered.popitem(last=False)
        yield Record(line, row, turn, tuple(before), starts, size)
        before.append(turn)


def conversation_of(row: Row) -> str | None:
    """Return the id of a row's conversation, or None if it has none."""
    named = row.get("conversation_id")
    return None if named in (None, "") else str(named)


def _speaker(row: Row) -> str:
    """Return the role that a row's speaker names.

    Raises:
        InvalidInputError: It names none.
    """
    told = row.get("speaker")
    if told is None or (isinstance(told, str) and not told.strip()):
        return "customer"
    if isinstance(told, str) and (role := role_of_name(told)):
        return role
    raise InvalidInputError(f"speaker must be one of {ROLES}, not {told!r:.40}")


def _text(row: Row) -> Any:
    if "text" not in row:
        raise InvalidInputError("the field text is missing")
    return row["text"]


def _lines(stream: TextIO) -> Iterator[tuple[int, str, bool]]:
    """Yield numbers and lines, of one that is too long its beginning, and whether it is."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        rest = line
        while len(rest) == LONGEST_LINE and rest[-1] not in "\r\n":
            rest = stream.readline(LONGEST_LINE)
        yield number, line, rest is not line


def _jsonl_rows(
    stream: TextIO, columns: Mapping[str, str] | None
) -> Iterator[NumberedRow | BadRecord]:
    for number, line, too_long in _lines(stream):
        if too_long:
            begins = f"{line[:1000]}…"
            yield BadRecord(number, begins, f"{LONGEST_LINE:,} characters or more in one line")
            continue
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            hint = "" if number > 1 or line.lstrip().startswith("{") else _OTHER_FORMAT
            yield BadRecord(number, line.rstrip("\r\n"), f"not JSON: {error}{hint}")
            continue
        if not isinstance(row, dict):
            yield BadRecord(number, line.rstrip("\r\n"), "not a JSON object")
            continue
        try:
            yield NumberedRow(number, rename_fields(row, columns) if columns else row, len(line))
        except InvalidInputError as error:
            yield BadRecord.of_row(number, row, str(error))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):  # it could not be written as JSON again
        raise ValueError(f"{text:.40} is too large a number")
    return number


def _csv_lines(stream: TextIO) -> Iterator[str]:
    for number, line, too_long in _lines(stream):
        if too_long:
            raise InvalidInputError(
                f"line {number}: {LONGEST_LINE:,} characters or more in one line; is it a CSV file?"
            )
        yield line


def _csv_rows(
    stream: TextIO, columns: Mapping[str, str] | None
) -> tuple[Sequence[str], Iterator[NumberedRow | BadRecord]]:
    reader = csv.reader(_csv_lines(stream), strict=True)
    try:
        header = next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise InvalidInputError(f"line 1: {error}; is it a CSV file?") from None
    if header is None:
        return (), iter(())
    try:
        names = rename_header(header, columns)
    except InvalidInputError as error:
        raise InvalidInputError(f"line {reader.line_num}: {error}") from None

    def rows() -> Iterator[NumberedRow | BadRecord]:
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
            if len(cells) != len(names):
                message = f"{len(cells)} cells where the header has {len(names)}"
                yield BadRecord(line, json.dumps(cells), message)
                continue
            row = dict(zip(names, cells, strict=True))
            yield NumberedRow(line, row, sum(map(len, cells)))

    return names, rows()


def table_text(value: object) -> str:
    """Return a field as a table shows it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def storable_text(value: object) -> str:
    """Return a field as `table_text`, with an escape for what UTF-8 cannot hold."""
    return table_text(value).encode("utf-8", "backslashreplace").decode()
