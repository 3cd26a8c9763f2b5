"""Judge a challenger against the champion on the same test rows; exit 0 passed, 3 refused.

python -m training.gate --challenger runs/default/bundle
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deesc_model.bundle import MANIFEST_FILE, read_bundle
from deesc_model.files import open_output
from deesc_model.scoring import BoolArray
from training.assembly import origin
from training.candidates import Answer, answer_with_bundle, fit_baseline, warn_of_other_data
from training.command import command_parser, errors_in_one_line
from training.config import CHAMPION, Config, add_config_arguments, read_config
from training.corpus import CORPUS, Utterance, fingerprint
from training.dataset import both_views, data_versions, load_dataset
from training.errors import ErrorTable, newly_wrong
from training.evaluation import (
    SUMMARY,
    data_sets,
    evaluate,
    measure_rows,
    paired_figures,
    slice_masks,
)
from training.gates import DEFAULT_GATES, Gates, read_gates
from training.latency import latency_ratio
from training.metrics import Replicates, bootstrap_weights, gold_labels, wilson_interval
from training.pages.gate_page import gate_page
from training.paired import significant_losses
from training.registry import Registry
from training.tracking import RUN_ID_FILE, Tracker

REFUSED = 3
"""Exit code of a challenger that failed."""

SMALLER_IS_BETTER = ("level_off_by_two",)
JUDGED_IN_SLICES = ("level_macro_f1", "trigger_micro_f1")
PART = ("rows", "conversations", "metrics", "baseline", "difference")
"""What the verdict keeps of an evaluation."""
BASELINE_METRICS = ("level_macro_f1", "trigger_macro_f1")


@dataclass(frozen=True, slots=True)
class Check:
    """One condition: what was measured, and the bound it must keep.

    Attributes:
        name: What is asked.
        value: What was found; None if it was not there to be read.
        bound: Where the condition ends.
        at_least: Whether the value must reach the bound, or may at most be it.
        low: Lower end of the value's 95 % interval; None where it has none.
        high: Upper end.
        whole: Whether it fails only if its whole interval is beyond the bound.
        note: What a reader must know beside the figures.
    """

    name: str
    value: float | None
    bound: float
    at_least: bool = False
    low: float | None = None
    high: float | None = None
    whole: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the condition holds; what is not there does not, unless intervals decide."""
        value = self.value
        if value is None:
            return self.whole  # of nothing the interval is everything
        if self.whole and self.low is not None and self.high is not None:
            value = self.high if self.at_least else self.low
        return value >= self.bound if self.at_least else value <= self.bound


def judge(challenger: Path, champion: Path | None, gates: Gates, config: Config) -> dict[str, Any]:
    """Score both bundles and return the verdict.

    Args:
        challenger: Its bundle.
        champion: Its bundle; None if there is none, then the absolute bounds decide alone.
        gates: The bounds.
        config: Says what the data are, and how to resample.

    Returns:
        JSON-ready: ``passed``, ``checks``, the model versions and the test rows' fingerprint.
        ``parts`` holds, for corpus and public texts, the headline figures of the challenger as
        ``metrics``, those of ``other``, which is the champion or, without one, TF-IDF, as
        ``baseline``, and the ``difference``; ``newly_wrong`` is what `training.errors` found,
        ``data`` what was tested on.

    Raises:
        DeescError: Data or a bundle cannot be read.
    """
    bundle = read_bundle(challenger)
    splits = load_dataset(config)
    warn_of_other_data(bundle, splits)
    test, answer = splits["test"], answer_with_bundle(challenger, config)
    report = evaluate(test, answer, fit_baseline(splits, config), config)
    judged = {
        name: part
        for name, part in data_sets(report).items()
        if name == "corpus" or part["rows"] >= gates.slice_rows
    }
    checks = [*absolute_checks(judged, report["robustness"], bundle.metrics, gates)]
    parts = {name: {key: part[key] for key in PART} for name, part in judged.items()}
    lost: dict[str, ErrorTable] = {}
    if champion is not None:
        theirs = answer_with_bundle(champion, config)
        for name in parts:
            rows = [row for row in test if (row.source == CORPUS) == (name == "corpus")]
            found, parts[name], lost[name] = _compare(name, rows, (answer, theirs), gates, config)
            checks += found
        ratio = latency_ratio(challenger, champion, test[: gates.latency_rows])
        checks.append(Check("latency, as a multiple of the champion's", ratio, gates.latency_ratio))
    return {
        "passed": all(check.passed for check in checks),
        "challenger": bundle.manifest.model_version,
        "champion": champion and read_bundle(champion).manifest.model_version,
        "test_fingerprint": fingerprint(test),
        "public_texts": "public" in judged,
        "checks": [asdict(check) | {"passed": check.passed} for check in checks],
        "other": "TF-IDF baseline" if champion is None else CHAMPION,
        "parts": parts,
        "newly_wrong": lost,
        "data": [asdict(version) for version in data_versions({"test": test})],
    }


def absolute_checks(
    judged: Mapping[str, Mapping[str, Any]],
    robustness: Mapping[str, Any],
    stored: Mapping[str, Any],
    gates: Gates,
) -> Iterator[Check]:
    """Yield what is asked of a challenger whatever the champion is.

    Args:
        judged: Parts of its report, by data set.
        robustness: What its report says of the probes.
        stored: The metrics in its bundle.
        gates: The bounds.
    """
    yield _enough(judged["corpus"]["conversations"], gates.test_conversations)
    bounds = {"corpus": gates.corpus_ece, "public": gates.public_ece}
    for name, part in judged.items():
        for metric in BASELINE_METRICS:
            gain = part["difference"].get(metric, {}).get("low")
            yield Check(f"{name}: {metric} above TF-IDF, low", gain, gates.baseline_gain, True)
        chance = part["level_ece_by_chance"]
        yield Check(
            f"{name}: level_ece",
            part["metrics"]["level_ece"]["value"],
            max(bounds[name], chance),
            note=f"by chance alone up to {chance:.4f}",
        )
    for probe, found in robustness.items():
        yield _probed(f"robustness: {probe}", found, gates.robustness[probe])
    lost = stored.get("quantization_loss")
    loss = max(lost.values()) if isinstance(lost, dict) and lost else None
    yield Check("quantisation loss on validation", loss, gates.quantization_loss)


def _enough(conversations: int, fewest: int) -> Check:
    few = "" if conversations >= fewest else "too few test conversations to judge by"
    return Check("corpus: test conversations", conversations, fewest, True, note=few)


def _probed(name: str, found: Mapping[str, Any], bound: float) -> Check:
    """Return the check of a probe: of few texts, a few more failures are chance."""
    rows, share = found["rows"], found["failures"]
    if not rows:
        return Check(name, None, bound, whole=True, note="no test text that it applies to")
    low, high = wilson_interval(round(share * rows), rows)
    doubtful = "the bound is within its interval" if low <= bound < share else ""
    return Check(name, share, bound, False, low, high, whole=True, note=doubtful)


def _compare(
    part: str, rows: Sequence[Utterance], pair: tuple[Answer, Answer], gates: Gates, config: Config
) -> tuple[list[Check], dict[str, Any], ErrorTable]:
    """Compare on the same resamples of conversations; one level overall, one for the slices.

    Returns:
        Checks, headline figures of both, and what the challenger no longer has right.
    """
    views = both_views(rows)
    gold, alone = gold_labels(views), np.arange(len(views)) < len(rows)
    groups = [origin(row)[0] for row in views]
    weights = bootstrap_weights(groups, config.bootstrap_samples, config.seed)
    mine, theirs = (answer(views) for answer in pair)

    def measure(mask: BoolArray) -> tuple[Replicates, Replicates]:
        return measure_rows(gold, weights, mine, mask), measure_rows(gold, weights, theirs, mask)

    overall = {"overall": measure(alone)}
    masks = {n: mask for n, mask in slice_masks(views).items() if mask.sum() >= gates.slice_rows}
    slices = {name: measure(mask) for name, mask in masks.items()}
    checks: list[Check] = []
    for measured, metrics in ((overall, SUMMARY), (slices, JUDGED_IN_SLICES)):
        gains = {
            f"{part}, {name}: {metric} gained": (
                (ours[metric] - champions[metric]) * (-1 if metric in SMALLER_IS_BETTER else 1)
            )
            for name, (ours, champions) in measured.items()
            for metric in metrics
        }
        for name, bound in significant_losses(gains, gates.significance).items():
            low, high = np.nanpercentile(gains[name][1:], [2.5, 97.5]).tolist()
            checks.append(Check(name, float(gains[name][0]), bound, True, low, high))
    figures = {
        "rows": len(rows),
        "conversations": len(set(groups)),
        **paired_figures(*overall["overall"]),
    }
    lost = newly_wrong(rows, mine.select(alone).scores, theirs.select(alone).scores)
    return checks, figures, lost


def format_verdict(verdict: Mapping[str, Any]) -> str:
    """Return the verdict as a Markdown table, failures first."""
    lines = ["| | check | found | bound |", "| --- | --- | ---: | ---: |"]
    for check in sorted(verdict["checks"], key=lambda check: check["passed"]):
        mark, sign = "ok" if check["passed"] else "FAIL", "≥" if check["at_least"] else "≤"
        if check["passed"] and check["value"] is None:
            mark = "–"
        name = f"{check['name']} ({check['note']})" if check["note"] else check["name"]
        found = "not measured" if check["value"] is None else f"{check['value']:+.4f}"
        bound = f"{check['bound']:.4f}"
        if isinstance(check["value"], int):  # a count
            found, bound = f"{check['value']:,}", f"{check['bound']:,}"
        lines.append(f"| {mark} | {name} | {found} | {sign} {bound} |")
    against = verdict["champion"] or "no champion, so absolute bounds alone"
    public = "" if verdict["public_texts"] else " No public texts, or too few to judge."
    passed = "passed" if verdict["passed"] else "refused"
    return "\n".join(
        [*lines, "", f"{verdict['challenger']} is {passed}, against {against}.{public}"]
    )


def opponent(config: Config) -> Path | None:
    """Return the registry's champion or, without one, the bundle that a challenger began as.

    Raises:
        DeescError: The registry does not answer.
    """
    begun = Path(config.base_model)
    is_bundle = not config.teachers and (begun / MANIFEST_FILE).is_file()
    return Registry(config).fetch_champion() or (begun if is_bundle else None)


def run_gate(challenger: Path, gates: Gates, config: Config, champion: Path | None = None) -> bool:
    """Judge, print, write verdict and page, log them to MLflow; return whether it passed.

    Both are in ``run_dir/gate``: ``gate.json`` and ``report.html``. In MLflow the verdict is a run
    below the one that trained the challenger.

    Args:
        challenger: Its bundle.
        gates: The bounds.
        config: Where data, registry and results are.
        champion: Its bundle; None takes the one that `opponent` returns.

    Raises:
        DeescError: Something cannot be read, or the registry does not answer.
    """
    champion = champion or opponent(config)
    verdict = judge(challenger, champion, gates, config)
    folder = Path(config.run_dir) / "gate"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_ID_FILE).unlink(missing_ok=True)
    result, page = folder / "gate.json", folder / "report.html"
    result.write_text(json.dumps(verdict, indent=1), encoding="utf-8")
    with open_output(page) as stream:
        stream.write(gate_page(verdict))
    own = replace(config, run_name="gate", run_dir=str(folder))
    tags = {key: str(verdict[key]) for key in ("challenger", "champion", "passed")}
    made_by = read_bundle(challenger).manifest.training_run
    with Tracker(own, tags, asdict(gates), parent=made_by) as tracker:
        figures = {"passed": float(verdict["passed"])}
        failed = sum(not check["passed"] for check in verdict["checks"])
        tracker.log_figures(figures | {"failed_checks": float(failed)})
        tracker.log_files([result, page], "gate")
        tracker.log_note(format_verdict(verdict))
    print(format_verdict(verdict))
    return bool(verdict["passed"])


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("gate", __doc__)
    add_config_arguments(parser)
    parser.add_argument("--challenger", type=Path, help="a bundle; bundle_dir, if not given")
    parser.add_argument(
        "--champion",
        type=Path,
        help="a bundle; if not given the registry's, else base_model if that is one",
    )
    parser.add_argument("--gates", type=Path, default=DEFAULT_GATES, metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    config = read_config(options.config, options.overrides)
    challenger = options.challenger or Path(config.bundle_dir)
    passed = run_gate(challenger, read_gates(options.gates), config, options.champion)
    return 0 if passed else REFUSED


if __name__ == "__main__":
    sys.exit(main())
