"""Fit escalation risk and policy to the labelled conversations, and measure them.

python -m training.fit_policy --bundle models/default --budget 5

The risk's weights are learned from what the bundle predicts on the training split and calibrated
on validation, where the model's errors are those of unseen text. The policy's thresholds are
fitted on validation to the budget of false alarms; what else the file of the policy says is the
team's decision and stays. The figures are printed, written into ``run_dir`` and logged to MLflow.
"""

import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from deesc_model.bundle import default_bundle_path
from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import DeescError
from deesc_model.files import open_output
from deesc_model.policy import POLICY_FILE, EscalationPolicy
from deesc_model.risk import RISK_FILE
from training.command import command_parser, errors_in_one_line
from training.config import add_config_arguments, read_config
from training.corpus import SPLITS, fingerprint, load_corpus
from training.courses import build_courses, predict_rows
from training.policy_fitting import HORIZON, fit_policy, fit_risk, follow_courses, measure_policy
from training.policy_report import (
    format_policy_report,
    measure_risk,
    measure_rules,
    policy_figures,
    recall_interval,
)
from training.tracking import RUN_ID_FILE, Tracker

AGENT_FEATURES = ("provocation", "provocation_so_far")
"""What a second fit goes without, to see how much hangs on the agent's wording: in the corpus,
agents provoke in nearly every conversation that escalates."""

DEAF = "policy, deaf to the agent"


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
    team = EscalationPolicy.read(options.policy if options.policy.exists() else POLICY_FILE)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RUN_ID_FILE).unlink(missing_ok=True)
    tags = {"model_version": classifier.model_version, "data_fingerprint": fingerprint(rows)}
    params = {"budget": options.budget, "horizon": HORIZON}
    with Tracker(config, tags, params) as tracker:
        policy = fit_policy(validation, risk, options.budget, team)
        deaf = deaf_policy = None
        with contextlib.suppress(DeescError):  # without its row the figures are whole
            deaf = fit_risk(train, validation, classifier.model_version, left_out=AGENT_FEATURES)
            deaf_policy = fit_policy(validation, deaf, options.budget, team)
        parts = []
        for split, members in (("validation", validation), ("test", test)):
            if not members:
                parts.append(f"{split}: no conversation of several turns, nothing is measured")
                continue
            reports = measure_rules(members, risk, policy)
            if deaf and deaf_policy:
                states = follow_courses(members, deaf)
                reports[DEAF] = measure_policy(members, states, deaf_policy)
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
