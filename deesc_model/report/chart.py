"""The frustration of the customer over the turns, as an inline SVG picture."""

from collections.abc import Sequence
from typing import Final

from deesc_model.labels import Level
from deesc_model.report.labelled import LabelledConversation, LabelledTurn

WIDTH: Final = 720
HEIGHT: Final = 250
LEFT, RIGHT, TOP, BOTTOM = 122, 16, 26, 44
MOST_NUMBERS: Final = 20
"""Turn numbers below the axis at most; more are thinned out."""


def frustration_chart(labelled: LabelledConversation, title_id: str) -> str:
    """Return the picture; the table of turns beside it says the same in words.

    Args:
        labelled: The conversation; the customer says something in it.
        title_id: An id that no other element of the page has.
    """
    count = len(labelled.turns)
    step = (WIDTH - LEFT - RIGHT) / max(count - 1, 1)

    def x(number: int) -> float:
        return LEFT + (number - 1) * step if count > 1 else (LEFT + WIDTH - RIGHT) / 2

    customer = labelled.said_by("customer")
    curve = " ".join(f"{x(t.number):.1f},{_y(t.prediction.frustration):.1f}" for t in customer)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{title_id}">',
        f'<title id="{title_id}">{_in_words(customer)}</title>',
        *(_grid_line(level) for level in Level),
        *(_number(n, x(n)) for n in range(1, count + 1, -(-count // MOST_NUMBERS))),
        f'<polyline class="curve" points="{curve}"/>',
        *(_customer_marks(turn, x(turn.number)) for turn in customer),
        *(
            f'<rect class="wording" x="{x(t.number) - 5:.1f}" y="{_y(0) - 5:.1f}" width="10"'
            f' height="10" transform="rotate(45 {x(t.number):.1f} {_y(0):.1f})"/>'
            for t in labelled.said_by("agent")
            if t.prediction.triggers
        ),
        "</svg>",
    ]
    return "\n".join(parts)


def _y(frustration: float) -> float:
    return HEIGHT - BOTTOM - frustration / 4 * (HEIGHT - TOP - BOTTOM)


def _grid_line(level: Level) -> str:
    y = _y(level)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 14}" y="{y + 4:.1f}" text-anchor="end">{int(level)} {level.label}</text>'
    )


def _number(number: int, x: float) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{number}</text>'


def _customer_marks(turn: LabelledTurn, x: float) -> str:
    """Draw a turn's point; a bar below it for triggers, a triangle above it for signals."""
    level, y = turn.prediction.level, _y(turn.prediction.frustration)
    marks = f'<circle class="point level-{int(level)}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    if turn.prediction.triggers:
        base = HEIGHT - BOTTOM + 8
        marks += f'<rect class="trigger" x="{x - 4:.1f}" y="{base}" width="8" height="8"/>'
    if turn.prediction.signals:
        top = y - 22
        marks += f'<path class="signal" d="M{x - 7:.1f} {top:.1f} h14 l-7 12 z"/>'
    return marks


def _in_words(customer: Sequence[LabelledTurn]) -> str:
    levels = (f"turn {t.number} {t.prediction.level.label}" for t in customer)
    return f"Frustration of the customer by turn: {', '.join(levels)}."
