"""Read what `deesc score` wrote: utterances with their predictions, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Self

import numpy as np

from deesc_model.bundle import Bundle
from deesc_model.errors import DeescError, InvalidInputError
from deesc_model.inputs import open_rows
from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.records import BadRecord, Record, format_of, in_context
from deesc_model.scored_rows import prediction_of_row
from deesc_model.scoring import BoolArray, FloatArray, IntArray, Scores
from deesc_model.types import Prediction, Turn
from training.embeddings import embed

SUM_TOLERANCE = 0.01
"""Scores in a table are written with four decimals."""


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
        embeddings: See `training.embeddings.embed`, shape (n, width).
    """

    turns: tuple[Turn, ...]
    conversations: IntArray
    scores: Scores
    levels: IntArray
    triggers: BoolArray
    signals: BoolArray
    embeddings: FloatArray

    @property
    def conversation_count(self) -> int:
        """How many conversations the rows belong to."""
        return int(self.conversations.max()) + 1

    @classmethod
    def gather(
        cls,
        turns: Sequence[Turn],
        names: Sequence[object],
        predictions: Sequence[Prediction],
        embeddings: FloatArray,
    ) -> Self:
        """Turn at least one prediction into arrays; rows of equal `names` are one conversation."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return cls(
            turns=tuple(turns),
            conversations=np.array([numbers[name] for name in names], dtype=np.int64),
            scores=Scores(
                np.array([item.level_scores for item in predictions], dtype=np.float64),
                np.array([[item.trigger_scores[k] for k in TRIGGERS] for item in predictions]),
                np.array([[item.signal_scores[k] for k in SIGNALS] for item in predictions]),
            ),
            levels=np.array([int(item.level) for item in predictions], dtype=np.int64),
            triggers=np.array([[k in item.triggers for k in TRIGGERS] for item in predictions]),
            signals=np.array([[k in item.signals for k in SIGNALS] for item in predictions]),
            embeddings=embeddings,
        )

    def keep(self, kept: BoolArray) -> Self:
        """Return the rows of some conversations, which are numbered anew in their order.

        Args:
            kept: Which conversations stay, bool (conversations,).
        """
        inside = kept[self.conversations]
        scores = self.scores
        return type(self)(
            turns=tuple(compress(self.turns, inside)),
            conversations=(np.cumsum(kept) - 1)[self.conversations[inside]],
            scores=Scores(scores.level[inside], scores.triggers[inside], scores.signals[inside]),
            levels=self.levels[inside],
            triggers=self.triggers[inside],
            signals=self.signals[inside],
            embeddings=self.embeddings[inside],
        )


def read_scored(files: Sequence[Path], bundle: Bundle) -> tuple[ScoredRows, IntArray]:
    """Read files of `deesc score` and embed their texts.

    Args:
        files: One or more; equal ids in two of them are two conversations.
        bundle: What they were labelled by.

    Returns:
        The rows of all files, and for each conversation the number of its file from 0.

    Raises:
        ScoredFileError: A file cannot be read, is empty, not scored, or scored by another
            bundle; the message says where.
    """
    records: list[Record] = []
    names: list[tuple[int, object]] = []
    predictions: list[Prediction] = []
    for number, file in enumerate(files):
        try:
            found = _read_file(file, bundle)
        except OSError as error:
            raise ScoredFileError(f"cannot read {file}: {error.strerror}") from None
        except DeescError as error:
            raise ScoredFileError(str(error)) from None
        for record, prediction in found:
            records.append(record)
            named = record.row.get("conversation_id")
            names.append((number, record.line if named in (None, "") else str(named)))
            predictions.append(prediction)
    turns = [record.turn for record in records]
    embeddings = embed(bundle, turns, [record.context for record in records])
    homes = np.array([number for number, _ in dict.fromkeys(names)], dtype=np.int64)
    return ScoredRows.gather(turns, names, predictions, embeddings), homes


def _read_file(file: Path, bundle: Bundle) -> list[tuple[Record, Prediction]]:
    wanted = bundle.manifest.model_version
    found = []
    with open_rows(file, format_of(file)) as opened:
        for record in in_context(opened.rows, bundle.config.encoder.context_turns):
            if isinstance(record, BadRecord):
                raise InvalidInputError(f"{file}: {record}")
            try:
                prediction = _prediction(record.row)
            except InvalidInputError as error:
                raise InvalidInputError(f"{file}: line {record.line}: {error}") from None
            if prediction.model_version != wanted:
                raise InvalidInputError(
                    f"{file}: line {record.line}: labelled by {prediction.model_version}, while the"
                    f" bundle {bundle.path} is {wanted}; name the other bundle, or label the file"
                    " anew"
                )
            found.append((record, prediction))
    if not found:
        raise InvalidInputError(f"{file}: no rows")
    return found


def _prediction(row: Mapping[str, Any]) -> Prediction:
    prediction = prediction_of_row(row)
    if abs(sum(prediction.level_scores) - 1) > SUM_TOLERANCE:
        raise InvalidInputError("level_scores do not sum to 1")
    return prediction
