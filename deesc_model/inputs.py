"""The files that `deesc` takes: rows, or a transcript of a format that it knows."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from deesc_model.errors import InvalidInputError
from deesc_model.files import open_input
from deesc_model.records import FORMATS, SUFFIXES, BadRecord, Record, read_records
from deesc_model.transcripts.conversation import SENTIMENTS, Conversation, SpokenTurn
from deesc_model.transcripts.detection import TRANSCRIPT_FORMATS, find_format, read_transcript
from deesc_model.transcripts.document import Document

INPUT_FORMATS = (*FORMATS, *(item.name for item in TRANSCRIPT_FORMATS))
_LONGEST_LINE = 16_000_000


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
        raise InvalidInputError(
            f"{file}: --customer is for transcripts; rows say customer or agent in a field speaker"
        )
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
        records = [_good(record, file) for record in read_records(stream, rows, context_turns=0)]
    if not records:
        raise InvalidInputError(f"{file} holds no turns")
    grouped = groupby(records, key=lambda record: record.row.get("conversation_id"))
    return [
        Conversation(
            file.stem if identity in (None, "") else str(identity),
            tuple(map(_spoken, members)),
            {},
            {},
        )
        for identity, members in grouped
    ]


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


def _good(record: Record | BadRecord, file: Path) -> Record:
    if isinstance(record, BadRecord):
        raise InvalidInputError(f"{file}: {record}")
    return record


def _begins_as_transcript(file: Path) -> bool:
    if not file.is_file():  # what a pipe gives once cannot be looked at first
        return False
    with file.open("rb") as stream:
        head = Document.from_bytes(file.stem, stream.readline(_LONGEST_LINE))
    return bool(head.objects) and not head.objects[0].has("text") and find_format(head) is not None
