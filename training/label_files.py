"""Files of turns to label, and labels read back from them or from Label Studio's JSON export.

A row to label has the fields of `QueuedTurn` and empty ``level``, ``triggers`` and ``signals``.
In CSV triggers and signals are separated by spaces, commas or semicolons.

Label Studio takes the CSV file as tasks. Its JSON export is a list of tasks with ``data`` (the
columns) and ``annotations``, each with a ``result`` of items ``{"from_name": "level", "type":
"choices", "value": {"choices": ["2"]}}``; annotations with ``was_cancelled`` do not count.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deesc_model.errors import InvalidInputError
from deesc_model.files import open_input, open_output
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.records import BadRecord, format_of, read_rows
from training.corpus import DataError, Fault, Utterance, value_faults

LABELS = ("level", "triggers", "signals")


@dataclass(frozen=True, slots=True)
class QueuedTurn:
    """One turn to label.

    Attributes:
        conversation_id: As in its set.
        turn: Position in its conversation, from 0.
        speaker: ``"customer"`` or ``"agent"``.
        context: The turns before it, a line each.
        text: What to label.
        channel: As in the corpus.
        domain: As in the corpus.
        uncertainty: How unsure the bundle is, 0–1; None for turns that are only context.
        rarity: How rare the rarest label is that it predicts, 0–1; None likewise.
        disagreement: How far a previous bundle differs, 0–1; None without one.
    """

    conversation_id: str
    turn: int
    speaker: str
    context: str
    text: str
    channel: str
    domain: str
    uncertainty: float | None
    rarity: float | None
    disagreement: float | None


def write_queue(queued: Sequence[QueuedTurn], out: Path) -> None:
    """Write turns with room for labels as CSV or JSON Lines, whole or not at all.

    Raises:
        InvalidInputError: The name ends in neither, or the file cannot be written.
    """
    kind = format_of(out)
    rows = [asdict(turn) | {"level": None, "triggers": [], "signals": []} for turn in queued]
    with open_output(out) as stream:
        if kind == "jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        writer = csv.DictWriter(stream, [*QueuedTurn.__slots__, *LABELS], lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(row | {"triggers": "", "signals": ""} for row in rows)


def read_labelled(file: Path) -> tuple[list[Utterance], list[Fault], int]:
    """Read labels back.

    Args:
        file: What `write_queue` wrote, filled in; or, by the name ``.json``, an export of Label
            Studio.

    Returns:
        The labelled turns without arc and split; the faults; and how many rows have no label.

    Raises:
        DataError: The file cannot be read at all.
    """
    studio = file.suffix.lower() == ".json"
    rows: list[Utterance] = []
    faults: list[Fault] = []
    lines: dict[tuple[str, int], int] = {}
    blank = 0
    try:
        for line, item in _read_tasks(file) if studio else _read_table(file):
            if isinstance(item, str):
                faults.append(Fault(file.name, line, "line", item))
            elif all(item.get(name) in (None, "", []) for name in LABELS):
                blank += 1
            else:
                row, found = _utterance(item)
                faults += [Fault(file.name, line, name, message) for name, message in found]
                if row is None:
                    continue
                first = lines.setdefault((row.conversation_id, row.turn), line)
                if first != line:
                    message = f"this turn is also labelled in line {first}"
                    faults.append(Fault(file.name, line, "turn", message))
                rows.append(row)
    except (InvalidInputError, OSError) as error:
        raise DataError(f"{file}: {error}") from None
    return rows, faults, blank


def _read_table(file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with open_input(file) as stream:
        for item in read_rows(stream, format_of(file)):
            if isinstance(item, BadRecord):
                yield item.line, item.message
            else:
                yield item


def _read_tasks(file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the line of each task of an export, and its data with labels or what is wrong."""
    text = file.read_text(encoding="utf-8-sig", errors="replace")
    decoder = json.JSONDecoder()
    start = re.match(r"\s*\[\s*", text)
    if start is None:
        raise DataError(f"{file} is not Label Studio's JSON export: it must be a list of tasks")
    place = start.end()
    while text[place : place + 1] not in ("]", ""):
        line = text.count("\n", 0, place) + 1
        try:
            task, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield line, f"not JSON: {error}"
            return
        yield line, _task_labels(task)
        place = re.compile(r"\s*,?\s*").match(text, end).end()  # type: ignore[union-attr]
    if not text[place:]:
        yield text.count("\n") + 1, "the list of tasks does not end"


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
        return f"not a task of Label Studio's JSON export: {error!r}"
    if any(labels != given[0] for labels in given):
        return f"its {len(given)} annotations differ; settle them first"
    return data | dict.fromkeys(LABELS) | (given[0] if given else {})


def _annotation_labels(result: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    chosen = {
        item["from_name"]: sorted(item["value"]["choices"])
        for item in result
        if item["from_name"] in LABELS
    }
    levels = chosen.get("level", [])
    if len(levels) > 1:
        raise ValueError("more than one level")
    return chosen | {"level": levels[0] if levels else None}


def _utterance(item: Mapping[str, Any]) -> tuple[Utterance | None, list[tuple[str, str]]]:
    """Return a labelled row as an utterance, or what is wrong with it."""
    data = {name: item.get(name) for name in Utterance.__slots__}
    data |= {"turn": _whole(item.get("turn")), "level": _level(item.get("level"))}
    data |= {"arc": "calm", "split": ""}  # the arc is known when the whole conversation is
    faults = []
    for name, vocabulary in (("triggers", TRIGGERS), ("signals", SIGNALS)):
        labels = _labels(item.get(name))
        faults += [
            (name, f"unknown label {label!r}") for label in labels if label not in vocabulary
        ]
        data[name] = [label for label in vocabulary if label in labels]
    faults += value_faults(data)
    if faults:
        return None, faults
    del data["context"], data["source"]
    row = Utterance(
        **{**data, "triggers": tuple(data["triggers"]), "signals": tuple(data["signals"])}
    )
    return row, []


def _labels(value: Any) -> list[str]:
    if isinstance(value, str):
        return re.findall(r"[^\s,;]+", value)
    if isinstance(value, list):
        return [str(label) for label in value]
    return [] if value is None else [str(value)]


def _level(value: Any) -> Any:
    """Return the number of a level that is told as number, digit or name."""
    names = {level.label: int(level) for level in Level}
    return names.get(value.strip().lower(), _whole(value)) if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
