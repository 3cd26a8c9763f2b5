"""From request messages to checked utterances; what is wrong is named by field."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from deesc_model._proto import escalation_pb2 as pb
from deesc_model.errors import InvalidInputError
from deesc_model.messages import SPEAKER_NAMES
from deesc_model.rendering import newest_turns, turns_before
from deesc_model.types import Turn
from serve.config import Settings
from serve.errors import FieldError

READ_AT_ONCE: Final = 16
"""Items of a large call that are read while no other call is looked at."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance to label and the turns before it, oldest first."""

    turn: Turn
    context: Sequence[Turn] = ()


def read_turn(message: pb.Turn, field: str, limits: Settings) -> Turn:
    """Check one turn.

    Raises:
        FieldError: The speaker is unknown, or the text is empty, too long or not proper text.
    """
    speaker = SPEAKER_NAMES.get(message.speaker)
    if speaker is None:
        raise FieldError(
            f"{field}.speaker",
            f"{message.speaker} is no speaker; send SPEAKER_CUSTOMER or SPEAKER_AGENT",
        )
    return checked_turn(speaker, message.text, f"{field}.text", limits)


def checked_turn(speaker: str, text: str, field: str, limits: Settings) -> Turn:
    """Make a turn of a text that came in `field`.

    Raises:
        FieldError: The text is empty, too long or not proper text.
    """
    if len(text) > limits.max_characters:
        raise FieldError(
            field,
            f"text has {len(text):,} characters, this server's limit is"
            f" {limits.max_characters:,}; split it into turns",
        )
    try:
        return Turn(speaker, text)
    except InvalidInputError as error:
        raise FieldError(field, error) from None


def read_utterance(
    message: pb.PredictRequest, reach: int, limits: Settings, scope: str = ""
) -> Utterance:
    """Check an utterance and its context, of which the newest `reach` turns are kept.

    Args:
        message: The request.
        reach: How many turns before an utterance the model reads.
        limits: This server's.
        scope: The path of the message.

    Raises:
        FieldError: A turn is wrong, the utterance is missing, or there are too many turns.
    """
    if not message.HasField("utterance"):
        raise FieldError(f"{scope}utterance", "is missing; send the turn to label")
    check_count(len(message.context), limits.max_turns, f"{scope}context", "turns")
    context = [
        read_turn(turn, f"{scope}context[{index}]", limits)
        for index, turn in enumerate(message.context)
    ]
    turn = read_turn(message.utterance, f"{scope}utterance", limits)
    return Utterance(turn, newest_turns(context, reach))


def in_context(turns: Sequence[Turn], reach: int) -> list[Utterance]:
    """Return every turn with the `reach` turns before it."""
    return [Utterance(turn, turns_before(turns, index, reach)) for index, turn in enumerate(turns)]


def check_count(count: int, limit: int, field: str, things: str) -> None:
    """Refuse too long a list.

    Raises:
        FieldError: `count` is above `limit`.
    """
    if count > limit:
        raise FieldError(field, f"{count:,} {things}, this server's limit is {limit:,}; send fewer")


async def let_others_in(index: int) -> None:
    """Let other calls be looked at before every few items: to read one may take a while."""
    if index and not index % READ_AT_ONCE:
        await asyncio.sleep(0)
