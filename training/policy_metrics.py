"""How good alarms are: escalations caught beforehand, lead time, false alarms, recovery."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deesc_model.labels import Level
from deesc_model.monitor import ConversationState
from deesc_model.policy import Action, EscalationPolicy, PolicyFollower
from deesc_model.scoring import BoolArray
from training.courses import Course

KEYWORDS = re.compile(
    r"\b(ridiculous|unacceptable|disgrace\w*|joke|useless|incompetent|liars?|lied|lying|furious"
    r"|angry|sick of|fed up|worst|scam|fraud|lawyer|sue|court|complaint|manager|supervisor|cancel"
    r"|refund|third time|still waiting|never again|wtf|bloody|damn|idiots?|stupid)\b",
    re.IGNORECASE,
)
"""What a team without a model would look for; written down before anything was measured."""

Rule = Callable[[Course], BoolArray]
"""In which turns of a conversation an alarm is on, bool (turns,); it sees no later turn."""


@dataclass(frozen=True, slots=True)
class AlarmReport:
    """Figures of one rule on conversations of two or more turns.

    Attributes:
        building: Conversations that escalate after their first turn: those that can be foreseen.
            Without any the next four are nan.
        recall: Share 0–1 of them with an alarm before the escalation.
        at_the_latest: Share 0–1 of them with an alarm before or in the turn that escalates.
        lead_turns: Median of turns from the first alarm to the escalation, over those of
            `recall`; nan if none.
        lead_turns_all: The same over all that build up, 0 where no alarm came before.
        false_alarms: Conversations with an alarm that never escalate, per 100 conversations.
        false_alarms_quiet: The same per 100 conversations that never escalate; nan if all do.
        recovery: Of the conversations that escalate with an alarm and end calm, the share 0–1
            whose alarm is off at the end; nan if there are none.
    """

    building: int
    recall: float
    at_the_latest: float
    lead_turns: float
    lead_turns_all: float
    false_alarms: float
    false_alarms_quiet: float
    recovery: float


def measure_alarms(courses: Sequence[Course], rule: Rule) -> AlarmReport:
    """Measure one rule; conversations that escalate in their first turn count for recovery only.

    Args:
        courses: One or more.
        rule: When an alarm is on.
    """
    leads, latest, quiet_alarms, recovered = [], [], [], []
    for course in courses:
        alarms, start = rule(course), course.start
        if start is None:
            quiet_alarms.append(alarms.any())
            continue
        if start > 0:
            before = np.flatnonzero(alarms[:start])
            leads.append(start - int(before[0]) if len(before) else 0)
            latest.append(alarms[: start + 1].any())
        if alarms.any() and course.ends_calm:
            recovered.append(not alarms[-1])
    lead = np.array(leads)
    return AlarmReport(
        building=len(lead),
        recall=_of(np.mean, lead > 0),
        at_the_latest=_of(np.mean, latest),
        lead_turns=_of(np.median, lead[lead > 0]),
        lead_turns_all=_of(np.median, lead),
        false_alarms=100 * float(np.sum(quiet_alarms)) / len(courses),
        false_alarms_quiet=100 * _of(np.mean, quiet_alarms),
        recovery=_of(np.mean, recovered),
    )


def _of(figure: Callable[[Any], Any], values: Any) -> float:
    """Return a figure of values, nan of none."""
    return float(figure(values)) if len(values) else float("nan")


def policy_alarms(policy: EscalationPolicy, states: Sequence[ConversationState]) -> BoolArray:
    """Return in which turns the policy asks for more than watching: its alarms."""
    follower = PolicyFollower(policy)
    return np.array([follower.update(state).action >= Action.DE_ESCALATE for state in states])


def last_level_alarms(level: Level) -> Rule:
    """Return the naive rule that looks at the customer's latest level only."""
    return lambda course: _while_customer_silent(
        course, [prediction.level >= level for prediction in course.predictions]
    )


def keyword_alarms(course: Course) -> BoolArray:
    """The naive rule that looks for words in the customer's latest turn."""
    return _while_customer_silent(
        course, [bool(KEYWORDS.search(turn.text)) for turn in course.turns]
    )


def _while_customer_silent(course: Course, found: Sequence[bool]) -> BoolArray:
    """Keep what was found in a customer's turn until the customer speaks again."""
    alarms, on = [], False
    for turn, hit in zip(course.turns, found, strict=True):
        on = hit if turn.speaker == "customer" else on
        alarms.append(on)
    return np.array(alarms)
