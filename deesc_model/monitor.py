"""`ConversationMonitor`: the course of one conversation, turn by turn."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from deesc_model.errors import InvalidInputError
from deesc_model.labels import Level
from deesc_model.risk import KEEP, RiskFeatures, RiskModel, shipped_risk
from deesc_model.types import Prediction, Turn

TREND_TURNS: Final = 4
"""The customer's latest turns that the trend is fitted to."""

RESOLVED_AFTER: Final = 2
"""Calm customer turns in a row after which a trigger or signal that they lack is resolved."""


@dataclass(frozen=True, slots=True)
class LabelCourse:
    """One trigger or signal of the customer's.

    Attributes:
        name: The label.
        first: Turn that had it first, from 0.
        latest: Turn that had it last.
        resolved: Whether the customer has since been calm for `RESOLVED_AFTER` turns without a
            word of it. A guess: silence about a problem is not its solution.
    """

    name: str
    first: int
    latest: int
    resolved: bool


@dataclass(frozen=True, slots=True)
class ConversationState:
    """What is known of a conversation after one of its turns.

    Attributes:
        turn: Position of that turn, from 0.
        speaker: Who spoke it.
        level: Level of the customer's latest turn; calm until the customer spoke.
        frustration: Running average of the customer's frustration, 0.0 to 4.0.
        trend: Slope of the customer's frustration, levels a turn, over the latest
            `TREND_TURNS` customer turns; above 0 it heats up.
        peak: Highest frustration of a customer turn so far, 0.0 to 4.0.
        peak_turn: The turn of the peak; None until the customer spoke.
        recovery: Share 0–1 of the peak that has gone in the latest customer turn; 0.0 as
            long as no turn was above level 1.
        triggers: What the customer mentioned, in order of the first mention.
        provocations: Triggers that the wording of the agent's turns since the customer last
            spoke risks.
        signals: Escalation signals so far, in order of the first time.
        escalated: First turn whose level was 3 or more; None if none was. Seen, not predicted.
        declared: First turn in which the customer said so: a signal; None if none did.
        risk: Calibrated probability 0–1 that one of the next turns has level 3 or more, abuse,
            or a call for somebody with authority.
    """

    turn: int
    speaker: str
    level: Level
    frustration: float
    trend: float
    peak: float
    peak_turn: int | None
    recovery: float
    triggers: tuple[LabelCourse, ...]
    provocations: tuple[str, ...]
    signals: tuple[LabelCourse, ...]
    escalated: int | None
    declared: int | None
    risk: float

    @property
    def open_triggers(self) -> tuple[str, ...]:
        """The triggers that are not resolved."""
        return tuple(course.name for course in self.triggers if not course.resolved)

    @property
    def open_signals(self) -> tuple[str, ...]:
        """The signals that are not resolved."""
        return tuple(course.name for course in self.signals if not course.resolved)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, numbers rounded to four decimals."""
        rounded = {name: round(getattr(self, name), 4) for name in _DECIMALS}
        return asdict(self) | {"level": int(self.level)} | rounded


_DECIMALS = ("frustration", "trend", "peak", "recovery", "risk")


class _Courses:
    """Where labels were given, and how many calm customer turns went by without them.

    From `RESOLVED_AFTER` on all count: what is resolved is so until it is given again.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, int]] = {}

    def update(self, turn: int, labels: Iterable[str], calm: bool) -> None:
        for name, (first, latest, calm_turns) in self._seen.items():
            resolved = calm_turns >= RESOLVED_AFTER
            self._seen[name] = (first, latest, calm_turns + 1 if calm or resolved else 0)
        for name in labels:
            self._seen[name] = (self._seen[name][0] if name in self._seen else turn, turn, 0)

    def courses(self) -> tuple[LabelCourse, ...]:
        return tuple(
            LabelCourse(name, first, latest, calm_turns >= RESOLVED_AFTER)
            for name, (first, latest, calm_turns) in self._seen.items()
        )


class ConversationMonitor:
    """Follows one conversation: feed it every turn in order, read a `ConversationState`.

    It takes microseconds a turn and remembers only running numbers. One monitor is for one
    conversation and is not shared by threads.
    """

    def __init__(self, risk: RiskModel | None = None) -> None:
        """Start before the first turn; without `risk` the shipped weights are used."""
        self._risk = risk or shipped_risk()
        self._features = RiskFeatures()
        self._turn = -1
        self._level = Level.CALM
        self._recent: list[float] = []
        self._frustration = 0.0
        self._peak = 0.0
        self._peak_turn: int | None = None
        self._triggers = _Courses()
        self._signals = _Courses()
        self._provocations: tuple[str, ...] = ()
        self._escalated: int | None = None
        self._declared: int | None = None

    def update(self, turn: Turn, prediction: Prediction) -> ConversationState:
        """Take the next turn and what the classifier said of it; return the state after it."""
        self._turn += 1
        if turn.speaker == "customer":
            self._hear_customer(prediction)
        else:
            new = (name for name in prediction.triggers if name not in self._provocations)
            self._provocations += tuple(new)
        latest = self._recent[-1] if self._recent else 0.0
        return ConversationState(
            turn=self._turn,
            speaker=turn.speaker,
            level=self._level,
            frustration=self._frustration,
            trend=_slope(self._recent),
            peak=self._peak,
            peak_turn=self._peak_turn,
            recovery=1 - latest / self._peak if self._peak > Level.CONCERNED else 0.0,
            triggers=self._triggers.courses(),
            provocations=self._provocations,
            signals=self._signals.courses(),
            escalated=self._escalated,
            declared=self._declared,
            risk=self._risk.probability(self._features.update(turn.speaker, prediction)),
        )

    def _hear_customer(self, prediction: Prediction) -> None:
        now, frustration = self._turn, prediction.frustration
        self._level = prediction.level
        keep = KEEP if self._recent else 0.0
        self._frustration = keep * self._frustration + (1 - keep) * frustration
        self._recent = [*self._recent[1 - TREND_TURNS :], frustration]
        if self._peak_turn is None or frustration > self._peak:
            self._peak, self._peak_turn = frustration, now
        calm = prediction.level == Level.CALM
        self._triggers.update(now, prediction.triggers, calm)
        self._signals.update(now, prediction.signals, calm)
        self._provocations = ()
        if self._escalated is None and prediction.level >= Level.ANGRY:
            self._escalated = now
        if self._declared is None and prediction.signals:
            self._declared = now


def follow_conversation(
    turns: Sequence[Turn], predictions: Sequence[Prediction], risk: RiskModel | None = None
) -> list[ConversationState]:
    """Return the state after each turn of a whole conversation.

    Raises:
        InvalidInputError: There are not as many predictions as turns.
    """
    if len(turns) != len(predictions):
        raise InvalidInputError(
            f"{len(turns)} turns but {len(predictions)} predictions; give one each"
        )
    monitor = ConversationMonitor(risk)
    return [monitor.update(*pair) for pair in zip(turns, predictions, strict=True)]


def _slope(values: Sequence[float]) -> float:
    """Return the least-squares slope over positions 0, 1, 2 …; 0.0 for fewer than two values."""
    count = len(values)
    if count < 2:
        return 0.0
    middle = (count - 1) / 2
    spread = count * (count * count - 1) / 12
    return sum((k - middle) * value for k, value in enumerate(values)) / spread
