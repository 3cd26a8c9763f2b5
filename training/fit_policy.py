"""Fit escalation risk and policy to the labelled conversations, and measure them.

python -m training.fit_policy --bundle models/default --budget 5

The risk's weights are learned from what the bundle predicts on the training split and calibrated
on validation, where the model's errors are those of unseen text. The policy's thresholds are
fitted on validation to the budget of false alarms. The figures are printed, written into
``run_dir`` and logged to MLflow.
"""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from deesc_model.bundle import default_bundle_path
from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import DeescError
from deesc_model.files import open_output
from deesc_model.labels import Level
from deesc_model.monitor import ConversationState, follow_conversation
from deesc_model.policy import POLICY_FILE, EscalationPolicy
from deesc_model.risk import FEATURES, RISK_FILE, RiskFeatures, RiskModel
from deesc_model.scoring import BoolArray, FloatArray
from training.command import command_parser, errors_in_one_line
from training.config import add_config_arguments, read_config
from training.corpus import SPLITS, fingerprint, load_corpus
from training.courses import Course, build_courses, predict_rows
from training.metrics import average_precision, bootstrap_weights, calibration_error
from training.policy_metrics import (
    AlarmReport,
    keyword_alarms,
    last_level_alarms,
    measure_alarms,
    policy_alarms,
)
from training.tracking import RUN_ID_FILE, Tracker

HORIZON = 6
"""Turns ahead that the risk speaks of: three of the customer's, where they take turns."""

AGENT_FEATURES = ("provocation", "provocation_so_far")
"""What a second fit goes without, to see how much hangs on the agent's wording: in the corpus,
agents provoke in nearly every conversation that escalates."""

DEAF = "policy, deaf to the agent"

THRESHOLDS = np.round(np.arange(0.11, 1.0, 0.01), 2)
"""Of the risk; all are above `START.hysteresis`."""

WINDOWS = ((1, 1), (2, 2), (2, 3))
"""What is tried for `needed` of `window` turns."""

WATCH_BUDGET, HAND_OVER_BUDGET = 3.0, 0.2
"""False alarms allowed for watching and handing over, as multiples of the budget."""

START = EscalationPolicy(
    watch_at=1.0,
    de_escalate_at=1.0,
    hand_over_at=1.0,
    de_escalate_level=3,
    hysteresis=0.1,
    needed=1,
    window=1,
    cool_down=4,
    capacity=5,
    hand_over_on=("supervisor_request", "personal_abuse", "harm_threat"),
)
"""What is a decision of the team and not fitted."""


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
    return RiskModel(
        horizon=HORIZON,
        intercept=slope * float(weights.intercept_[0]) + float(platt.intercept_[0]),
        weights=dict(zip(FEATURES, (slope * weights.coef_[0] * used).tolist(), strict=True)),
        fitted_to=model_version,
    )


def fit_policy(courses: Sequence[Course], risk: RiskModel, budget: float) -> EscalationPolicy:
    """Return the policy that foresees most escalations within the budget.

    Args:
        courses: Validation conversations.
        risk: The risk that the policy reads.
        budget: False alarms allowed in 100 conversations.
    """
    states = follow_courses(courses, risk)
    fitted = START
    best = -1.0
    for needed, window in WINDOWS:
        shape = replace(START, needed=needed, window=window)
        for threshold in THRESHOLDS:
            tried = replace(shape, watch_at=0.0, de_escalate_at=float(threshold))
            found = _measure_policy(courses, states, tried)
            if found.false_alarms <= budget and found.recall > best:
                fitted, best = tried, found.recall
    watch = _lowest(courses, states, WATCH_BUDGET * budget)
    hand_over = _lowest(courses, states, HAND_OVER_BUDGET * budget)
    return replace(
        fitted,
        watch_at=min(watch, fitted.de_escalate_at),
        hand_over_at=max(hand_over, fitted.de_escalate_at),
    )


def _lowest(
    courses: Sequence[Course], states: dict[str, list[ConversationState]], budget: float
) -> float:
    """Return the lowest threshold at which the risk alone keeps to a budget."""
    highest = [
        max(state.risk for state in states[course.conversation_id])
        for course in courses
        if course.start is None
    ]
    for threshold in THRESHOLDS:
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


def _measure_policy(
    courses: Sequence[Course],
    states: dict[str, list[ConversationState]],
    policy: EscalationPolicy,
) -> AlarmReport:
    return measure_alarms(
        courses, lambda course: policy_alarms(policy, states[course.conversation_id])
    )


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
        "policy": _measure_policy(courses, follow_courses(courses, risk), policy),
        "last level 3 or more": measure_alarms(courses, last_level_alarms(Level.ANGRY)),
        "last level 2 or more": measure_alarms(courses, last_level_alarms(Level.FRUSTRATED)),
        "keywords": measure_alarms(courses, keyword_alarms),
    }


def recall_interval(
    courses: Sequence[Course], risk: RiskModel, policy: EscalationPolicy
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the policy's recall, by conversation."""
    states = follow_courses(courses, risk)
    caught = np.array(
        [
            policy_alarms(policy, states[course.conversation_id])[: course.start].any()
            for course in courses
            if course.start
        ]
    )
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
    found, (low, high) = reports["policy"], interval
    shown = ", ".join(f"{name} {value:.3f}" for name, value in quality.items())
    return "\n".join(
        [
            f"{split}: {conversations} conversations, {found.building} build up",
            f"risk within {HORIZON} turns: {shown}",
            f"policy's recall {found.recall:.0%}, 95 % interval {low:.0%} to {high:.0%}",
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
            f"| {name} | {found.recall:.0%} | {found.at_the_latest:.0%}"
            f" | {found.lead_turns:.0f} ({found.lead_turns_all:.0f} of all)"
            f" | {found.false_alarms:.1f} | {found.false_alarms_quiet:.1f}"
            f" | {found.recovery:.0%} |"
        )
    return "\n".join(lines)


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("fit_policy", __doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER")
    parser.add_argument("--budget", type=float, default=5.0, help="false alarms in 100")
    parser.add_argument("--cache", type=Path, default=Path("runs/predictions"), metavar="FOLDER")
    parser.add_argument("--risk", type=Path, default=RISK_FILE, metavar="FILE")
    parser.add_argument("--policy", type=Path, default=POLICY_FILE, metavar="FILE")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    overrides = ["run_name=policy", "run_dir=runs/policy", *options.overrides]
    config = read_config(options.config, overrides)
    rows = load_corpus(Path(config.corpus))
    classifier = EscalationClassifier.from_pretrained(options.bundle)
    courses = build_courses(rows, predict_rows(rows, classifier, options.cache))
    train, validation, test = ([c for c in courses if c.split == split] for split in SPLITS)
    risk = fit_risk(train, validation, classifier.model_version)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RUN_ID_FILE).unlink(missing_ok=True)
    tags = {"model_version": classifier.model_version, "data_fingerprint": fingerprint(rows)}
    params = {"budget": options.budget, "horizon": HORIZON}
    with Tracker(config, tags, params) as tracker:
        policy = fit_policy(validation, risk, options.budget)
        deaf = fit_risk(train, validation, classifier.model_version, left_out=AGENT_FEATURES)
        deaf_policy = fit_policy(validation, deaf, options.budget)
        parts = []
        for split, members in (("validation", validation), ("test", test)):
            reports = measure_rules(members, risk, policy)
            reports[DEAF] = _measure_policy(members, follow_courses(members, deaf), deaf_policy)
            interval = recall_interval(members, risk, policy)
            quality = measure_risk(members, risk)
            tracker.log_figures(policy_figures(split, reports, interval, quality))
            parts.append(format_policy_report(split, len(members), reports, interval, quality))
        for file, text in (
            (options.risk, json.dumps(risk.to_dict(), indent=1) + "\n"),
            (options.policy, policy.to_toml()),
        ):
            with open_output(file) as stream:
                stream.write(text)
        report = "\n\n".join(parts)
        report_file = run_dir / "policy.md"
        report_file.write_text(report + "\n", encoding="utf-8")
        tracker.log_files([options.risk, options.policy, report_file], "policy")
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
