"""The only rule from a conversation to model input text; training imports it too.

An utterance becomes ``"customer: <text>"``. The turns before it become one string of the
same form, oldest first. The encoder joins both as a sentence pair and lets the context
give way where room is short, so this module says *what* is read, not how much of it fits.
"""

from collections.abc import Sequence

from deesc_model.types import Turn


def speaker_prefix(turn: Turn) -> str:
    """Return what a rendered turn begins with; each window of a long text begins with it."""
    return f"{turn.speaker}:"


def render_turn(turn: Turn) -> str:
    """Return one turn as text with its speaker in front."""
    return f"{speaker_prefix(turn)} {turn.text}"


def newest_turns(context: Sequence[Turn], context_turns: int) -> Sequence[Turn]:
    """Return the last `context_turns` of the preceding turns, 0 or more."""
    return context[max(len(context) - context_turns, 0) :]


def turns_before(turns: Sequence[Turn], index: int, reach: int) -> Sequence[Turn]:
    """Return the last `reach` turns of a conversation before one of them, the context of that."""
    return turns[max(index - reach, 0) : index]


def render_context(context: Sequence[Turn], context_turns: int) -> str:
    """Return the newest `context_turns` of the preceding turns as one string.

    Args:
        context: The turns before the utterance, oldest first.
        context_turns: How many of them to keep at most, 0 or more.
    """
    return " ".join(render_turn(turn) for turn in newest_turns(context, context_turns))
