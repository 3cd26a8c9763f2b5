"""What a fitted risk and policy are worth, beside naive rules: figures and tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from deesc_model.labels import Level
from deesc_model.policy import EscalationPolicy
from deesc_model.risk import RiskModel
from training.courses import Course
from training.metrics import average_precision, bootstrap_weights, calibration_error
from training.policy_fitting import HORIZON, follow_courses, measure_policy, risk_data
from training.policy_metrics import (
    AlarmReport,
    keyword_alarms,
    last_level_alarms,
    measure_alarms,
    policy_alarms,
)

UNDEFINED = "–"
"""Stands for a figure of nothing."""


def measure_risk(courses: Sequence[Course], risk: RiskModel) -> dict[str, float]:
    """Return the share of turns before an escalation, and how well the risk finds them."""
    features, targets = risk_data(courses)
    scores = np.array([risk.probability(tuple(row)) for row in features])
    ones = np.ones((1, len(targets)))
    precision = average_precision(targets[:, None], scores[:, None], ones)
    return {
        "escalate": float(targets.mean()),
        "average_precision": float(precision[0, 0]),
        "calibration_error": float(calibration_error(scores, targets, ones)[0]),
        "brier": float(np.mean((scores - targets) ** 2)),
    }


def measure_rules(
    courses: Sequence[Course], risk: RiskModel, policy: EscalationPolicy
) -> dict[str, AlarmReport]:
    """Return figures of the policy and of the naive rules."""
    return {
        "policy": measure_policy(courses, follow_courses(courses, risk), policy),
        "last level 3 or more": measure_alarms(courses, last_level_alarms(Level.ANGRY)),
        "last level 2 or more": measure_alarms(courses, last_level_alarms(Level.FRUSTRATED)),
        "keywords": measure_alarms(courses, keyword_alarms),
    }


def recall_interval(
    courses: Sequence[Course], risk: RiskModel, policy: EscalationPolicy
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the policy's recall, by conversation; nan of none."""
    states = follow_courses(courses, risk)
    caught = np.array(
        [
            policy_alarms(policy, states[course.conversation_id])[: course.start].any()
            for course in courses
            if course.start
        ]
    )
    if not len(caught):
        return float("nan"), float("nan")
    weights = bootstrap_weights([str(k) for k in range(len(caught))], samples=1000, seed=7)
    low, high = np.percentile(weights[1:] @ caught / len(caught), [2.5, 97.5])
    return float(low), float(high)


def policy_figures(
    split: str,
    reports: Mapping[str, AlarmReport],
    interval: tuple[float, float],
    quality: Mapping[str, float],
) -> dict[str, float]:
    """Return every figure under the name that MLflow shows; what is undefined is left out."""
    figures = {f"{split}/risk/{name}": value for name, value in quality.items()}
    for rule, report in reports.items():
        place = f"{split}/{rule.replace(',', '').replace(' ', '_')}"
        figures |= {f"{place}/{name}": value for name, value in asdict(report).items()}
    figures[f"{split}/policy/recall_low"], figures[f"{split}/policy/recall_high"] = interval
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def format_policy_report(
    split: str,
    conversations: int,
    reports: Mapping[str, AlarmReport],
    interval: tuple[float, float],
    quality: Mapping[str, float],
) -> str:
    """Return the figures of one split as Markdown."""
    found, (low, high) = reports["policy"], map(_share, interval)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in quality.items())
    return "\n".join(
        [
            f"{split}: {conversations} conversations, {found.building} build up",
            f"risk within {HORIZON} turns: {shown}",
            f"policy's recall {_share(found.recall)}, 95 % interval {low} to {high}",
            "",
            format_rules(reports),
        ]
    )


def format_rules(reports: Mapping[str, AlarmReport]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| rule | caught beforehand | at the latest in that turn | median lead, turns"
        " | false alarms in 100 | in 100 that stay calm | off again at the end |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in reports.items():
        lines.append(
            f"| {name} | {_share(found.recall)} | {_share(found.at_the_latest)}"
            f" | {_number(found.lead_turns, 0)} ({_number(found.lead_turns_all, 0)} of all)"
            f" | {found.false_alarms:.1f} | {_number(found.false_alarms_quiet, 1)}"
            f" | {_share(found.recovery)} |"
        )
    return "\n".join(lines)


def _share(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else UNDEFINED


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else UNDEFINED
