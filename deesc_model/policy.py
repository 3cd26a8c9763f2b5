"""`EscalationPolicy`: what to do about a conversation, apart from what is believed of it."""

import tomllib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from deesc_model.errors import SettingsError
from deesc_model.labels import SIGNALS, Level
from deesc_model.monitor import ConversationState

POLICY_FILE: Final = Path(__file__).with_name("policy.toml")
"""The policy that comes with the package."""


class Action(IntEnum):
    """What to do, in order of urgency."""

    NONE = 0
    WATCH = 1
    DE_ESCALATE = 2
    HAND_OVER = 3

    @property
    def label(self) -> str:
        """The action in words, for example ``"hand over"``."""
        return ("none", "watch", "de-escalate", "hand over")[self]


@dataclass(frozen=True, slots=True)
class EscalationPolicy:
    """When to act: contents of a TOML file of flat ``key = value`` lines.

    Attributes:
        watch_at: Risk 0–1 from which somebody should keep an eye on the conversation.
        de_escalate_at: Risk from which the agent should change course.
        hand_over_at: Risk from which somebody else should take over.
        de_escalate_level: Level of the customer's latest turn, 0–4, from which the agent should
            change course, whatever the risk is.
        hysteresis: How far the risk must fall below its threshold before an action ends, 0–1.
        needed: Of the latest `window` turns, how many must reach a threshold.
        window: See `needed`.
        cool_down: Turns after an alert in which no other is given, unless more urgent.
        capacity: Conversations that the team can take over at a time, see `most_urgent`.
        hand_over_on: Signals that call for a hand-over, whatever the risk is, until resolved.
    """

    watch_at: float
    de_escalate_at: float
    hand_over_at: float
    de_escalate_level: int
    hysteresis: float
    needed: int
    window: int
    cool_down: int
    capacity: int
    hand_over_on: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check what types cannot say."""
        thresholds = ("watch_at", "de_escalate_at", "hand_over_at", "hysteresis")
        for key in thresholds:
            if not 0 <= getattr(self, key) <= 1:
                raise SettingsError(f"{key} must be from 0 to 1, not {getattr(self, key)!r}")
        if not self.watch_at <= self.de_escalate_at <= self.hand_over_at:
            raise SettingsError("watch_at, de_escalate_at and hand_over_at must not fall")
        if self.hysteresis >= self.watch_at > 0:
            raise SettingsError(
                f"hysteresis {self.hysteresis} must be less than watch_at {self.watch_at}: no risk"
                " is so far below it, and the action would never end"
            )
        if not 1 <= self.needed <= self.window <= 100:
            raise SettingsError(
                f"needed must be from 1 to window and window at most 100,"
                f" not {self.needed} and {self.window}"
            )
        if self.de_escalate_level not in list(Level):
            raise SettingsError(f"de_escalate_level must be 0 to 4, not {self.de_escalate_level}")
        for key in ("cool_down", "capacity"):
            if getattr(self, key) < 0:
                raise SettingsError(f"{key} must be 0 or more, not {getattr(self, key)}")
        for name in self.hand_over_on:
            if name not in SIGNALS:
                raise SettingsError(
                    f"hand_over_on names {name!r}, which is none of {', '.join(SIGNALS)}"
                )

    @classmethod
    def read(cls, path: str | PathLike[str] = POLICY_FILE) -> Self:
        """Read a policy; every key must be there.

        Raises:
            SettingsError: The file cannot be read, or a key is unknown, missing or wrong.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from None
        return cls.parse(raw, str(path))

    @classmethod
    def parse(cls, raw: bytes, name: str) -> Self:
        """Read the bytes of a policy file; every key must be there.

        Args:
            raw: The bytes.
            name: What errors call it.

        Raises:
            SettingsError: It is not TOML, or a key is unknown, missing or wrong.
        """
        try:
            data = tomllib.loads(raw.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{name} is not TOML: {error}") from None
        try:
            return cls(**_checked(data))
        except SettingsError as error:
            raise SettingsError(f"{name}: {error}") from None

    def to_toml(self) -> str:
        """Return the policy as the content of a file."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            shown = [*value] if isinstance(value, tuple) else value
            lines.append(f"{field.name} = {shown!r}".replace("'", '"'))
        return "\n".join(lines) + "\n"

    def thresholds(self) -> dict[Action, float]:
        """Return the risk from which each action is due, least urgent first."""
        return {
            Action.WATCH: self.watch_at,
            Action.DE_ESCALATE: self.de_escalate_at,
            Action.HAND_OVER: self.hand_over_at,
        }


@cache
def shipped_policy() -> EscalationPolicy:
    """Return the policy that comes with the package."""
    return EscalationPolicy.read()


_KINDS: Final[Mapping[str, Any]] = {
    field.name: field.type if field.type in (float, int) else tuple
    for field in fields(EscalationPolicy)
}


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    known = ", ".join(_KINDS)
    for key in data:
        if key not in _KINDS:
            raise SettingsError(f"unknown key {key!r}; known are {known}")
    checked: dict[str, Any] = {}
    for key, kind in _KINDS.items():
        if key not in data:
            raise SettingsError(f"the key {key!r} is missing")
        value = data[key]
        if kind is tuple:
            good = isinstance(value, list) and all(isinstance(name, str) for name in value)
            wanted = "a list of signals"
        else:
            good = type(value) is kind or (kind is float and type(value) is int)
            wanted = "a number" if kind is float else "a whole number"
        if not good:
            raise SettingsError(f"{key} must be {wanted}, not {value!r:.40}")
        checked[key] = kind(value)
    return checked


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a turn.

    Attributes:
        action: What is due now.
        alert: Whether to tell somebody now: the action rose, and no alert as urgent was given
            within the cool-down; or it rose within it, and is still due after it.
        reason: Why, in words.
    """

    action: Action
    alert: bool
    reason: str


class PolicyFollower:
    """Applies a policy to one conversation, state by state."""

    def __init__(self, policy: EscalationPolicy) -> None:
        self._policy = policy
        self._risks: deque[float] = deque(maxlen=policy.window)
        self._action = Action.NONE
        self._untold = False
        self._alerts: dict[Action, int] = {}

    def update(self, state: ConversationState) -> Decision:
        """Take the next state and return what to do."""
        self._risks.append(state.risk)
        due, reason = self._due(state)
        # What rises in the cool-down, and stays, is told after it.
        self._untold = due > self._action or (self._untold and due == self._action)
        self._action = due
        cooling = any(
            state.turn - given <= self._policy.cool_down
            for action, given in self._alerts.items()
            if action >= due
        )
        alert = self._untold and due > Action.NONE and not cooling
        if alert:
            self._untold = False
            self._alerts[due] = state.turn
        return Decision(due, alert, reason)

    def _due(self, state: ConversationState) -> tuple[Action, str]:
        """Return the most urgent action that is due, and why."""
        called = [name for name in self._policy.hand_over_on if name in state.open_signals]
        if called:
            return Action.HAND_OVER, f"the customer gave the signal {called[0]}"
        heated = state.level >= self._policy.de_escalate_level
        for action, threshold in reversed(self._policy.thresholds().items()):
            reached = sum(risk >= threshold for risk in self._risks)
            if reached >= self._policy.needed:
                often = (
                    "" if state.risk >= threshold else f", reached in {reached} of the last turns"
                )
                return action, f"risk {state.risk:.2f}, {action.label} from {threshold:.2f}{often}"
            if self._action >= action and state.risk >= threshold - self._policy.hysteresis:
                return action, f"risk {state.risk:.2f}, not yet well below {threshold:.2f}"
            if action is Action.DE_ESCALATE and heated:
                return action, f"the customer is {state.level.label}"
        return Action.NONE, f"risk {state.risk:.2f}"


def most_urgent(
    latest: Mapping[str, tuple[ConversationState, Decision]], capacity: int
) -> list[str]:
    """Return which conversations a team of limited capacity takes over first.

    Args:
        latest: State and decision by conversation id.
        capacity: How many at most, 0 or more.

    Returns:
        Ids of conversations that are to be handed over, those with the highest risk first.
    """
    due = [name for name, (_, now) in latest.items() if now.action is Action.HAND_OVER]
    return sorted(due, key=lambda name: -latest[name][0].risk)[:capacity]
