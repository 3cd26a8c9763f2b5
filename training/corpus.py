"""The corpus format: conversations of labelled turns in JSON Lines, read and checked."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deesc_model.errors import DeescError, InvalidInputError
from deesc_model.files import open_output
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.rendering import render_turn
from deesc_model.types import Turn

CHANNELS = ("phone", "chat", "email", "social")
ARCS = ("calm", "rises", "calmed", "worsened", "abusive", "handover")
SPLITS = ("train", "validation", "test")
CORPUS = "corpus"
"""The source of what was written for this project."""


class DataError(DeescError, ValueError):
    """The corpus cannot be used; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled turn, with the turns before it.

    Attributes:
        conversation_id: Unique over the corpus.
        turn: Position in the conversation, from 0.
        speaker: ``"customer"`` or ``"agent"``.
        text: What was said.
        level: Frustration level, 0–4.
        triggers: Trigger types, in vocabulary order.
        signals: Escalation signals, in vocabulary order.
        channel: One of `CHANNELS`; other words for public texts.
        domain: Line of business, for example ``"airline"``.
        arc: How the conversation goes, one of `ARCS`; ``""`` for single texts.
        split: One of `SPLITS`, or ``""`` before splitting.
        context: The turns before it, oldest first.
        source: `CORPUS`, or the name of the public source that the text is from.
    """

    conversation_id: str
    turn: int
    speaker: str
    text: str
    level: int
    triggers: tuple[str, ...]
    signals: tuple[str, ...]
    channel: str
    domain: str
    arc: str
    split: str
    context: tuple[Turn, ...] = ()
    source: str = CORPUS


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the corpus: where, and what."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """Return ``file:line: field: message``."""
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


FIELDS = tuple(name for name in Utterance.__slots__ if name not in ("context", "source"))


def read_corpus(folder: Path) -> tuple[list[Utterance], list[Fault]]:
    """Read every ``*.jsonl`` file of a folder.

    Returns:
        The utterances, conversation by conversation, and the faults. Lines that cannot be
        read as an utterance are only among the faults.

    Raises:
        DataError: There is no such folder, or no file in it.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise DataError(f"no *.jsonl file in {folder}; the corpus is in data/corpus")
    faults: list[Fault] = []
    conversations: dict[str, list[Utterance]] = {}
    home: dict[str, Path] = {}
    for file in files:
        # Not splitlines() of a string: it would also split at U+2028 and the like inside of texts.
        for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            row, found = _read_line(line, file.name, number)
            faults += found
            if row is None:
                continue
            turns = conversations.setdefault(row.conversation_id, [])
            found = _place_faults(row, turns, file, number, home)
            faults += found
            context = tuple(Turn(before.speaker, before.text) for before in turns)
            turns.append(replace(row, context=context))
    return [turn for turns in conversations.values() for turn in turns], faults


def load_corpus(folder: Path) -> list[Utterance]:
    """Read the corpus and refuse it if anything is wrong with it.

    Raises:
        DataError: The first faults, by file, line and field.
    """
    rows, faults = read_corpus(folder)
    if faults:
        shown = "\n".join(str(fault) for fault in faults[:10])
        raise DataError(f"{len(faults)} faults in {folder}:\n{shown}")
    return rows


def select_split(
    rows: Iterable[Utterance], split: str, max_conversations: int = 0
) -> list[Utterance]:
    """Return one split's utterances, of the first `max_conversations` unless that is 0.

    Raises:
        DataError: The split is empty.
    """
    rows = list(rows)
    chosen = [row for row in rows if row.split == split]
    if max_conversations:
        kept = set(list(dict.fromkeys(row.conversation_id for row in chosen))[:max_conversations])
        chosen = [row for row in chosen if row.conversation_id in kept]
    if not chosen:
        raise DataError(why_empty(split, rows))
    return chosen


def why_empty(split: str, rows: Iterable[Utterance]) -> str:
    """Return that a split is empty, and what is to be done about it."""
    if not all(row.split for row in rows):
        return f"the split {split!r} is empty; run: python -m training.data split"
    return (
        f"the split {split!r} is empty, and no conversation is left that could join it: fewer than"
        " ten new ones are all for training. Label some that python -m training.queue choose"
        f" --random draws, and import them with --split {split}"
    )


def fingerprint(rows: Iterable[Utterance]) -> str:
    """Return the sha256 over all rows and what came before them, in whatever order they are."""
    lines = sorted("\n".join([to_json(row), *map(render_turn, row.context)]) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def to_json(row: Utterance) -> str:
    """Return the row as one line of a corpus file."""
    return json.dumps({name: getattr(row, name) for name in FIELDS}, ensure_ascii=False)


def write_corpus(rows: Sequence[Utterance], folder: Path) -> None:
    """Write one file per domain, each whole or not at all.

    Raises:
        DataError: The folder holds files that are not named by domain, which would then stand
            beside their own rows.
    """
    by_domain: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        by_domain[row.domain].append(row)
    if others := sorted({path.stem for path in folder.glob("*.jsonl")} - by_domain.keys()):
        raise DataError(
            f"{folder / others[0]}.jsonl is not named by a domain of its rows; the corpus has one"
            " file for each domain, DOMAIN.jsonl"
        )
    for domain, members in by_domain.items():
        with open_output(folder / f"{domain}.jsonl", keep=False) as stream:
            stream.writelines(to_json(row) + "\n" for row in members)


def _read_line(line: bytes, file: str, number: int) -> tuple[Utterance | None, list[Fault]]:
    """Parse and check one line by itself."""
    try:
        data = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return None, [Fault(file, number, "line", f"not UTF-8: {error}")]
    except (ValueError, RecursionError) as error:
        return None, [Fault(file, number, "line", f"not JSON: {error}")]
    if not isinstance(data, dict):
        return None, [Fault(file, number, "line", "not a JSON object")]
    faults = [Fault(file, number, name, "missing") for name in FIELDS if name not in data] + [
        Fault(file, number, name, "unknown field") for name in data if name not in FIELDS
    ]
    if faults:
        return None, faults
    faults = [Fault(file, number, name, message) for name, message in value_faults(data)]
    if faults:
        return None, faults
    return Utterance(
        **{**data, "triggers": tuple(data["triggers"]), "signals": tuple(data["signals"])}
    ), []


def value_faults(data: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield field and message of each wrong value of a turn that has all `FIELDS`."""
    if not isinstance(data["conversation_id"], str) or not data["conversation_id"]:
        yield "conversation_id", "must be a non-empty string"
    if type(data["turn"]) is not int or data["turn"] < 0:
        yield "turn", f"must be a whole number from 0, not {data['turn']!r}"
    if type(data["level"]) is not int or data["level"] not in list(Level):
        yield "level", f"must be 0 to 4, not {data['level']!r}"
    try:
        Turn(data["speaker"], data["text"])
    except InvalidInputError as error:
        yield str(error).split(" ", 1)[0], str(error)
    for name, vocabulary in (("triggers", TRIGGERS), ("signals", SIGNALS)):
        if message := _label_fault(data[name], vocabulary):
            yield name, message
    for name, allowed in (("channel", CHANNELS), ("arc", ARCS), ("split", (*SPLITS, ""))):
        if data[name] not in allowed:
            yield name, f"must be one of {', '.join(allowed)}, not {data[name]!r}"
    if not isinstance(data["domain"], str) or not data["domain"].replace("_", "").isalpha():
        yield "domain", f"must be a word, not {data['domain']!r}"
    if data["speaker"] == "agent" and data["signals"]:
        yield "signals", "agent turns carry none"
    if data["speaker"] == "customer" and isinstance(data["signals"], list):
        hostile = any(signal in ("personal_abuse", "harm_threat") for signal in data["signals"])
        if (data["level"] == Level.ABUSIVE) != hostile:
            yield "level", "4 goes with personal_abuse or harm_threat, and with nothing else"


def _label_fault(labels: object, vocabulary: Sequence[str]) -> str:
    """Return what is wrong with a list of labels, or an empty string."""
    if not isinstance(labels, list):
        return f"must be a list, not {labels!r}"
    for label in labels:
        if label not in vocabulary:
            return f"unknown label {label!r}"
    if labels != [label for label in vocabulary if label in labels]:
        return f"must hold each label once, in vocabulary order, not {labels}"
    return ""


def _place_faults(
    row: Utterance, before: list[Utterance], file: Path, number: int, home: dict[str, Path]
) -> list[Fault]:
    """Check a turn against the conversation so far."""
    faults = []
    if home.setdefault(row.conversation_id, file) != file:
        other = home[row.conversation_id].name
        faults.append(Fault(file.name, number, "conversation_id", f"also stands in {other}"))
    expected = before[-1].turn + 1 if before else 0
    if row.turn != expected:
        faults.append(Fault(file.name, number, "turn", f"expected {expected}, not {row.turn}"))
    for name in ("channel", "domain", "arc", "split"):
        if before and getattr(row, name) != getattr(before[0], name):
            faults.append(Fault(file.name, number, name, "differs within the conversation"))
    return faults
