"""Files of turns to label, and labels read back from them or from Label Studio's JSON export.

A row to label has the fields of a kind of `TurnToLabel` and empty ``level``, ``triggers`` and
``signals``.
In CSV triggers and signals are separated by spaces, commas or semicolons. By ``text_sha256``
(``sha256:`` and 16 digits, of the text with plain spaces) it shows if a text was changed meanwhile.

Label Studio takes the CSV file as tasks. Its JSON export is a list of tasks with ``data`` (the
columns) and ``annotations``, each with a ``result`` of items ``{"from_name": "level", "type":
"choices", "value": {"choices": ["2"]}}``; annotations with ``was_cancelled`` do not count.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from deesc_model.errors import InvalidInputError
from deesc_model.files import check_writable, open_input, open_output
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.records import BadRecord, format_of, read_rows
from training.assembly import Place, origin, origin_of
from training.corpus import FIELDS, DataError, Utterance, value_faults
from training.sources import text_hash

LABELS = ("level", "triggers", "signals")
NONE = "none"
"""What a labeller writes where no trigger, or no signal, is left of those that were there."""
HASH_PREFIX = "sha256:"
"""Without it a spreadsheet takes a hash of digits, or of digits and one "e", for a number."""
BOM = "\ufeff"
"""By this first character spreadsheets know UTF-8."""


@dataclass(frozen=True, slots=True)
class TurnToLabel:
    """One turn to label.

    Attributes:
        speaker: ``"customer"`` or ``"agent"``.
        context: The turns before it, a line each.
        text: What to label.
        conversation_id: As in its set.
        turn: Position in its conversation, from 0.
        channel: As in the corpus.
        domain: As in the corpus.
    """

    speaker: str
    context: str
    text: str
    conversation_id: str
    turn: int
    channel: str
    domain: str


@dataclass(frozen=True, slots=True)
class QueuedTurn(TurnToLabel):
    """A turn that is worth labelling.

    Attributes:
        uncertainty: How unsure the bundle is, 0–1; None for turns that are only context.
        rarity: How rare the rarest label is that it predicts, 0–1; None likewise.
        disagreement: How far a previous bundle differs, 0–1; None without one.
    """

    uncertainty: float | None = None
    rarity: float | None = None
    disagreement: float | None = None


@dataclass(slots=True)
class Labelled:
    """What a file of labels holds.

    Attributes:
        rows: Place in the file, for messages, and labelled turn; arc and split are not known.
        faults: What cannot be taken, each with its place.
        blank: Rows without any label.
    """

    rows: list[tuple[str, Utterance]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    blank: int = 0


def check_new(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that `write_queue` could not write, or that may hold somebody's labels.

    Raises:
        InvalidInputError: The name ends in no known format, the folder is missing, or the file
            is there and is not to be overwritten.
    """
    _table_format(out)
    check_writable(out)
    if out.exists() and not overwrite:
        raise InvalidInputError(
            f"{out} is there already and may hold labels; name another file, or say --overwrite"
        )


def _table_format(file: Path) -> str:
    """Return the format of a file that people fill in.

    Raises:
        InvalidInputError: The name ends in none that they can.
    """
    if (found := format_of(file)) == "parquet":
        raise InvalidInputError(f"{file}: nobody can fill in Parquet; take .csv or .jsonl")
    return found


def write_queue(
    turns: Sequence[TurnToLabel],
    out: Path,
    kind: type[TurnToLabel] = QueuedTurn,
    *,
    overwrite: bool = False,
) -> None:
    """Write turns with room for labels as CSV or JSON Lines, whole or not at all.

    Args:
        turns: Rows of the file.
        out: A name that ends in .csv or .jsonl.
        kind: The class of all of them, whose fields are the columns.
        overwrite: Whether a file that is there is replaced.

    Raises:
        InvalidInputError: As `check_new` says, or the file cannot be written.
    """
    check_new(out, overwrite=overwrite)
    names = [attribute.name for attribute in fields(kind)]
    columns = (*names[:3], *LABELS, *names[3:], "text_sha256")  # the labels beside the text
    with open_output(out) as stream:
        rows = (_row(turn, columns) for turn in turns)
        if _table_format(out) == "jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        stream.write(BOM)
        writer = csv.DictWriter(stream, columns, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _shown(text: str) -> str:
    """Return a text so that spreadsheets show it, and do not compute it.

    Source: OWASP, CSV Injection.
    """
    return f"\t{text}" if text.startswith(("=", "+", "-", "@")) else text


def _row(turn: TurnToLabel, columns: Sequence[str]) -> dict[str, Any]:
    values = asdict(turn) | {"level": None, "triggers": [], "signals": []}
    values["text_sha256"] = HASH_PREFIX + _hash(turn.text)
    return {name: values[name] for name in columns}


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return _shown(value)
    return " ".join(value) if isinstance(value, list | tuple) else value


def _hash(text: str) -> str:
    """Return the hash of a text with plain spaces: a spreadsheet may change line breaks."""
    return text_hash(" ".join(text.split()))


def read_labelled(file: Path, held: Mapping[Place, Utterance] | None = None) -> Labelled:
    """Read labels back.

    Args:
        file: What `write_queue` wrote, filled in; or, by the name ``.json``, an export of Label
            Studio.
        held: Utterances by their `origin`. Their labels count where a row that is filled in
            leaves a cell empty.

    Raises:
        DataError: The file cannot be read at all.
    """
    found = Labelled()
    first: dict[Place, str] = {}
    try:
        for where, read in (_tasks if file.suffix.lower() == ".json" else _rows)(file):
            if isinstance(read, str):
                found.faults.append(f"{where}: {read}")
                continue
            if all(_is_empty(read.get(name)) for name in LABELS):
                found.blank += 1
                continue
            item = _completed(read, held or {})
            place = f"{where} ({item.get('conversation_id')}, turn {item.get('turn')})"
            row, faults = _utterance(item)
            found.faults += [f"{place}: {fault}" for fault in faults]
            if row is None:
                continue
            before = first.setdefault(origin(row), place)
            if before != place:
                found.faults.append(f"{place}: this turn is labelled in {before} too")
            found.rows.append((place, row))
    except (InvalidInputError, OSError) as error:
        raise DataError(f"{file}: {error}") from None
    return found


def _is_empty(cell: Any) -> bool:
    return cell in (None, []) or (isinstance(cell, str) and not cell.strip())


def _completed(item: Mapping[str, Any], held: Mapping[Place, Utterance]) -> Mapping[str, Any]:
    """Return a row with the labels of the utterance that it is about where its own are empty."""
    name, turn = str(_plain(item.get("conversation_id"))), _whole(item.get("turn"))
    before = held.get(origin_of(name, turn)) if type(turn) is int else None
    if before is None:
        return item
    empty = [name for name in LABELS if _is_empty(item.get(name))]
    return {**item, **{name: getattr(before, name) for name in empty}}


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield place of each row of a table, and its fields or what is wrong."""
    with open_input(file) as stream:
        _, rows = read_rows(stream, _table_format(file))
        for item in rows:
            where = f"{file.name}:{item.line}"
            yield where, item.message if isinstance(item, BadRecord) else dict(item.row)


def _tasks(file: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield place of each task of an export, and its data with labels or what is wrong.

    Exports have one line, so the place is the task's id, as Label Studio shows it.
    """
    try:
        tasks = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"not JSON: {error}") from None
    if not isinstance(tasks, list):
        raise InvalidInputError("not Label Studio's JSON export: it must be a list of tasks")
    for number, task in enumerate(tasks, start=1):
        name = task.get("id", number) if isinstance(task, dict) else number
        yield f"{file.name}, task {name}", _task_labels(task)


def _task_labels(task: Any) -> dict[str, Any] | str:
    """Return a task's data with its labels, or what is wrong."""
    try:
        data = dict(task["data"])
        given = [
            _annotation_labels(annotation["result"])
            for annotation in task["annotations"]
            if not annotation.get("was_cancelled")
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"not a task of Label Studio's export in the format JSON: {error!r}"
    if any(labels != given[0] for labels in given):
        return f"its {len(given)} annotations differ; settle them first"
    chosen = dict.fromkeys(LABELS) | (given[0] if given else {})
    if any(chosen.values()):  # what an annotation does not choose is not there
        chosen |= {name: chosen[name] or NONE for name in ("triggers", "signals")}
    return data | chosen


def _annotation_labels(result: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chosen = {
        item["from_name"]: sorted(item["value"]["choices"])
        for item in result
        if item["from_name"] in LABELS
    }
    levels = chosen.pop("level", [None])
    if len(levels) > 1:
        raise ValueError("more than one level")
    return chosen | {"level": levels[0]}


def _utterance(item: Mapping[str, Any]) -> tuple[Utterance | None, list[str]]:
    """Return a labelled row as an utterance, or what is wrong with it."""
    data = {name: _plain(item.get(name)) for name in FIELDS}
    data |= {"turn": _whole(item.get("turn")), "level": _level(item.get("level"))}
    data |= {"arc": "calm", "split": ""}  # the arc is known when the whole conversation is
    faults = []
    for name, vocabulary in (("triggers", TRIGGERS), ("signals", SIGNALS)):
        labels = _labels(item.get(name))
        unknown = [label for label in labels if label not in vocabulary]
        faults += [
            f"{name}: unknown label {label!r}; known are {', '.join(vocabulary)} and {NONE}"
            for label in unknown
        ]
        data[name] = [label for label in vocabulary if label in labels]
    faults += [f"{name}: {message}" for name, message in value_faults(data)]
    told = str(item.get("text_sha256") or "").removeprefix(HASH_PREFIX)
    if not faults and told not in ("", _hash(data["text"])):
        faults.append("text: is not as it was queued; perhaps a spreadsheet changed it")
    if faults:
        return None, faults
    labels = {name: tuple(data[name]) for name in ("triggers", "signals")}
    return Utterance(**{**data, **labels}), []


def _plain(value: Any) -> Any:
    """Undo `_shown`."""
    return value.lstrip("\t") if isinstance(value, str) else value


def _labels(value: Any) -> list[str]:
    found = value if isinstance(value, list | tuple) else re.findall(r"[^\s,;]+", str(value or ""))
    return [label for label in map(str, found) if label.lower() != NONE]


def _level(value: Any) -> Any:
    """Return the number of a level that is told as number, digit or name."""
    names = {level.label: int(level) for level in Level}
    return names.get(str(value).strip().lower(), _whole(value))


def _whole(value: Any) -> Any:
    """Return a whole number that is told as text or, by a spreadsheet, as 2.0."""
    return int(float(value)) if re.fullmatch(r"\s*[0-9]{1,9}(\.0+)?\s*", str(value)) else value
