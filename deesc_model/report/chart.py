"""Frustration, risk and action over the turns, as one inline SVG picture."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from deesc_model.labels import Level
from deesc_model.report.followed import FollowedConversation, FollowedTurn

WIDTH: Final = 760
LEFT, RIGHT = 186, 18
LANES: Final[Mapping[str, float]] = {"signal": 192, "trigger": 216, "wording": 240}
ACTION: Final = 432
"""Foot of the bars of the action."""
HEIGHT: Final = 470
MOST_NUMBERS: Final = 20
"""Turn numbers below the axis at most; more are thinned out."""
APART: Final = 21
"""Between two names of thresholds, so that they do not cover each other."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a value stands: from `low` at the foot to `high` at the top of a panel."""

    top: float
    foot: float
    high: float

    def y(self, value: float) -> float:
        return self.foot - value / self.high * (self.foot - self.top)


FRUSTRATION: Final = _Scale(top=26, foot=166, high=4)
RISK: Final = _Scale(top=268, foot=388, high=1)


def course_chart(followed: FollowedConversation, title_id: str) -> str:
    """Return the picture; the turns below it on the page say the same in words.

    Args:
        followed: The conversation.
        title_id: An id that no other element of the page has.
    """
    count = len(followed.turns)
    step = (WIDTH - LEFT - RIGHT) / max(count, 1)

    def x(turn: FollowedTurn) -> float:
        return LEFT + (turn.number - 0.5) * step

    radius = min(6.0, max(step * 0.4, 1.5))
    customer = followed.said_by("customer")
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{title_id}">',
        f'<title id="{title_id}">{_in_words(followed)}</title>',
        *(_line(FRUSTRATION.y(level), f"{int(level)} {level.label}") for level in Level),
        _curve(customer, x, lambda turn: FRUSTRATION.y(turn.step.prediction.frustration), "curve"),
        *(_point(turn, x(turn), radius) for turn in customer),
        *(_name(y + 4, name) for name, y in _lane_names()),
        *(_lane_marks(turn, x(turn), radius) for turn in followed.turns),
        *_thresholds(followed),
        _curve(followed.turns, x, lambda turn: RISK.y(turn.step.state.risk), "risk"),
        *(_action(turn, x(turn), step) for turn in followed.turns),
        *(
            f'<text x="{x(turn):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{turn.number}</text>'
            for turn in followed.turns[:: -(-count // MOST_NUMBERS)]
        ),
        _name(HEIGHT - 12, "turn"),
        "</svg>",
    ]
    return "\n".join(parts)


def _line(y: float, name: str, kind: str = "grid", name_y: float | None = None) -> str:
    return (
        f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        + _name((y if name_y is None else name_y) + 4, name)
    )


def _name(y: float, name: str) -> str:
    return f'<text x="{LEFT - 12}" y="{y:.1f}" text-anchor="end">{name}</text>'


def _curve(
    turns: Iterable[FollowedTurn],
    x: Callable[[FollowedTurn], float],
    y: Callable[[FollowedTurn], float],
    kind: str,
) -> str:
    points = " ".join(f"{x(turn):.1f},{y(turn):.1f}" for turn in turns)
    return f'<polyline class="{kind}" points="{points}"/>'


def _point(turn: FollowedTurn, x: float, radius: float) -> str:
    level, y = turn.step.prediction.level, FRUSTRATION.y(turn.step.prediction.frustration)
    return f'<circle class="point level-{int(level)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'


def _lane_names() -> Iterable[tuple[str, float]]:
    names = {"signal": "signals", "trigger": "triggers", "wording": "agent’s wording"}
    return ((names[kind], y) for kind, y in LANES.items())


def _lane_marks(turn: FollowedTurn, x: float, radius: float) -> str:
    """Draw a triangle for signals, a square for triggers, a diamond for remarks on an agent."""
    if turn.step.remarks:
        y, reach = LANES["wording"], radius + 1
        return (
            f'<path class="wording" d="M{x:.1f} {y - reach:.1f} l{reach:.1f} {reach:.1f}'
            f' l{-reach:.1f} {reach:.1f} l{-reach:.1f} {-reach:.1f} z"/>'
        )
    marks = ""
    if turn.spoken.turn.speaker == "customer" and turn.step.prediction.signals:
        y = LANES["signal"] - radius
        marks += (
            f'<path class="signal" d="M{x - radius:.1f} {y:.1f} h{2 * radius:.1f}'
            f' l{-radius:.1f} {2 * radius:.1f} z"/>'
        )
    if turn.spoken.turn.speaker == "customer" and turn.step.prediction.triggers:
        x, y, side = x - 0.8 * radius, LANES["trigger"] - 0.8 * radius, 1.6 * radius
        marks += (
            f'<rect class="trigger" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}"'
            f' height="{side:.1f}"/>'
        )
    return marks


def _thresholds(followed: FollowedConversation) -> list[str]:
    """Draw the foot of the risk and where each action begins; names give way downwards."""
    lines, name_y = [], RISK.top - 10 - APART
    for action, threshold in reversed(followed.policy.thresholds().items()):
        y = RISK.y(threshold)
        name_y = max(y, name_y + APART)
        named = f"{action.label} {threshold:.2f}"
        lines.append(_line(y, named, f"threshold action-{int(action)}", name_y))
    return [*lines, _line(RISK.foot, "risk 0", name_y=max(RISK.foot, name_y + APART))]


def _action(turn: FollowedTurn, x: float, step: float) -> str:
    """Draw a bar that is the higher, the more urgent the action; an alert has “!” above it."""
    decision, width = turn.step.decision, max(step - 2, 0.5)
    height = 2 + 6 * int(decision.action)
    bar = (
        f'<rect class="action-{int(decision.action)}" x="{x - width / 2:.1f}"'
        f' y="{ACTION - height}" width="{width:.1f}" height="{height}"/>'
    )
    name = _name(ACTION, "action") if turn.number == 1 else ""
    if not decision.alert:
        return name + bar
    top = ACTION - height - 3
    return f'{name}{bar}<text class="alert" x="{x:.1f}" y="{top}" text-anchor="middle">!</text>'


def _in_words(followed: FollowedConversation) -> str:
    """Say what the picture shows, short enough to be listened to."""
    levels = [
        f"turn {t.number} {t.step.prediction.level.label}" for t in followed.said_by("customer")
    ]
    risks = [turn.step.state.risk for turn in followed.turns]
    alerts = [
        f"turn {turn.number} {turn.step.decision.action.label}"
        for turn in followed.turns
        if turn.step.decision.alert
    ]
    return (
        f"Frustration of the customer: {', '.join(levels) or 'the customer says nothing'}."
        f" Risk from {min(risks):.2f} to {max(risks):.2f}."
        f" Alerts: {', '.join(alerts) or 'none'}."
    )
