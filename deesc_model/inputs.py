"""The files that `deesc` takes: rows, or a transcript of a format that it knows."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deesc_model.errors import InvalidInputError
from deesc_model.files import (
    InputFile,
    is_regular,
    open_input,
    refuse_compressed,
    shown_name,
)
from deesc_model.records import (
    FORMATS,
    LONGEST_LINE,
    ROLES,
    SUFFIXES,
    BadRecord,
    NumberedRow,
    Record,
    Row,
    conversation_of,
    in_context,
    read_rows,
    storable_text,
)
from deesc_model.renaming import AS_NAMED
from deesc_model.rendering import turns_before
from deesc_model.transcripts.conversation import SENTIMENTS, Conversation, SpokenTurn
from deesc_model.transcripts.detection import (
    TRANSCRIPT_FORMATS,
    find_format,
    parse_transcript,
    read_transcript,
)
from deesc_model.transcripts.document import UTF16_MARKS, Document
from deesc_model.transcripts.naming import names_by_file

INPUT_FORMATS = (*FORMATS, *(item.name for item in TRANSCRIPT_FORMATS))
_NO_CUSTOMER = f"--customer is for transcripts; rows say in a field speaker who it is: {ROLES}"

COLUMN_IS_FOR_ROWS: Final = "--column says which field of rows is what, and transcripts have none"


@dataclass(frozen=True, slots=True)
class OpenRows:
    """A file of rows that is being read.

    Attributes:
        rows: Its rows, in order; an error names the file.
        position: Says how many of its bytes were read so far; 0 if it is no ordinary file.
        columns: The fields that a table has, whether it has rows or not; none of JSON Lines.
    """

    rows: Iterator[NumberedRow | BadRecord]
    position: Callable[[], int]
    columns: Sequence[str]


def row_format(
    file: InputFile,
    named: str | None,
    customers: Sequence[str],
    columns: Mapping[str, str] = AS_NAMED,
) -> str | None:
    """Return the format of a file of rows, or None if it is a transcript.

    A file whose name says JSON Lines is a transcript if its first line is an object without
    ``text`` that fits a transcript's format, as an export of tickets does; but not if `columns`
    say what its text is called.

    Args:
        file: The file; ``-`` is standard input, which holds JSON Lines unless `named` says else.
        named: One of `INPUT_FORMATS`, or None to find it out.
        customers: Names of customers, which only transcripts need.
        columns: As in `records.read_rows`.

    Raises:
        InvalidInputError: Customers are named although the file is one of rows.
    """
    if named is not None:
        found = named if named in FORMATS else None
    elif str(file) == "-":
        found = "jsonl"
    else:
        found = SUFFIXES.get(file.suffix.lower())
        if found == "jsonl" and "text" not in columns and _begins_as_transcript(file):
            found = None
    if found and customers:
        raise InvalidInputError(f"{file}: {_NO_CUSTOMER}")
    return found


@contextlib.contextmanager
def open_rows(
    file: InputFile,
    file_format: str,
    fields: Mapping[str, str | None] | None = None,
    columns: Mapping[str, str] = AS_NAMED,
    raw: bytes | None = None,
) -> Iterator[OpenRows]:
    """Open a file of rows.

    Args:
        file: The file; ``-`` is standard input.
        file_format: One of `FORMATS`.
        fields: What is added to rows that have no such field.
        columns: As in `records.read_rows`.
        raw: The file's bytes, of one that is not on the disk.

    Raises:
        InvalidInputError: The file is not of this format, or as `rename_header`.
        MissingExtraError: It is Parquet, and pyarrow is not installed.
    """
    if file_format == "parquet":
        if raw is None and not is_regular(file) and (str(file) == "-" or file.exists()):
            raise InvalidInputError(f"{file}: Parquet is read from files only, not from a pipe")
        from deesc_model.parquet_reader import open_parquet  # noqa: PLC0415 - an extra

        with open_parquet(file, fields or {}, columns, raw) as (rows, position, names):
            yield OpenRows(rows, position, names)
        return
    with contextlib.ExitStack() as stack:
        if raw is None:
            stream = stack.enter_context(open_input(file))
        else:
            stream = io.StringIO(raw.decode("utf-8-sig", "surrogateescape"), newline="")
        with _naming(shown_name(file)):
            refuse_no_rows(stream.buffer.peek(2) if raw is None else raw)  # type: ignore[attr-defined]
            names, rows_of_text = read_rows(stream, file_format, columns)
        rows_of_text = _named(shown_name(file), rows_of_text)
        yield OpenRows(
            _with_fields(rows_of_text, fields) if fields else rows_of_text,
            stream.buffer.tell if raw is None and is_regular(file) else lambda: 0,
            tuple(add_fields(dict.fromkeys(names), fields or {})) if names else (),
        )


def add_fields(row: Row, fields: Mapping[str, str | None]) -> Row:
    """Return a row with fields after its own; its own stay what they are."""
    return {**row, **fields, **row}


def read_conversations(
    file: InputFile,
    *,
    named: str | None = None,
    customers: Sequence[str] = (),
    columns: Mapping[str, str] = AS_NAMED,
    together: bool = False,
) -> list[Conversation]:
    """Read a file whole, as conversations; there is at least one.

    Args:
        file: Rows or a transcript; ``-`` is standard input.
        named: One of `INPUT_FORMATS`, or None to find it out.
        customers: Names of customers, for transcripts that do not say who is who.
        columns: What rows call fields otherwise, as in `records.read_rows`.
        together: Whether rows without ``conversation_id`` are one conversation, or else each
            stands alone, as `deesc score` reads them.

    Raises:
        InvalidInputError: Something in the file cannot be read or labelled, the message says
            where; or it is a transcript, and there are `columns`.
    """
    rows = row_format(file, named, customers, columns)
    if rows is None:
        if columns:
            raise InvalidInputError(f"{shown_name(file)} is a transcript; {COLUMN_IS_FOR_ROWS}")
        transcript = named if named not in FORMATS else None
        return read_transcript(file, customers=customers, format_name=transcript)
    with open_rows(file, rows, columns=columns) as opened:
        return _grouped(opened, shown_name(file), names_by_file([file])[0], together=together)


def parse_conversations(
    name: str, raw: bytes, *, named: str | None = None, customers: Sequence[str] = ()
) -> list[Conversation]:
    """Read what was sent or pasted instead of a file; as `read_conversations`, `together`.

    Args:
        name: The name that the file would have.
        raw: Its bytes.
        named: One of `INPUT_FORMATS`, or None to find it out. Without the end of a name that says
            so, what begins as rows do is read as rows.
        customers: Names of customers, for transcripts that do not say who is who.

    Raises:
        InvalidInputError: As for `read_conversations`.
    """
    path = Path(name)
    rows = named if named in FORMATS else None
    if named is None:
        rows = SUFFIXES.get(path.suffix.lower()) or _begins_as_rows(raw)
        rows = None if rows == "jsonl" and _fits_transcript(raw) else rows
    if rows is None:
        try:
            return parse_transcript(path.stem, raw, customers=customers, format_name=named)
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from None
    if customers:
        raise InvalidInputError(f"{name}: {_NO_CUSTOMER}")
    with open_rows(path, rows, raw=raw) as opened:
        return _grouped(opened, name, path.stem, together=True)


def transcript_records(
    conversations: Sequence[Conversation],
    context_turns: int,
    fields: Mapping[str, str | None] | None = None,
) -> Iterator[Record]:
    """Yield the turns of transcripts as rows, each with the turns before it.

    Args:
        conversations: What was read.
        context_turns: How many turns before it come with each.
        fields: What is added to rows that have no such field.
    """
    for conversation in conversations:
        turns = conversation.turns
        for index, item in enumerate(conversation.spoken):
            row = {
                "conversation_id": conversation.conversation_id,
                "turn": index,
                "speaker": item.turn.speaker,
                "text": item.turn.text,
                "name": item.name,
                "vendor_sentiment": item.vendor_sentiment,
                "metadata": dict(item.metadata),
            }
            yield Record(
                line=index + 1,
                row=add_fields(row, fields or {}),
                turn=item.turn,
                context=tuple(turns_before(turns, index, context_turns)),
                starts=index == 0,
                size=len(item.turn.text),
            )


def _spoken(record: Record) -> SpokenTurn:
    """Return a row's turn; what `deesc score` wrote of a transcript's turn comes along."""
    name, sentiment = record.row.get("name"), record.row.get("vendor_sentiment")
    return SpokenTurn(
        record.turn,
        str(name) if name else record.turn.speaker,
        str(sentiment) if sentiment in SENTIMENTS else None,
        {},
    )


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from None


def _named(name: str, rows: Iterator[NumberedRow | BadRecord]) -> Iterator[NumberedRow | BadRecord]:
    with _naming(name):
        yield from rows


def _with_fields(
    rows: Iterator[NumberedRow | BadRecord], fields: Mapping[str, str | None]
) -> Iterator[NumberedRow | BadRecord]:
    for item in rows:
        yield (
            item if isinstance(item, BadRecord) else item._replace(row=add_fields(item.row, fields))
        )


def _grouped(opened: OpenRows, name: str, called: str, *, together: bool) -> list[Conversation]:
    """Gather the rows of each conversation, in the order in which the conversations begin."""
    found: dict[str, list[Record]] = {}
    for item in in_context(opened.rows, context_turns=0):
        record = _good(item, name)
        alone = called if together else f"{called}, line {record.line}"
        found.setdefault(conversation_of(record.row) or alone, []).append(record)
    if not found:
        raise InvalidInputError(f"{name} holds no turns")
    return [
        Conversation(conversation_id, tuple(map(_spoken, members)), {}, _metadata(members))
        for conversation_id, members in found.items()
    ]


def _metadata(members: Sequence[Record]) -> dict[str, str]:
    """Return the channel of a conversation, if one of its rows names one."""
    named = (record.row.get("channel") for record in members)
    channel = next((told for told in named if isinstance(told, str) and told.strip()), None)
    return {} if channel is None else {"channel": storable_text(channel.strip())}


def _good(record: Record | BadRecord, name: str) -> Record:
    if isinstance(record, BadRecord):
        raise InvalidInputError(f"{name}: {record}")
    return record


def refuse_no_rows(head: bytes) -> None:
    """Refuse a file of rows as a whole whose every row would be bad.

    Args:
        head: Its first bytes, two or more if it has them.

    Raises:
        InvalidInputError: It is compressed, or UTF-16; the message says what to do.
    """
    refuse_compressed(head)
    if head.startswith(UTF16_MARKS):
        raise InvalidInputError(
            "it is UTF-16, and rows are read as UTF-8; save it as UTF-8, or convert it:"
            " iconv -f UTF-16 -t UTF-8 FILE"
        )


def _begins_as_transcript(file: InputFile) -> bool:
    if not file.is_file():  # what a pipe gives once cannot be looked at first
        return False
    with file.open("rb") as stream:
        return _fits_transcript(stream.readline(LONGEST_LINE))


def _fits_transcript(raw: bytes) -> bool:
    try:
        head = Document.from_bytes(raw.split(b"\n", 1)[0])
    except InvalidInputError:  # UTF-16 that was cut amid a character
        return False
    return bool(head.objects) and not head.objects[0].has("text") and find_format(head) is not None


def _begins_as_rows(raw: bytes) -> str | None:
    """Say which rows a text begins with: an object with the field text, or a column of it."""
    first = raw.strip().split(b"\n", 1)[0]
    try:
        objects = Document.from_bytes(first).objects
    except InvalidInputError:  # UTF-16, which rows are not
        return None
    if objects:
        return "jsonl" if objects[0].has("text") else None
    cells = first.decode("utf-8-sig", "surrogateescape").strip().split(",")
    return "csv" if len(cells) > 1 and "text" in [cell.strip('"') for cell in cells] else None
