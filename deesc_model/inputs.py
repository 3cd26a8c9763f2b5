"""The files that `deesc` takes: rows, or a transcript of a format that it knows."""

import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TextIO

from deesc_model.errors import InvalidInputError
from deesc_model.files import open_input
from deesc_model.records import FORMATS, SUFFIXES, BadRecord, Record, read_records
from deesc_model.transcripts.conversation import SENTIMENTS, Conversation, SpokenTurn
from deesc_model.transcripts.detection import (
    TRANSCRIPT_FORMATS,
    find_format,
    parse_transcript,
    read_transcript,
)
from deesc_model.transcripts.document import Document

INPUT_FORMATS = (*FORMATS, *(item.name for item in TRANSCRIPT_FORMATS))
_LONGEST_LINE = 16_000_000
_NO_CUSTOMER = "--customer is for transcripts; rows say customer or agent in a field speaker"


def row_format(file: Path, named: str | None, customers: Sequence[str]) -> str | None:
    """Return the format of a file of rows, or None if it is a transcript.

    A file whose name says JSON Lines is a transcript if its first line is an object without
    ``text`` that fits a transcript's format, as an export of tickets does.

    Args:
        file: The file; ``-`` is standard input, which holds JSON Lines unless `named` says else.
        named: One of `INPUT_FORMATS`, or None to find it out.
        customers: Names of customers, which only transcripts need.

    Raises:
        InvalidInputError: Customers are named although the file is one of rows.
    """
    if named is not None:
        found = named if named in FORMATS else None
    elif str(file) == "-":
        found = "jsonl"
    else:
        found = SUFFIXES.get(file.suffix.lower())
        if found == "jsonl" and _begins_as_transcript(file):
            found = None
    if found and customers:
        raise InvalidInputError(f"{file}: {_NO_CUSTOMER}")
    return found


def read_conversations(
    file: Path, *, named: str | None = None, customers: Sequence[str] = ()
) -> list[Conversation]:
    """Read a file whole, as conversations; there is at least one.

    Args:
        file: Rows or a transcript; ``-`` is standard input.
        named: One of `INPUT_FORMATS`, or None to find it out.
        customers: Names of customers, for transcripts that do not say who is who.

    Raises:
        InvalidInputError: Something in the file cannot be read or labelled; the message says
            where.
    """
    rows = row_format(file, named, customers)
    if rows is None:
        transcript = named if named not in FORMATS else None
        return read_transcript(file, customers=customers, format_name=transcript)
    with open_input(file) as stream:
        return _read_rows(stream, rows, str(file), file.stem)


def parse_conversations(
    name: str, raw: bytes, *, named: str | None = None, customers: Sequence[str] = ()
) -> list[Conversation]:
    """Read what was sent or pasted instead of a file; as `read_conversations`.

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
        rows = None if rows == "jsonl" and _fits_transcript(path.stem, raw) else rows
    if rows is None:
        try:
            return parse_transcript(path.stem, raw, customers=customers, format_name=named)
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from None
    if customers:
        raise InvalidInputError(f"{name}: {_NO_CUSTOMER}")
    text = raw.decode("utf-8-sig", "surrogateescape")
    return _read_rows(io.StringIO(text, newline=""), rows, name, path.stem)


def transcript_records(
    conversations: Sequence[Conversation], context_turns: int
) -> Iterator[Record]:
    """Yield the turns of transcripts as rows, each with the turns before it."""
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
            before = turns[max(0, index - context_turns) : index]
            yield Record(index + 1, row, item.turn, before)


def _spoken(record: Record) -> SpokenTurn:
    """Return a row's turn; what `deesc score` wrote of a transcript's turn comes along."""
    name, sentiment = record.row.get("name"), record.row.get("vendor_sentiment")
    return SpokenTurn(
        record.turn,
        str(name) if name else record.turn.speaker,
        str(sentiment) if sentiment in SENTIMENTS else None,
        {},
    )


def _read_rows(stream: TextIO, rows: str, name: str, stem: str) -> list[Conversation]:
    records = [_good(record, name) for record in read_records(stream, rows, context_turns=0)]
    if not records:
        raise InvalidInputError(f"{name} holds no turns")
    grouped = groupby(records, key=lambda record: record.row.get("conversation_id"))
    return [
        Conversation(
            stem if identity in (None, "") else str(identity),
            tuple(map(_spoken, members)),
            {},
            {},
        )
        for identity, members in grouped
    ]


def _good(record: Record | BadRecord, name: str) -> Record:
    if isinstance(record, BadRecord):
        raise InvalidInputError(f"{name}: {record}")
    return record


def _begins_as_transcript(file: Path) -> bool:
    if not file.is_file():  # what a pipe gives once cannot be looked at first
        return False
    with file.open("rb") as stream:
        return _fits_transcript(file.stem, stream.readline(_LONGEST_LINE))


def _fits_transcript(stem: str, raw: bytes) -> bool:
    head = Document.from_bytes(stem, raw.split(b"\n", 1)[0])
    return bool(head.objects) and not head.objects[0].has("text") and find_format(head) is not None


def _begins_as_rows(raw: bytes) -> str | None:
    """Say which rows a text begins with: an object with the field text, or a column of it."""
    first = raw.strip().split(b"\n", 1)[0]
    try:
        objects = Document.from_bytes("", first).objects
    except InvalidInputError:  # UTF-16, which rows are not
        return None
    if objects:
        return "jsonl" if objects[0].has("text") else None
    cells = first.decode("utf-8-sig", "surrogateescape").strip().split(",")
    return "csv" if len(cells) > 1 and "text" in [cell.strip('"') for cell in cells] else None
