"""Conversations from the files that people bring: tables of rows, or transcripts.

All that comes out is masked, messages too: no code after this sees personal data.
"""

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deesc_model.errors import InvalidInputError
from deesc_model.files import open_input
from deesc_model.inputs import refuse_no_rows, row_format
from deesc_model.playbook import channel_of
from deesc_model.records import BadRecord, read_rows
from deesc_model.renaming import no_column, read_pairs
from deesc_model.transcripts import Conversation, read_transcript
from deesc_model.transcripts.speakers import role_of_name
from deesc_model.types import Turn
from training.corpus import CHANNELS, DataError
from training.masking import Masker

COLUMNS = ("text", "speaker", "conversation_id", "turn", "channel", "domain")
"""What a row can say; only ``text`` is needed."""

_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|[nrt])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mapped:
    """How the rows of a file are read.

    Attributes:
        columns: Name of the file's column for each of `COLUMNS` that is called otherwise.
        speakers: ``"customer"`` or ``"agent"`` for what the file calls them, in lower case.
        channel: Channel of rows that name none, and of transcripts; None: what a transcript says,
            or else chat.
        domain: Domain of rows that name none.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, str] = field(default_factory=dict)
    channel: str | None = None
    domain: str = "general"


@dataclass(frozen=True, slots=True)
class NewTurn:
    """One turn of a file that can be used.

    Attributes:
        file: Name of its file, masked.
        line: Its line or row in the file, from 1; in a transcript its number among the turns.
        turn: Speaker and text, masked.
        channel: One of `CHANNELS`.
        domain: Line of business.
    """

    file: str
    line: int
    turn: Turn
    channel: str
    domain: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used, or a whole file.

    Attributes:
        file: Name of the file, masked.
        line: As in `NewTurn`; None if nothing in the file can be used.
        field: What is wrong: one of `COLUMNS`, ``"line"``, ``"file"`` or, where a conversation that
            begins there says what another one says, ``"conversation"``.
        reason: What is wrong with it.
        cells: What the row has of `COLUMNS`, masked; nothing if it is no row. Other columns may
            hold what no mask looks for, such as birthdays, so they stay behind.
    """

    file: str
    line: int | None
    field: str
    reason: str
    cells: Mapping[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return ``file:line: what is wrong``."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


def read_mapping(
    path: Path | None,
    columns: Sequence[str] = (),
    speakers: Sequence[str] = (),
    channel: str | None = None,
    domain: str | None = None,
) -> Mapped:
    """Read how rows are read from a TOML file, and from what was given beside it, which wins.

    The file has the tables ``[columns]`` (text = "body") and ``[speakers]`` (inbound =
    "customer"), and ``channel`` and ``domain`` above them; each may be missing.

    Raises:
        DataError: The file cannot be read, or it or a string names something unknown.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: {error}") from None
    if unknown := values.keys() - {"columns", "speakers", "channel", "domain"}:
        raise DataError(f"{path}: unknown key {min(unknown)!r}")
    try:
        named = _table(values, "columns") | dict(read_pairs("--column", columns))
        roles = _table(values, "speakers") | dict(read_pairs("--speaker", speakers))
    except InvalidInputError as error:
        raise DataError(str(error)) from None
    if unknown := named.keys() - set(COLUMNS):
        raise DataError(f"no column is {min(unknown)!r}; known are {', '.join(COLUMNS)}")
    if wrong := sorted(set(roles.values()) - {"customer", "agent"}):
        raise DataError(f"a speaker must be customer or agent, not {wrong[0]!r}")
    try:
        return Mapped(
            named,
            {name.casefold(): role for name, role in roles.items()},
            _channel(str(told)) if (told := channel or values.get("channel")) else None,
            _domain(str(domain or values.get("domain", "general"))),
        )
    except InvalidInputError as error:
        raise DataError(str(error)) from None


def read_file(
    file: Path,
    mapped: Mapped,
    mask: Masker,
    *,
    named: str | None = None,
    customers: Sequence[str] = (),
) -> tuple[list[list[NewTurn]], list[Rejected]]:
    """Read a file whole.

    Args:
        file: Rows or a transcript.
        mapped: How rows are read; transcripts take channel and domain from it.
        mask: What masks every text, cell and message.
        named: One of `deesc_model.inputs.INPUT_FORMATS`, or None to find out.
        customers: Names of customers, for transcripts that do not say who is who.

    Returns:
        Its conversations, each with at least one turn, and what cannot be used.
    """
    # A name that is not UTF-8 could not be saved.
    name = mask(file.name.encode("utf-8", "backslashreplace").decode())
    try:
        if named == "parquet" or (named is None and file.suffix.lower() == ".parquet"):
            return _conversations(_parquet_rows(file, mapped), name, mapped, mask)
        rows = row_format(file, named, customers, mapped.columns)
        if rows is None:
            told = read_transcript(file, customers=customers, format_name=named)
            return [_spoken(item, name, mapped, mask) for item in told], []
        with file.open("rb") as raw:
            refuse_no_rows(raw.read(2))
        with open_input(file) as stream:
            header, found = read_rows(stream, rows, columns=None)
            if header and (column := mapped.columns.get("text", "text")) not in header:
                raise no_column("text", column, header)
            return _conversations(found, name, mapped, mask)
    except (InvalidInputError, OSError, pa.ArrowException) as error:
        # A message quotes gaps between digits as escapes, which would hide a number.
        reason = mask(_ESCAPE.sub(" ", str(error)))
        return [], [Rejected(name, None, "file", reason)]


def _spoken(told: Conversation, file: str, mapped: Mapped, mask: Masker) -> list[NewTurn]:
    channel = mapped.channel or channel_of(told.metadata)
    return [
        NewTurn(file, number, Turn(turn.speaker, mask(turn.text)), channel, mapped.domain)
        for number, turn in enumerate(told.turns, start=1)
    ]


def _parquet_rows(file: Path, mapped: Mapped) -> Iterator[tuple[int, dict[str, Any]]]:
    wanted = {mapped.columns.get(name, name) for name in COLUMNS}
    held = pq.read_schema(file).names
    table = pq.read_table(file, columns=[name for name in held if name in wanted])
    yield from enumerate(table.to_pylist(), start=1)


def _conversations(
    rows: Iterable[tuple[int, dict[str, Any]] | BadRecord], file: str, mapped: Mapped, mask: Masker
) -> tuple[list[list[NewTurn]], list[Rejected]]:
    """Gather the rows of each conversation, which need not be neighbours.

    Raises:
        InvalidInputError: No row has the column for text, or one that was named.
    """
    found: dict[tuple[str, Any], list[tuple[float, NewTurn]]] = {}
    rejected = []
    seen: set[str] | None = None
    first: dict[tuple[object, ...], int] = {}
    for item in rows:
        if isinstance(item, BadRecord):
            rejected.append(Rejected(file, item.line, "line", item.message))
            continue
        line, row = item[:2]
        seen = (seen or set()) | row.keys()
        told = {name: row.get(mapped.columns.get(name, name)) for name in COLUMNS}
        cells = {name: _cell(value, mask) for name, value in told.items()}
        try:
            turn = _new_turn(cells, told, file, line, mapped)
            # As it was told: a time may look like a card, and so may two conversations.
            place = _number(line if told["turn"] in (None, "") else told["turn"])
        except InvalidInputError as error:
            rejected.append(Rejected(file, line, str(error).split(" ", 1)[0], str(error), cells))
            continue
        name = told["conversation_id"]
        key = ("row", line) if name in (None, "") else ("id", str(name))
        # Exports that overlap hold a turn twice. Where nothing counts turns, `place` is the line:
        # people repeat themselves.
        before = first.setdefault((key, place, turn.turn.speaker, told["text"]), line)
        if before != line:
            reason = f"turn is the one of line {before} again"
            rejected.append(Rejected(file, line, "turn", reason, cells))
            continue
        found.setdefault(key, []).append((place, turn))
    for name, column in {"text": "text", **mapped.columns}.items():
        if seen is not None and column not in seen:
            raise InvalidInputError(
                f"no row has a column {column!r} for {name}; say which is: --column {name}=COLUMN"
            )
    ordered = (sorted(turns, key=lambda item: item[0]) for turns in found.values())
    return [[turn for _, turn in turns] for turns in ordered], rejected


def _cell(value: object, mask: Masker) -> str | None:
    if isinstance(value, dict | list | bytes):  # as text it would have escapes between digits
        return f"[{type(value).__name__}]"
    return None if value is None else mask(str(value))


def _new_turn(
    cells: Mapping[str, str | None],
    told: Mapping[str, object],
    file: str,
    line: int,
    mapped: Mapped,
) -> NewTurn:
    """Return what a row says; `told` is what was masked."""
    text, speaker = told["text"], told["speaker"]
    if text is None:
        raise InvalidInputError("text is missing")
    if not isinstance(text, str):
        raise InvalidInputError(f"text must be a string, not {type(text).__name__}")
    channel = _channel(cells["channel"] or mapped.channel or "chat")
    domain = _domain(cells["domain"] or mapped.domain)
    # Who speaks is looked up as it was told, since a mapping may name an address.
    role = _speaker("" if speaker is None else str(speaker), cells["speaker"] or "", mapped)
    turn = Turn(role, cells["text"] or "")
    return NewTurn(file, line, turn, channel, domain)


def _number(value: object) -> float:
    """Return a row's place among the others of its conversation."""
    try:
        place = float(str(value))
    except ValueError:
        place = math.nan
    if not math.isfinite(place):
        raise InvalidInputError(
            "turn must be a number; without that column rows stay in the order of the file"
        )
    return place


def _speaker(told: str, masked: str, mapped: Mapped) -> str:
    """Return the role of a speaker; a row that names none is a customer's.

    Args:
        told: The speaker.
        masked: The same, for messages.
        mapped: Says who is who.
    """
    name = told.strip().casefold()
    role = mapped.speakers.get(name) or role_of_name(name) if name else "customer"
    if role is None:
        raise InvalidInputError(
            f"speaker must be customer or agent, not {masked!r}; say which: --speaker NAME=ROLE"
        )
    return role


def _channel(told: str) -> str:
    name = told.strip().lower().replace("-", "")  # e-mail
    if name not in CHANNELS:
        raise InvalidInputError(f"channel must be one of {', '.join(CHANNELS)}, not {told!r}")
    return name


def _domain(told: str) -> str:
    name = "_".join(told.lower().replace("-", " ").split())
    if not name.replace("_", "").isalpha():
        raise InvalidInputError(f"domain must be a word or words without digits, not {told!r}")
    return name


def _table(values: Mapping[str, Any], name: str) -> dict[str, str]:
    table = values.get(name, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise DataError(f"[{name}] must be a table of strings")
    return table
