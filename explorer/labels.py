"""`Labels`: what a person says of a turn, checked as the corpus checks it."""

from dataclasses import dataclass
from typing import Final, Self

from deesc_model import InvalidInputError, Level, Prediction

HOSTILE: Final = ("personal_abuse", "harm_threat")
"""The signals that go with level 4."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Level, triggers and signals of one turn, names in the order of the vocabulary."""

    level: int
    triggers: tuple[str, ...]
    signals: tuple[str, ...]

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        """Return the labels that the model gave."""
        return cls(int(prediction.level), prediction.triggers, prediction.signals)


def check_labels(speaker: str, labels: Labels) -> Labels:
    """Return the labels.

    Raises:
        InvalidInputError: The labelling guide does not allow them together.
    """
    if speaker == "agent":
        if labels.signals:
            raise InvalidInputError("agents have no signals; untick them")
        return labels
    hostile = any(name in HOSTILE for name in labels.signals)
    if labels.level == Level.ABUSIVE and not hostile:
        raise InvalidInputError("level 4 needs personal_abuse or harm_threat among the signals")
    if labels.level != Level.ABUSIVE and hostile:
        raise InvalidInputError("personal_abuse and harm_threat come only with level 4")
    return labels
