"""Small corpora for tests."""

import json
import random
from pathlib import Path
from typing import Any

from training.corpus import Utterance

TURN: dict[str, Any] = {
    "conversation_id": "c1",
    "turn": 0,
    "speaker": "customer",
    "text": "My parcel is late.",
    "level": 0,
    "triggers": ["delay"],
    "signals": [],
    "channel": "chat",
    "domain": "delivery",
    "arc": "calm",
    "split": "train",
}


def turn(**changes: Any) -> dict[str, Any]:
    return {**TURN, **changes}


def utterance(**changes: Any) -> Utterance:
    row = turn(**changes)
    return Utterance(
        **{**row, "triggers": tuple(row["triggers"]), "signals": tuple(row["signals"])}
    )


def write_rows(folder: Path, rows: list[dict[str, Any]], name: str = "a.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


MOODS = (
    ("thanks, all is well with number", 0, [], []),
    ("i was hoping to hear about number", 1, ["wait_time"], []),
    ("this is the third time i ask about number", 2, ["unresolved"], ["churn_threat"]),
    ("outrageous, you lied to me about number", 3, ["broken_promise"], ["supervisor_request"]),
    ("you stupid fool lost number", 4, ["agent_conduct"], ["personal_abuse"]),
)
NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
]


def small_corpus(folder: Path, conversations: int = 100) -> Path:
    """A corpus that a model can learn; every tenth conversation is for testing."""
    chance = random.Random(1)
    rows = []
    for number in range(conversations):
        split = {8: "validation", 9: "test"}.get(number % 10, "train")
        for position in range(4):
            start, level, triggers, signals = MOODS[(number + position) % len(MOODS)]
            words = " ".join(chance.choices(NUMBERS, k=8))  # so many that no two texts are alike
            rows.append(
                turn(
                    conversation_id=f"c{number:03d}",
                    turn=position,
                    text=f"{start} {words}",
                    level=level,
                    triggers=triggers,
                    signals=signals,
                    split=split,
                )
            )
    return write_rows(folder, rows)
