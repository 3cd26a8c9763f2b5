"""Find out which format a file has, and read it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deesc_model.errors import InvalidInputError
from deesc_model.files import InputFile, read_input, refuse_compressed, shown_name
from deesc_model.transcripts import (
    amazon,
    captions,
    genesys,
    google,
    intercom,
    mail,
    plain,
    zendesk,
)
from deesc_model.transcripts.conversation import Conversation, TranscriptFormat
from deesc_model.transcripts.document import Document
from deesc_model.transcripts.naming import names_by_file
from deesc_model.transcripts.speakers import assign_speakers

TRANSCRIPT_FORMATS: Final[tuple[TranscriptFormat, ...]] = (
    amazon.FORMAT,
    google.FORMAT,
    genesys.FORMAT,
    zendesk.FORMAT,
    intercom.FORMAT,
    captions.FORMAT,
    mail.FORMAT,
    plain.FORMAT,  # last: the header of an e-mail looks like it
)


def find_format(document: Document) -> TranscriptFormat | None:
    """Return the first format that a file looks like, or None."""
    return next((item for item in TRANSCRIPT_FORMATS if item.fits(document)), None)


def read_transcript(
    file: InputFile | str,
    *,
    customers: Sequence[str] = (),
    format_name: str | None = None,
    called: str | None = None,
    elsewhere: bool = False,
) -> list[Conversation]:
    """Read a transcript file whole.

    Args:
        file: The file; ``-`` is standard input.
        customers: Names of customers, for files that do not say who is who.
        format_name: Name of one of `TRANSCRIPT_FORMATS`; None finds it out.
        called: What a conversation without an id is called; None is the file's stem.
        elsewhere: Whether some of the customers may speak in other files only.

    Raises:
        InvalidInputError: The file fits no format, is wrong in one place, holds a text that
            cannot be labelled, or does not say who the customer is. The message says where.
        OSError: The system does not give the file.
    """
    file = Path(file) if isinstance(file, str) else file
    raw = read_input(file)
    name = called or names_by_file([file])[0]
    try:
        return parse_transcript(
            name, raw, customers=customers, format_name=format_name, elsewhere=elsewhere
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"{shown_name(file)}: {error}") from None


def parse_transcript(
    called: str,
    raw: bytes,
    *,
    customers: Sequence[str] = (),
    format_name: str | None = None,
    elsewhere: bool = False,
) -> list[Conversation]:
    """Read the bytes of a transcript file; as `read_transcript`.

    Args:
        called: What a conversation without an id is called.
        raw: The bytes.
        customers: Names of customers, for files that do not say who is who.
        format_name: Name of one of `TRANSCRIPT_FORMATS`; None finds it out.
        elsewhere: Whether some of the customers may speak in other files only.

    Raises:
        InvalidInputError: As for `read_transcript`.
    """
    refuse_compressed(raw)
    if not raw.strip():
        raise InvalidInputError("it is empty")
    document = Document.from_bytes(raw)
    known = {item.name: item for item in TRANSCRIPT_FORMATS}
    if format_name is not None and format_name not in known:
        raise InvalidInputError(
            f"no format is called {format_name!r}; there are {', '.join(known)}"
        )
    chosen = known[format_name] if format_name else find_format(document)
    if chosen is None:
        raise InvalidInputError(_nothing_fits(document))
    return assign_speakers(chosen.read(document), customers, called, elsewhere=elsewhere)


def _nothing_fits(document: Document) -> str:
    looked_for = "\n".join(f"  {item.name:9} {item.looks_for}" for item in TRANSCRIPT_FORMATS)
    hint = f"\nIt begins like JSON, but: {document.json_error}" if document.json_error else ""
    if document.objects and document.objects[0].has("text"):
        hint = "\nIt begins like rows of JSON: --input-format jsonl"
        if document.text.lstrip().startswith("["):
            hint = "\nIt is a list of rows; deesc reads one a line: jq -c '.[]' FILE > rows.jsonl"
    return (
        "it fits no format that deesc reads. If it is one, say which with --input-format NAME."
        " Looked for:\n"
        "  jsonl     rows of JSON, by the name .jsonl or .ndjson\n"
        "  csv       a table with a column text, by the name .csv\n"
        "  parquet   a table with a column text, by the name .parquet\n"
        f"{looked_for}{hint}"
    )
