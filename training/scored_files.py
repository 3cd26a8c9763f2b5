"""Read what `deesc score` wrote: utterances with their predictions, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from deesc_model.errors import DeescError, InvalidInputError
from deesc_model.files import open_input
from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.records import BadRecord, Record, format_of, read_records
from deesc_model.scoring import BoolArray, IntArray, Scores
from deesc_model.types import Prediction, Turn

SUM_TOLERANCE = 0.01
"""Scores are written with four decimals."""


class ScoredFileError(DeescError, ValueError):
    """A scored file cannot be used; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """n labelled utterances.

    Attributes:
        turns: What was said, by whom.
        conversations: Number of each row's conversation from 0, int64 (n,); a row without an
            id is one by itself.
        scores: Calibrated scores.
        levels: Predicted level 0–4, int64 (n,).
        triggers: Predicted triggers, bool (n, 11).
        signals: Predicted signals, bool (n, 5).
        model_version: What all rows were labelled by.
    """

    turns: tuple[Turn, ...]
    conversations: IntArray
    scores: Scores
    levels: IntArray
    triggers: BoolArray
    signals: BoolArray
    model_version: str

    @property
    def conversation_count(self) -> int:
        """How many conversations the rows belong to."""
        return int(self.conversations.max()) + 1

    @classmethod
    def from_predictions(
        cls, turns: Sequence[Turn], names: Sequence[str], predictions: Sequence[Prediction]
    ) -> Self:
        """Gather predictions of one model; equal `names` are one conversation, ``""`` is none.

        Raises:
            ScoredFileError: There are none, or they are by more than one model.
        """
        if not turns:
            raise ScoredFileError("no rows")
        versions = sorted({prediction.model_version for prediction in predictions})
        if len(versions) > 1:
            raise ScoredFileError(f"rows of several models: {', '.join(versions)}; score it anew")
        keys = [name or f"\0{row}" for row, name in enumerate(names)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return cls(
            turns=tuple(turns),
            conversations=np.array([numbers[key] for key in keys], dtype=np.int64),
            scores=Scores(
                np.array([item.level_scores for item in predictions], dtype=np.float64),
                np.array([[item.trigger_scores[k] for k in TRIGGERS] for item in predictions]),
                np.array([[item.signal_scores[k] for k in SIGNALS] for item in predictions]),
            ),
            levels=np.array([int(item.level) for item in predictions], dtype=np.int64),
            triggers=np.array([[k in item.triggers for k in TRIGGERS] for item in predictions]),
            signals=np.array([[k in item.signals for k in SIGNALS] for item in predictions]),
            model_version=versions[0],
        )


def read_scored(file: Path) -> ScoredRows:
    """Read a file of `deesc score`, JSON Lines or CSV.

    Raises:
        ScoredFileError: It cannot be read, is empty or not scored, or mixes models; the message
            says where.
    """
    turns, names, predictions = [], [], []
    try:
        with open_input(file) as stream:
            for record in read_records(stream, format_of(file), context_turns=0):
                if isinstance(record, BadRecord):
                    raise InvalidInputError(str(record))
                turns.append(record.turn)
                named = record.row.get("conversation_id")
                names.append("" if named is None else str(named))
                predictions.append(_prediction(record))
        return ScoredRows.from_predictions(turns, names, predictions)
    except OSError as error:
        raise ScoredFileError(f"cannot read {file}: {error.strerror}") from None
    except DeescError as error:
        raise ScoredFileError(f"{file}: {error}") from None


def pool(reference: ScoredRows, current: ScoredRows) -> ScoredRows:
    """Return both one after the other; conversations of the two stay apart.

    Raises:
        ScoredFileError: They are by different models.
    """
    if reference.model_version != current.model_version:
        raise ScoredFileError(
            f"reference is labelled by {reference.model_version}, current by"
            f" {current.model_version}; label both with one model"
        )

    def both(name: str, of: str | None = None) -> Any:
        parts = [getattr(rows, of) if of else rows for rows in (reference, current)]
        return np.concatenate([getattr(part, name) for part in parts])

    shifted = current.conversations + reference.conversation_count
    return ScoredRows(
        turns=reference.turns + current.turns,
        conversations=np.concatenate([reference.conversations, shifted]),
        scores=Scores(*(both(name, "scores") for name in ("level", "triggers", "signals"))),
        levels=both("levels"),
        triggers=both("triggers"),
        signals=both("signals"),
        model_version=reference.model_version,
    )


def _prediction(record: Record) -> Prediction:
    row = record.row
    if "deesc" in row:
        data = row["deesc"]
    elif any(name.startswith("deesc_") for name in row):
        data = _unflatten(row, record.line)
    else:
        raise InvalidInputError(
            f"line {record.line}: not scored, there is neither a field deesc nor deesc_level;"
            " run: deesc score"
        )
    try:
        prediction = Prediction.from_dict(data)
    except InvalidInputError as error:
        raise InvalidInputError(f"line {record.line}: {error}") from None
    if fault := _fault(prediction):
        raise InvalidInputError(f"line {record.line}: {fault}")
    return prediction


def _unflatten(row: Mapping[str, Any], line: int) -> dict[str, Any]:
    """Return the prediction of a CSV row as `Prediction.to_dict` has it."""
    try:
        return {
            "level": int(row["deesc_level"]),
            "frustration": row["deesc_frustration"],
            "uncertain": bool(int(row["deesc_uncertain"])),
            "triggers": row["deesc_triggers"].split(),
            "signals": row["deesc_signals"].split(),
            "level_scores": [row[f"deesc_level_{int(level)}"] for level in Level],
            "trigger_scores": {name: row[f"deesc_{name}"] for name in TRIGGERS},
            "signal_scores": {name: row[f"deesc_{name}"] for name in SIGNALS},
            "model_version": row["deesc_model_version"],
        }
    except KeyError as error:
        raise InvalidInputError(f"line {line}: no column {error.args[0]}") from None
    except ValueError as error:
        raise InvalidInputError(f"line {line}: not a prediction: {error}") from None


def _fault(prediction: Prediction) -> str:
    """Return what is wrong with a prediction's scores, or an empty string."""
    for kind, scores, labels in (
        ("trigger", prediction.trigger_scores, TRIGGERS),
        ("signal", prediction.signal_scores, SIGNALS),
    ):
        if odd := sorted(set(scores) ^ set(labels)):
            return f"{kind}_scores must have each {kind} once; see {odd[0]}"
    if len(prediction.level_scores) != len(Level):
        return f"level_scores must be {len(Level)} numbers"
    values = [*prediction.level_scores, *prediction.trigger_scores.values()]
    values += prediction.signal_scores.values()
    if not all(0 <= value <= 1 for value in values):
        return "a score is not from 0 to 1"
    if abs(sum(prediction.level_scores) - 1) > SUM_TOLERANCE:
        return "level_scores do not sum to 1"
    return ""
