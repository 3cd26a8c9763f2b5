"""Labelled conversations with what a bundle predicts of them, for risk and policy."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from deesc_model.classifier import EscalationClassifier
from deesc_model.files import open_output
from deesc_model.labels import Level
from deesc_model.scoring import BoolArray
from deesc_model.types import Prediction, Turn
from training.corpus import Utterance, fingerprint


@dataclass(frozen=True, slots=True)
class Course:
    """One conversation of two or more turns.

    Attributes:
        conversation_id: As in the corpus.
        split: As in the corpus.
        turns: What was said.
        predictions: What the bundle says of each turn.
        escalated: Which turns escalate by their true labels, bool (turns,): the customer is at
            level 3 or more, which abuse is too, or asks for somebody with authority.
        ends_calm: Whether the customer's last turn is at level 0 or 1 by its true label.
    """

    conversation_id: str
    split: str
    turns: tuple[Turn, ...]
    predictions: tuple[Prediction, ...]
    escalated: BoolArray
    ends_calm: bool

    @property
    def start(self) -> int | None:
        """The first turn that escalates; None if none does."""
        return int(self.escalated.argmax()) if self.escalated.any() else None


def build_courses(rows: Sequence[Utterance], predictions: Sequence[Prediction]) -> list[Course]:
    """Group turns by conversation.

    Single posts have no course. Conversations of the arc "handover" in which nobody asks for it
    and nobody is angry are left out: the labels do not say in which turn they are handed over.
    """
    courses = []
    pairs = zip(rows, predictions, strict=True)
    for name, group in groupby(pairs, key=lambda pair: pair[0].conversation_id):
        members = list(group)
        escalated = np.array([_escalates(row) for row, _ in members])
        first = members[0][0]
        if len(members) < 2 or (first.arc == "handover" and not escalated.any()):
            continue
        turns = tuple(Turn(row.speaker, row.text) for row, _ in members)
        levels = [row.level for row, _ in members if row.speaker == "customer"]
        courses.append(
            Course(
                conversation_id=name,
                split=first.split,
                turns=turns,
                predictions=tuple(prediction for _, prediction in members),
                escalated=escalated,
                ends_calm=not levels or levels[-1] <= Level.CONCERNED,
            )
        )
    return courses


def _escalates(row: Utterance) -> bool:
    heated = row.level >= Level.ANGRY or "supervisor_request" in row.signals
    return row.speaker == "customer" and heated


def predict_rows(
    rows: Sequence[Utterance], classifier: EscalationClassifier, cache: Path
) -> list[Prediction]:
    """Return what the classifier says of every row, from the cache, after writing it there.

    Its numbers are rounded there, so the first run has the same as those after it.

    Args:
        rows: Corpus rows, conversation by conversation.
        classifier: The model.
        cache: Folder of earlier predictions, by model version and data.
    """
    places = "\n".join(f"{row.conversation_id}#{row.turn}" for row in rows)  # order counts here
    order = hashlib.sha256(places.encode()).hexdigest()[:8]
    file = cache / f"{classifier.model_version}-{fingerprint(rows)[:8]}-{order}.jsonl"
    if not file.is_file():
        predictions = classifier.predict_batch(
            [Turn(row.speaker, row.text) for row in rows], [row.context for row in rows]
        )
        cache.mkdir(parents=True, exist_ok=True)
        with open_output(file, keep=False) as stream:
            stream.writelines(json.dumps(each.to_dict()) + "\n" for each in predictions)
    with file.open(encoding="utf-8") as stream:
        return [Prediction.from_dict(json.loads(line)) for line in stream]
