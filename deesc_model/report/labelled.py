"""A conversation with its predictions, and what the report says of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.transcripts.conversation import Conversation, SpokenTurn
from deesc_model.types import Prediction


@dataclass(frozen=True, slots=True)
class LabelledTurn:
    """A turn, its number from 1, and its prediction."""

    number: int
    spoken: SpokenTurn
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class LabelledConversation:
    """A conversation and one prediction for each of its turns."""

    conversation: Conversation
    predictions: tuple[Prediction, ...]

    @property
    def turns(self) -> tuple[LabelledTurn, ...]:
        """All turns, oldest first."""
        pairs = zip(self.conversation.spoken, self.predictions, strict=True)
        return tuple(LabelledTurn(n, *pair) for n, pair in enumerate(pairs, start=1))

    def said_by(self, speaker: str) -> tuple[LabelledTurn, ...]:
        """Return the turns of ``"customer"`` or ``"agent"``."""
        return tuple(turn for turn in self.turns if turn.spoken.turn.speaker == speaker)

    @property
    def peak(self) -> LabelledTurn | None:
        """The customer's turn of the highest frustration, the first of equals; or None."""
        return max(
            self.said_by("customer"), key=lambda turn: turn.prediction.frustration, default=None
        )


def triggers_of(turns: Iterable[LabelledTurn]) -> dict[str, list[LabelledTurn]]:
    """Return the trigger types that occur, in vocabulary order, and the turns that carry each."""
    found = list(turns)
    carriers = {name: [t for t in found if name in t.prediction.triggers] for name in TRIGGERS}
    return {name: carrying for name, carrying in carriers.items() if carrying}


def signals_of(turns: Iterable[LabelledTurn]) -> dict[str, list[LabelledTurn]]:
    """Return the signals that occur, in vocabulary order, and the turns that carry each."""
    found = list(turns)
    carriers = {name: [t for t in found if name in t.prediction.signals] for name in SIGNALS}
    return {name: carrying for name, carrying in carriers.items() if carrying}
