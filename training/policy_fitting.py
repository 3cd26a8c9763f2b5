"""Escalation risk and policy, fitted to labelled conversations."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from deesc_model.errors import DeescError
from deesc_model.monitor import ConversationState, follow_conversation
from deesc_model.policy import EscalationPolicy
from deesc_model.risk import FEATURES, RiskFeatures, RiskModel
from deesc_model.scoring import BoolArray, FloatArray
from training.courses import Course
from training.policy_metrics import AlarmReport, measure_alarms, policy_alarms

HORIZON = 6
"""Turns ahead that the risk speaks of: three of the customer's, where they take turns."""

THRESHOLDS = np.round(np.arange(0.11, 1.0, 0.01), 2)
"""Of the risk, that are tried."""

WINDOWS = ((1, 1), (2, 2), (2, 3))
"""What is tried for `needed` of `window` turns."""

WATCH_BUDGET, HAND_OVER_BUDGET = 3.0, 0.2
"""False alarms allowed for watching and handing over, as multiples of the budget."""


def risk_data(courses: Sequence[Course]) -> tuple[FloatArray, BoolArray]:
    """Return features (n, len(FEATURES)) and whether one of the next turns escalates, bool (n,).

    The last turn of a conversation is left out, because nothing follows it.
    """
    features, targets = [], []
    for course in courses:
        running = RiskFeatures()
        pairs = zip(course.turns[:-1], course.predictions[:-1], strict=True)
        features += [running.update(turn.speaker, prediction) for turn, prediction in pairs]
        for turn in range(len(course.turns) - 1):
            targets.append(course.escalated[turn + 1 : turn + 1 + HORIZON].any())
    return np.array(features), np.array(targets)


def fit_risk(
    train: Sequence[Course],
    validation: Sequence[Course],
    model_version: str,
    left_out: Sequence[str] = (),
) -> RiskModel:
    """Fit the weights on train, and slope and intercept of their log-odds on validation.

    Args:
        train: What the weights are fitted to.
        validation: What they are calibrated on.
        model_version: The classifier's.
        left_out: Features that get no weight.

    Raises:
        DeescError: One of the splits has nothing that escalates, or nothing that stays calm.
    """
    used = np.array([name not in left_out for name in FEATURES])
    for split, members in (("train", train), ("validation", validation)):
        if len(np.unique(risk_data(members)[1])) < 2:
            raise DeescError(
                f"the {split} split needs conversations of several turns that escalate, and such"
                " that do not"
            )
    features, targets = risk_data(train)
    weights = LogisticRegression(C=1.0, max_iter=2000).fit(features * used, targets)
    features, targets = risk_data(validation)
    features = features * used
    platt = LogisticRegression(C=100.0).fit(weights.decision_function(features)[:, None], targets)
    slope = float(platt.coef_[0, 0])
    if slope <= 0:
        raise DeescError(
            "what raises the risk in the train split lowers it in the validation split: more"
            " conversations that escalate are needed to fit it"
        )
    return RiskModel(
        horizon=HORIZON,
        intercept=slope * float(weights.intercept_[0]) + float(platt.intercept_[0]),
        weights=dict(zip(FEATURES, (slope * weights.coef_[0] * used).tolist(), strict=True)),
        fitted_to=model_version,
    )


def fit_policy(
    courses: Sequence[Course], risk: RiskModel, budget: float, team: EscalationPolicy
) -> EscalationPolicy:
    """Return the policy that foresees most escalations within the budget.

    Args:
        courses: Validation conversations.
        risk: The risk that the policy reads.
        budget: False alarms allowed in 100 conversations.
        team: Has what a team decides and is not fitted: all but the thresholds of the risk,
            `needed` and `window`.

    Raises:
        DeescError: No conversation escalates after its first turn, or no policy keeps to the
            budget.
    """
    if not any(course.start for course in courses):
        raise DeescError("no conversation of the validation split escalates after its first turn")
    states = follow_courses(courses, risk)
    thresholds = THRESHOLDS[team.hysteresis < THRESHOLDS]
    if not len(thresholds):
        raise DeescError(f"hysteresis {team.hysteresis} leaves no threshold above it")
    fitted = None
    best, fewest = -1.0, np.inf
    for needed, window in WINDOWS:
        shape = replace(team, needed=needed, window=window, hand_over_at=1.0)
        for threshold in thresholds:
            tried = replace(shape, watch_at=0.0, de_escalate_at=float(threshold))
            found = measure_policy(courses, states, tried)
            fewest = min(fewest, found.false_alarms)
            if found.false_alarms <= budget and found.recall > best:
                fitted, best = tried, found.recall
    if fitted is None:
        raise DeescError(
            f"no threshold keeps to {budget:g} false alarms in 100 conversations: levels from"
            f" {team.de_escalate_level} (de_escalate_level) and signals (hand_over_on) alone give"
            f" {fewest:.1f}; raise the budget or change these two keys of the policy"
        )
    watch = _lowest(courses, states, WATCH_BUDGET * budget, thresholds)
    hand_over = _lowest(courses, states, HAND_OVER_BUDGET * budget, thresholds)
    return replace(
        fitted,
        watch_at=min(watch, fitted.de_escalate_at),
        hand_over_at=max(hand_over, fitted.de_escalate_at),
    )


def _lowest(
    courses: Sequence[Course],
    states: dict[str, list[ConversationState]],
    budget: float,
    thresholds: FloatArray,
) -> float:
    """Return the lowest threshold at which the risk alone keeps to a budget."""
    highest = [
        max(state.risk for state in states[course.conversation_id])
        for course in courses
        if course.start is None
    ]
    for threshold in thresholds:
        if 100 * np.sum(np.array(highest) >= threshold) <= budget * len(courses):
            return float(threshold)
    return 1.0


def follow_courses(
    courses: Sequence[Course], risk: RiskModel
) -> dict[str, list[ConversationState]]:
    """Return the states of each conversation, by its id."""
    return {
        course.conversation_id: follow_conversation(course.turns, course.predictions, risk)
        for course in courses
    }


def measure_policy(
    courses: Sequence[Course],
    states: dict[str, list[ConversationState]],
    policy: EscalationPolicy,
) -> AlarmReport:
    """Return the policy's figures; `states` are what `follow_courses` returned."""
    return measure_alarms(
        courses, lambda course: policy_alarms(policy, states[course.conversation_id])
    )
