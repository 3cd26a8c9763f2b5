"""Utterances whose level was missed, as tables that people read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deesc_model.labels import TRIGGERS
from deesc_model.scoring import IntArray, Scores, expected_levels, predicted_levels
from training.corpus import Utterance

MOST = 100
"""Rows of a table."""

ErrorTable = dict[str, list[Any]]
"""Columns by name, all of one length."""


def worst_errors(rows: Sequence[Utterance], scores: Scores) -> ErrorTable:
    """Return the rows whose level was missed, the furthest from the score's mean level first."""
    levels = np.array([row.level for row in rows])
    missed = np.flatnonzero(predicted_levels(scores) != levels)
    distance = np.abs(expected_levels(scores.level) - levels)[missed]
    return _table(rows, scores, missed[np.argsort(-distance, kind="stable")][:MOST])


def newly_wrong(rows: Sequence[Utterance], ours: Scores, champions: Scores) -> ErrorTable:
    """Return the rows whose level the champion had right and the challenger has not, worst first.

    Args:
        rows: n test rows.
        ours: The challenger's scores of them.
        champions: The champion's.
    """
    levels = np.array([row.level for row in rows])
    distance = np.abs(predicted_levels(ours) - levels)
    lost = np.flatnonzero((predicted_levels(champions) == levels) & (distance > 0))
    return _table(rows, ours, lost[np.argsort(-distance[lost], kind="stable")][:MOST])


def _table(rows: Sequence[Utterance], scores: Scores, order: IntArray) -> ErrorTable:
    predicted, frustration = predicted_levels(scores), expected_levels(scores.level)
    return {
        "source": [rows[i].source for i in order],
        "text": [rows[i].text for i in order],
        "before": [rows[i].context[-1].text if rows[i].context else "" for i in order],
        "speaker": [rows[i].speaker for i in order],
        "level": [rows[i].level for i in order],
        "predicted_level": [int(predicted[i]) for i in order],
        "frustration": [round(float(frustration[i]), 3) for i in order],
        "triggers": [" ".join(rows[i].triggers) for i in order],
        "top_trigger": [TRIGGERS[int(scores.triggers[i].argmax())] for i in order],
        "top_trigger_score": [round(float(scores.triggers[i].max()), 3) for i in order],
        "turn": [f"{rows[i].conversation_id}#{rows[i].turn}" for i in order],
    }
