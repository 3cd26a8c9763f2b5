"""The customer's words behind the labels of a turn, marked in its text and listed."""

from typing import Final

from deesc_model.evidence import Evidence, Word
from deesc_model.report.followed import FollowedTurn
from deesc_model.report.markup import escaped, marked

SHOWN: Final = 0.1
"""Least effect that is shown, of a probability or in levels; smaller ones tell a reader nothing."""

STRONG: Final = 0.25
"""Effect from which a word is marked strongly."""

MOST_LISTED: Final = 5
"""Words that are listed for a label at most; all are marked."""


def marked_text(turn: FollowedTurn) -> str:
    """Return the text of a turn as HTML with the words marked; without marks it is the text."""
    strongest: dict[tuple[int, int], float] = {}
    for evidence in turn.evidence:
        for word in _shown(evidence):
            span = word.start, word.end
            strongest[span] = max(word.effect, strongest.get(span, 0.0))
    strong = ' class="strong"'
    return marked(
        turn.spoken.turn.text,
        {span: strong if effect >= STRONG else "" for span, effect in strongest.items()},
    )


def listed_words(turn: FollowedTurn, name: str) -> str:
    """Return the strongest words for a label as HTML, or nothing if none was found."""
    words = [word for item in turn.evidence if item.label == name for word in _shown(item)]
    listed = ", ".join(
        f"<q>{escaped(word.text)}</q> {word.effect:+.2f}" for word in words[:MOST_LISTED]
    )
    return f' <span class="quiet">{listed}</span>' if listed else ""


def _shown(evidence: Evidence) -> list[Word]:
    return [word for word in evidence.top(len(evidence.words)) if word.effect >= SHOWN]
