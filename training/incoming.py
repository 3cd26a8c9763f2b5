"""Conversations from the files that people bring: tables of rows, or transcripts."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deesc_model.errors import InvalidInputError
from deesc_model.files import open_input
from deesc_model.inputs import row_format
from deesc_model.records import FORMATS, BadRecord, read_rows
from deesc_model.transcripts import read_transcript
from deesc_model.transcripts.speakers import role_of_name
from deesc_model.types import Turn
from training.corpus import CHANNELS, DataError

COLUMNS = ("text", "speaker", "conversation_id", "turn", "channel", "domain")
"""What a row can say; only ``text`` is needed."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """How the rows of a file are read.

    Attributes:
        columns: Name of the file's column for each of `COLUMNS` that is called otherwise.
        speakers: ``"customer"`` or ``"agent"`` for what the file calls them, in lower case.
        channel: Channel of rows that name none.
        domain: Domain of rows that name none.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, str] = field(default_factory=dict)
    channel: str = "chat"
    domain: str = "general"


@dataclass(frozen=True, slots=True)
class NewTurn:
    """One turn of a file that can be used.

    Attributes:
        file: Name of its file.
        line: Its line or row in the file, from 1; in a transcript its number among the turns.
        turn: Speaker and text, as in the file.
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
    """A row that cannot be used, or a whole file where `line` is None."""

    file: str
    line: int | None
    field: str
    reason: str
    row: Any


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
    named = _table(values, "columns") | _pairs("--column", columns)
    roles = _table(values, "speakers") | _pairs("--speaker", speakers)
    if unknown := named.keys() - set(COLUMNS):
        raise DataError(f"no column is {min(unknown)!r}; known are {', '.join(COLUMNS)}")
    if wrong := sorted(set(roles.values()) - {"customer", "agent"}):
        raise DataError(f"a speaker must be customer or agent, not {wrong[0]!r}")
    mapped = Mapped(
        named,
        {name.casefold(): role for name, role in roles.items()},
        channel or values.get("channel", "chat"),
        domain or values.get("domain", "general"),
    )
    for name in ("channel", "domain"):
        if message := _place_fault(name, getattr(mapped, name)):
            raise DataError(f"{name} {message}")
    return mapped


def read_file(
    file: Path, mapped: Mapped, *, named: str | None = None, customers: Sequence[str] = ()
) -> tuple[list[list[NewTurn]], list[Rejected]]:
    """Read a file whole.

    Args:
        file: Rows or a transcript.
        mapped: How rows are read; transcripts take channel and domain from it.
        named: ``"parquet"``, one of `deesc_model.inputs.INPUT_FORMATS`, or None to find out.
        customers: Names of customers, for transcripts that do not say who is who.

    Returns:
        Its conversations, each with at least one turn, and what cannot be used.
    """
    try:
        if named is None and file.suffix.lower() == ".parquet":
            named = "parquet"
        elif named is None and "text" in mapped.columns:
            named = "csv" if file.suffix.lower() == ".csv" else "jsonl"
        rows = named if named == "parquet" else row_format(file, named, customers)
        if rows is None:
            return _transcript(file, mapped, named, customers), []
        return _conversations(_rows(file, rows, mapped), file.name, mapped)
    except (InvalidInputError, OSError, pa.ArrowException) as error:
        return [], [Rejected(file.name, None, "file", str(error), None)]


def _transcript(
    file: Path, mapped: Mapped, named: str | None, customers: Sequence[str]
) -> list[list[NewTurn]]:
    return [
        [
            NewTurn(file.name, number, turn, mapped.channel, mapped.domain)
            for number, turn in enumerate(conversation.turns, start=1)
        ]
        for conversation in read_transcript(file, customers=customers, format_name=named)
    ]


def _rows(
    file: Path, rows: str, mapped: Mapped
) -> Iterator[tuple[int, dict[str, Any]] | BadRecord]:
    text_column = mapped.columns.get("text", "text")
    if rows in FORMATS:
        with open_input(file) as stream:
            yield from read_rows(stream, rows, text_column)
        return
    table = pq.read_table(file)
    if text_column not in table.column_names:
        raise InvalidInputError(f"no column named {text_column}")
    yield from enumerate(table.to_pylist(), start=1)


def _conversations(
    rows: Iterator[tuple[int, dict[str, Any]] | BadRecord], file: str, mapped: Mapped
) -> tuple[list[list[NewTurn]], list[Rejected]]:
    """Gather the rows of each conversation, which need not be neighbours."""
    found: dict[object, list[tuple[float, NewTurn]]] = {}
    rejected = []
    for item in rows:
        if isinstance(item, BadRecord):
            rejected.append(Rejected(file, item.line, "line", item.message, item.raw))
            continue
        line, row = item
        cells = {name: row.get(mapped.columns.get(name, name)) for name in COLUMNS}
        try:
            place, turn = _new_turn(cells, file, line, mapped)
        except InvalidInputError as error:
            rejected.append(Rejected(file, line, str(error).split(" ", 1)[0], str(error), row))
            continue
        name = cells["conversation_id"]
        key = ("row", line) if name in (None, "") else ("id", str(name))
        found.setdefault(key, []).append((place, turn))
    ordered = (sorted(turns, key=lambda item: item[0]) for turns in found.values())
    return [[turn for _, turn in turns] for turns in ordered], rejected


def _new_turn(
    cells: Mapping[str, Any], file: str, line: int, mapped: Mapped
) -> tuple[float, NewTurn]:
    """Return a row's place in its conversation, and what it says."""
    turn = Turn(_speaker(cells["speaker"], mapped), cells["text"])
    places = {
        name: getattr(mapped, name) if cells[name] in (None, "") else cells[name]
        for name in ("channel", "domain")
    }
    for name, value in places.items():
        if message := _place_fault(name, value):
            raise InvalidInputError(f"{name} {message}")
    try:
        place = float(line if cells["turn"] in (None, "") else cells["turn"])
    except (TypeError, ValueError):
        raise InvalidInputError(f"turn must be a number, not {cells['turn']!r}") from None
    return place, NewTurn(file, line, turn, **places)


def _speaker(value: object, mapped: Mapped) -> str:
    """Return the role of a speaker; a row that names none is a customer's."""
    name = "" if value is None else str(value).strip().casefold()
    if not name:
        return "customer"
    # What is no role goes on to `Turn`, which refuses it by name.
    return mapped.speakers.get(name) or role_of_name(name) or str(value)


def _place_fault(name: str, value: object) -> str:
    """Return what is wrong with a channel or domain, or an empty string."""
    if name == "channel":
        good = value in CHANNELS
        return "" if good else f"must be one of {', '.join(CHANNELS)}, not {value!r}"
    good = isinstance(value, str) and value.replace("_", "").isalpha()
    return "" if good else f"must be a word, not {value!r}"


def _table(values: Mapping[str, Any], name: str) -> dict[str, str]:
    table = values.get(name, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise DataError(f"[{name}] must be a table of strings")
    return table


def _pairs(option: str, strings: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for string in strings:
        name, separator, value = string.partition("=")
        if not (name and separator and value):
            raise DataError(f"{option} takes NAME=VALUE, not {string!r}")
        pairs[name] = value
    return pairs
