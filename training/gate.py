"""Judge a challenger against the champion on the same test rows; exit 0 passed, 3 refused.

python -m training.gate --challenger runs/default/bundle
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deesc_model.bundle import read_bundle
from deesc_model.errors import DeescError
from training.config import Config, add_config_arguments, read_config
from training.corpus import CORPUS, Utterance, fingerprint
from training.dataset import load_dataset
from training.evaluate import (
    SUMMARY,
    Answer,
    answer_with_bundle,
    both_views,
    evaluate,
    fit_baseline,
    gold_labels,
    measure_rows,
    slice_masks,
)
from training.gates import DEFAULT_GATES, Gates, read_gates
from training.latency import latency_ratio
from training.metrics import bootstrap_weights
from training.paired import significant_losses
from training.registry import Registry
from training.tracking import RUN_ID_FILE, Tracker

REFUSED = 3
"""Exit code of a challenger that failed."""

SMALLER_IS_BETTER = ("level_off_by_two",)
SLICE_METRICS = ("level_macro_f1", "trigger_micro_f1")
BASELINE_METRICS = ("level_macro_f1", "trigger_macro_f1")


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: what was measured, and the bound it must keep.

    Attributes:
        name: What is asked.
        value: What was found; None if it was not there to be read.
        bound: Where the condition ends.
        at_least: Whether the value must reach the bound, or may at most be it.
    """

    name: str
    value: float | None
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the condition holds; what is not there does not hold."""
        if self.value is None:
            return False
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def judge(challenger: Path, champion: Path | None, gates: Gates, config: Config) -> dict[str, Any]:
    """Score both bundles and return the verdict.

    Args:
        challenger: Its bundle.
        champion: Its bundle; None if there is none, then the absolute bounds decide alone.
        gates: The bounds.
        config: Says what the data are, and how to resample.

    Returns:
        JSON-ready: ``passed``, ``checks``, the model versions and the test rows' fingerprint.

    Raises:
        DeescError: Data or a bundle cannot be read.
    """
    bundle = read_bundle(challenger)
    splits = load_dataset(config)
    test, answer = splits["test"], answer_with_bundle(challenger, config)
    report = evaluate(test, answer, fit_baseline(splits, config), config)
    checks = [*_absolute_checks(report, bundle.metrics, gates)]
    if champion is not None:
        parts = {
            "corpus": [row for row in test if row.source == CORPUS],
            "public": [row for row in test if row.source != CORPUS],
        }
        theirs = answer_with_bundle(champion, config)
        for name, rows in parts.items():
            checks += _paired_checks(name, rows, (answer, theirs), gates, config) if rows else ()
        ratio = latency_ratio(challenger, champion, test[: gates.latency_rows])
        checks.append(Check("latency, as a multiple of the champion's", ratio, gates.latency_ratio))
    return {
        "passed": all(check.passed for check in checks),
        "challenger": bundle.manifest.model_version,
        "champion": champion and read_bundle(champion).manifest.model_version,
        "test_fingerprint": fingerprint(test),
        "public_texts": "public" in report,
        "checks": [asdict(check) | {"passed": check.passed} for check in checks],
    }


def _absolute_checks(
    report: Mapping[str, Any], stored: Mapping[str, Any], gates: Gates
) -> Iterator[Check]:
    bounds = {"corpus": gates.corpus_ece, "public": gates.public_ece}
    parts = {"corpus": report} | ({"public": report["public"]} if "public" in report else {})
    for name, part in parts.items():
        for metric in BASELINE_METRICS:
            gain = part["difference"].get(metric, {}).get("low")
            yield Check(f"{name}: {metric} above TF-IDF, low", gain, gates.baseline_gain, True)
        yield Check(f"{name}: level_ece", part["metrics"]["level_ece"]["value"], bounds[name])
    for probe, found in report["robustness"].items():
        yield Check(f"robustness: {probe}", found["failures"], gates.robustness[probe])
    lost = stored.get("quantization_loss")
    loss = max(lost.values()) if isinstance(lost, dict) and lost else None
    yield Check("quantisation loss on validation", loss, gates.quantization_loss)


def _paired_checks(
    part: str, rows: Sequence[Utterance], pair: tuple[Answer, Answer], gates: Gates, config: Config
) -> Iterator[Check]:
    """Compare on the same resamples of conversations; one level overall, one for the slices."""
    views = both_views(rows)
    gold = gold_labels(views)
    groups = [row.conversation_id for row in views]
    weights = bootstrap_weights(groups, config.bootstrap_samples, config.seed)
    mine, theirs = (answer(views) for answer in pair)
    overall = {"overall": np.arange(len(views)) < len(rows)}
    slices = {n: mask for n, mask in slice_masks(views).items() if mask.sum() >= gates.slice_rows}
    for masks, metrics in ((overall, SUMMARY), (slices, SLICE_METRICS)):
        gains = {}
        for name, mask in masks.items():
            ours = measure_rows(gold, weights, mine, mask)
            champions = measure_rows(gold, weights, theirs, mask)
            for metric in metrics:
                gain = ours[metric] - champions[metric]
                sign = -1 if metric in SMALLER_IS_BETTER else 1
                gains[f"{part}, {name}: {metric} gained"] = sign * gain
        for name, bound in significant_losses(gains, gates.significance).items():
            yield Check(name, float(gains[name][0]), bound, True)


def format_verdict(verdict: Mapping[str, Any]) -> str:
    """Return the verdict as a Markdown table, failures first."""
    lines = ["| | check | found | bound |", "| --- | --- | ---: | ---: |"]
    for check in sorted(verdict["checks"], key=lambda check: check["passed"]):
        mark, sign = "ok" if check["passed"] else "FAIL", "≥" if check["at_least"] else "≤"
        found = "not recorded" if check["value"] is None else f"{check['value']:+.4f}"
        lines.append(f"| {mark} | {check['name']} | {found} | {sign} {check['bound']:.4f} |")
    against = verdict["champion"] or "no champion, so absolute bounds alone"
    public = "" if verdict["public_texts"] else " No public texts here: none were judged."
    passed = "passed" if verdict["passed"] else "refused"
    return "\n".join(
        [*lines, "", f"{verdict['challenger']} is {passed}, against {against}.{public}"]
    )


def run_gate(challenger: Path, gates: Gates, config: Config, champion: Path | None = None) -> bool:
    """Judge, print, write ``run_dir/gate/gate.json``, log to MLflow; return whether it passed.

    Args:
        challenger: Its bundle.
        gates: The bounds.
        config: Where data, registry and results are.
        champion: Its bundle; None fetches the registry's, if there is one.

    Raises:
        DeescError: Something cannot be read, or the registry does not answer.
    """
    champion = champion or Registry(config).fetch_champion()
    verdict = judge(challenger, champion, gates, config)
    folder = Path(config.run_dir) / "gate"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_ID_FILE).unlink(missing_ok=True)
    result = folder / "gate.json"
    result.write_text(json.dumps(verdict, indent=1), encoding="utf-8")
    own = replace(config, run_name="gate", run_dir=str(folder))
    tags = {key: str(verdict[key]) for key in ("challenger", "champion", "passed")}
    with Tracker(own, tags, asdict(gates)) as tracker:
        figures = {"passed": float(verdict["passed"])}
        failed = sum(not check["passed"] for check in verdict["checks"])
        tracker.log_figures(figures | {"failed_checks": float(failed)})
        tracker.log_files([result], "gate")
    print(format_verdict(verdict))
    return bool(verdict["passed"])


def exit_code(command: Callable[[], bool]) -> int:
    """Run what a gate decides: 0 passed, 3 refused, 1 for an error, which is printed."""
    try:
        return 0 if command() else REFUSED
    except (DeescError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.gate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_config_arguments(parser)
    parser.add_argument("--challenger", type=Path, help="a bundle; bundle_dir, if not given")
    parser.add_argument("--champion", type=Path, help="a bundle; the registry's, if not given")
    parser.add_argument("--gates", type=Path, default=DEFAULT_GATES, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")

    def command() -> bool:
        config = read_config(options.config, options.overrides)
        challenger = options.challenger or Path(config.bundle_dir)
        return run_gate(challenger, read_gates(options.gates), config, options.champion)

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
