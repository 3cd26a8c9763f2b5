"""Say whether newly labelled conversations still look like earlier ones.

python -m training.drift --reference september.jsonl --current october.jsonl

Both files are what `deesc score` wrote. Levels, triggers, signals, lengths, vocabulary, content
and the performance expected from the calibrated scores are compared; what counts as drift is in
training/drift.toml. The table is printed, figures are written into ``run_dir``, and all is logged
to MLflow. Exit codes: 0 no drift, 3 drift, 1 an error, 2 wrong usage.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from deesc_model.errors import DeescError
from deesc_model.files import check_writable
from deesc_model.labels import Level
from training.config import add_config_arguments, read_config
from training.drift_features import DriftFeatures, build_features
from training.drift_figures import draw_drift_figures
from training.drift_tests import FEWEST_CONVERSATIONS, Shift, find_shifts, unseen_words
from training.drift_thresholds import DRIFT_FILE, DriftThresholds, read_thresholds
from training.expected_performance import expected_intervals
from training.metrics import Interval
from training.scored_files import ScoredFileError, ScoredRows, pool, read_scored
from training.tracking import RUN_ID_FILE, Tracker

DRIFT = 3
"""Exit code if there is drift."""
UNSEEN_SHOWN = 20
AS_SHARE = ("trigger.", "signal.", "speaker.", "words.")
CAUTION = (
    "The expected metrics are no measurement: they assume that the calibration of the scores"
    " still holds.\nIf words mean something new, only labels can tell."
)


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The comparison of two sets of labelled rows.

    Attributes:
        model_version: What both were labelled by.
        sizes: Rows and conversations of ``"reference"`` and ``"current"``.
        levels: Share 0–1 of each level in both.
        shifts: Every test.
        expected: Expected metrics with intervals: reference, current, difference.
        unseen: Words of the current set that the reference lacks, most frequent first.
    """

    model_version: str
    sizes: dict[str, dict[str, int]]
    levels: dict[str, dict[str, float]]
    shifts: list[Shift]
    expected: dict[str, dict[str, Interval]]
    unseen: dict[str, int]

    @property
    def drifted(self) -> list[str]:
        """Names of what has drifted."""
        return [shift.name for shift in self.shifts if shift.drifted]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; what is undefined is None."""
        shifts = [
            {name: None if _is_nan(value) else value for name, value in asdict(shift).items()}
            for shift in self.shifts
        ]
        return {"drifted": self.drifted, **asdict(self), "shifts": shifts}


def compare(
    reference: ScoredRows, current: ScoredRows, thresholds: DriftThresholds
) -> tuple[DriftReport, DriftFeatures]:
    """Compare two sets of rows that one model labelled; return also what they are compared by.

    Raises:
        ScoredFileError: They are by different models, or a set has too few conversations.
        ConfigError: The thresholds allow too few permutations.
    """
    sides = {"reference": reference, "current": current}
    for name, rows in sides.items():
        if rows.conversation_count < FEWEST_CONVERSATIONS:
            raise ScoredFileError(
                f"{name} holds {rows.conversation_count} conversations; a comparison needs at"
                f" least {FEWEST_CONVERSATIONS}"
            )
    features = build_features(pool(reference, current))
    is_current = np.arange(len(features.sizes)) >= reference.conversation_count
    report = DriftReport(
        model_version=reference.model_version,
        sizes={
            name: {"rows": len(rows.turns), "conversations": rows.conversation_count}
            for name, rows in sides.items()
        },
        levels={
            name: {level.label: float((rows.levels == level).mean()) for level in Level}
            for name, rows in sides.items()
        },
        shifts=find_shifts(features, is_current, thresholds),
        expected=expected_intervals(features.expected[~is_current], features.expected[is_current]),
        unseen=unseen_words(features, is_current),
    )
    return report, features


def format_report(report: DriftReport, thresholds: DriftThresholds) -> str:
    """Return the report as Markdown that reads well in a terminal."""
    sizes = "; ".join(
        f"{name}: {size['rows']:,} rows, {size['conversations']:,} conversations"
        for name, size in report.sizes.items()
    )
    lines = [f"{report.model_version}\n{sizes}", ""]
    lines += _table(
        ("level", "reference", "current"),
        [
            (level, f"{share:.1%}", f"{report.levels['current'][level]:.1%}")
            for level, share in report.levels["reference"].items()
        ],
    )
    lines.append("")
    lines += _table(
        ("what", "reference", "current", "size", "counts from", "p", "verdict"),
        [
            (
                shift.name,
                _shown(shift.name, shift.reference),
                _shown(shift.name, shift.current),
                f"{shift.size:.3f}",
                f"{getattr(thresholds, shift.kind):g} {shift.kind}",
                f"{shift.p_value:.3f}",
                "DRIFT" if shift.drifted else "",
            )
            for shift in report.shifts
        ],
    )
    if report.unseen:
        words = ", ".join(islice(report.unseen, UNSEEN_SHOWN))
        lines += ["", f"Most frequent words that the reference lacks: {words}"]
    lines.append("")
    lines += _table(
        ("expected", "reference", "current", "difference"),
        [
            (name, *(_with_interval(parts[part]) for part in ("reference", "current")),
             _with_interval(parts["difference"], "+"))
            for name, parts in report.expected.items()
        ],
    )  # fmt: skip
    lines += [CAUTION, "", f"drift: {', '.join(report.drifted) or 'none'}"]
    return "\n".join(lines)


def drift_figures(report: DriftReport) -> dict[str, float]:
    """Return every figure under the name that MLflow shows."""
    found: dict[str, float] = {"drift/count": float(len(report.drifted))}
    for shift in report.shifts:
        values = {name: getattr(shift, name) for name in ("reference", "current", "size")}
        values |= {"p_value": shift.p_value, "drifted": float(shift.drifted)}
        found |= {f"drift/{shift.name}/{name}": value for name, value in values.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and bool(np.isnan(value))


def _shown(name: str, value: float) -> str:
    return f"{value:.1%}" if name.startswith(AS_SHARE) else f"{value:.3f}"


def _with_interval(interval: Interval, sign: str = "") -> str:
    values = (interval.value, interval.low, interval.high)
    value, low, high = (f"{number:{sign}.3f}" for number in values)
    return f"{value} ({low} to {high})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width if k == 0 else "-" * (width - 1) + ":") for k, width in enumerate(widths)]
    return [line(header), line(rule), *map(line, rows)]


def _write_json(report: DriftReport, files: Mapping[str, str], out: Path) -> None:
    text = json.dumps({"files": files, **report.to_dict()}, indent=1, ensure_ascii=False)
    out.write_text(text + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.drift", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--reference", type=Path, required=True, metavar="FILE")
    parser.add_argument("--current", type=Path, required=True, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--thresholds", type=Path, default=DRIFT_FILE, metavar="FILE")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    try:
        overrides = ["run_name=drift", "run_dir=runs/drift", *options.overrides]
        config = read_config(options.config, overrides)
        thresholds = read_thresholds(options.thresholds)
        if options.json:
            check_writable(options.json)
        reference, current = read_scored(options.reference), read_scored(options.current)
        report, features = compare(reference, current, thresholds)
    except DeescError as error:
        print(error, file=sys.stderr)
        return 1
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RUN_ID_FILE).unlink(missing_ok=True)
    files = {"reference": str(options.reference), "current": str(options.current)}
    text = format_report(report, thresholds)
    (run_dir / "drift.md").write_text(text + "\n", encoding="utf-8")
    written = [run_dir / "drift.md", run_dir / "drift.json"]
    for out in filter(None, (run_dir / "drift.json", options.json)):
        _write_json(report, files, out)
    written += draw_drift_figures(
        features, report.sizes["reference"]["conversations"], report.expected, run_dir / "figures"
    )
    with Tracker(
        config, {"model_version": report.model_version}, {**files, **asdict(thresholds)}
    ) as tracker:
        tracker.log_figures(drift_figures(report))
        tracker.log_files(written, "drift")
    print(text)
    return DRIFT if report.drifted else 0


if __name__ == "__main__":
    sys.exit(main())
