"""What every format is read into: messages as the file tells them, then a conversation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deesc_model.transcripts.document import Document
from deesc_model.types import Turn

SENTIMENTS: Final = ("positive", "neutral", "mixed", "negative")
"""What a vendor's own sentiment is read as."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one person said, as the file tells it; who is the customer is settled later.

    Attributes:
        name: What the file calls the speaker: a name, an address, a role, an id.
        text: What was said.
        place: Where it stands in the file, for errors.
        role: ``"customer"`` or ``"agent"`` where the file says so, else None.
        vendor_sentiment: One of `SENTIMENTS`, or None if the file has none.
        metadata: What else the file says of it, in plain JSON types.
    """

    name: str
    text: str
    place: str
    role: str | None = None
    vendor_sentiment: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The messages of one conversation, as the file tells them.

    Attributes:
        conversation_id: The file's id of it, or empty if the file has none.
        messages: What was said, oldest first.
        left_out: What is in the file but was not said to the other side, and how often.
        metadata: What else the file says of the conversation, in plain JSON types.
    """

    conversation_id: str
    messages: Sequence[Message]
    left_out: Mapping[str, int] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """One turn of a conversation and what its file says of it.

    Attributes:
        turn: Speaker and text.
        name: What the file calls the speaker.
        vendor_sentiment: One of `SENTIMENTS`, or None if the file has none.
        metadata: What else the file says of the turn, in plain JSON types.
    """

    turn: Turn
    name: str
    vendor_sentiment: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation between customer and agent.

    Attributes:
        conversation_id: The file's id of it, else what it is called by its file.
        spoken: Its turns, oldest first; at least one.
        left_out: What is in the file but was not said to the other side, and how often.
        metadata: What else the file says of the conversation, in plain JSON types.
    """

    conversation_id: str
    spoken: tuple[SpokenTurn, ...]
    left_out: Mapping[str, int]
    metadata: Mapping[str, Any]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns alone, as `EscalationClassifier.predict_conversation` takes them."""
        return tuple(item.turn for item in self.spoken)


@dataclass(frozen=True, slots=True)
class TranscriptFormat:
    """How one kind of file is told from others and read.

    Attributes:
        name: Its name on the command line.
        looks_for: What `fits` looks for, for the error that a file fits none.
        fits: Whether a file looks like it; never raises.
        read: Its conversations; raises `InvalidInputError` where the file is wrong.
    """

    name: str
    looks_for: str
    fits: Callable[[Document], bool]
    read: Callable[[Document], list[Transcript]]
