"""Say whether newly labelled conversations still look like earlier ones.

python -m training.drift --reference september.jsonl --current october.jsonl

Both files are what `deesc score` wrote. Levels, triggers, signals, lengths, vocabulary, content
and the performance expected from the calibrated scores are compared; what counts as drift is in
training/drift.toml. The table is printed, figures are written into ``run_dir``, and all is logged
to MLflow. Exit codes: 0 no drift, 3 drift, 1 an error, 2 wrong usage.
"""

import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deesc_model.bundle import default_bundle_path, read_bundle
from deesc_model.files import check_writable, open_output
from deesc_model.labels import Level
from deesc_model.scoring import BoolArray
from training.command import command_parser, errors_in_one_line
from training.config import add_config_arguments, read_config
from training.drift_features import ExpectedDrop, Feature, UnseenWords, build_features, sides
from training.drift_shifts import (
    THRESHOLDS_FILE,
    DriftThresholds,
    Shift,
    find_shifts,
    read_thresholds,
)
from training.expected_performance import expected_intervals
from training.figures.drift import draw_drift_figures
from training.metrics import Interval
from training.scored_files import ScoredFileError, ScoredRows, read_scored
from training.tracking import RUN_ID_FILE, Tracker

DRIFT = 3
"""Exit code if there is drift."""
FEWEST_CONVERSATIONS = 20
"""In each set; fewer show nothing."""
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
        sizes: Rows and conversations of ``"reference"`` and ``"current"``.
        levels: Share 0–1 of each level in both.
        shifts: What the test says of every feature.
        expected: Expected metrics with intervals: reference, current, difference.
        unseen: The most frequent words of the current set that the reference lacks, and in how
            many conversations they are.
    """

    sizes: dict[str, dict[str, int]]
    levels: dict[str, dict[str, float]]
    shifts: list[Shift]
    expected: dict[str, dict[str, Interval]]
    unseen: dict[str, int]

    @property
    def drifted(self) -> list[str]:
        """Names of what has drifted."""
        return [shift.name for shift in self.shifts if shift.drifted]


def compare(
    rows: ScoredRows,
    features: Sequence[Feature],
    current: BoolArray,
    thresholds: DriftThresholds,
) -> DriftReport:
    """Compare the current conversations with the others.

    Args:
        rows: Both sets.
        features: Theirs.
        current: Which conversations are current, bool (conversations,).
        thresholds: What counts as drift.

    Raises:
        ScoredFileError: A set has too few conversations.
    """
    named = dict(zip(("reference", "current"), sides(current), strict=True))
    for name, side in named.items():
        if side.sum() < FEWEST_CONVERSATIONS:
            raise ScoredFileError(
                f"{name} holds {side.sum()} conversations; a comparison needs at least"
                f" {FEWEST_CONVERSATIONS}"
            )
    unseen = next(part for part in features if isinstance(part, UnseenWords))
    counts = next(part for part in features if isinstance(part, ExpectedDrop)).counts
    inside = {name: side[rows.conversations] for name, side in named.items()}
    return DriftReport(
        sizes={
            name: {"rows": int(inside[name].sum()), "conversations": int(side.sum())}
            for name, side in named.items()
        },
        levels={
            name: {level.label: float((rows.levels[mask] == level).mean()) for level in Level}
            for name, mask in inside.items()
        },
        shifts=find_shifts(features, current, thresholds),
        expected=expected_intervals(*(counts[side] for side in sides(current))),
        unseen=unseen.most_frequent(current, UNSEEN_SHOWN),
    )


def format_report(report: DriftReport, thresholds: DriftThresholds) -> str:
    """Return the report as Markdown that reads well in a terminal."""
    sizes = "; ".join(
        f"{name}: {size['rows']:,} rows, {size['conversations']:,} conversations"
        for name, size in report.sizes.items()
    )
    levels = [
        (level, f"{share:.1%}", f"{report.levels['current'][level]:.1%}")
        for level, share in report.levels["reference"].items()
    ]
    shifts = [
        (
            shift.name,
            _shown(shift.name, shift.reference),
            _shown(shift.name, shift.current),
            f"{shift.size:.3f}",
            f"{getattr(thresholds, shift.threshold):g} {shift.threshold}",
            f"{shift.p_value:.3f}",
            "DRIFT" if shift.drifted else "",
        )
        for shift in report.shifts
    ]
    expected = [
        (name, *(_with_interval(parts[part]) for part in ("reference", "current")),
         _with_interval(parts["difference"], "+"))
        for name, parts in report.expected.items()
    ]  # fmt: skip
    lines = [sizes, "", *_table(("level", "reference", "current"), levels), ""]
    header = ("what", "reference", "current", "size", "counts from", "p", "verdict")
    lines += _table(header, shifts)
    if report.unseen:
        words = ", ".join(report.unseen)
        lines += ["", f"Words of most conversations that the reference lacks: {words}"]
    lines += ["", *_table(("expected", "reference", "current", "difference"), expected), CAUTION]
    return "\n".join([*lines, "", f"drift: {', '.join(report.drifted) or 'none'}"])


def drift_figures(report: DriftReport) -> dict[str, float]:
    """Return every figure under the name that MLflow shows; what is undefined is left out."""
    found = {"drift/count": float(len(report.drifted))}
    for shift in report.shifts:
        for name in ("reference", "current", "size", "p_value", "drifted"):
            found[f"drift/{shift.name}/{name}"] = float(getattr(shift, name))
    return {name: value for name, value in found.items() if math.isfinite(value)}


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


def _write(text: str, out: Path) -> None:
    with open_output(out) as stream:
        stream.write(text + "\n")


def _to_json(report: DriftReport, about: Mapping[str, str]) -> str:
    shifts = [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(shift).items()
        }
        for shift in report.shifts
    ]
    content: dict[str, Any] = {**about, "drifted": report.drifted, **asdict(report)}
    return json.dumps({**content, "shifts": shifts}, indent=1, ensure_ascii=False)


@errors_in_one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_parser("drift", __doc__)
    parser.add_argument("--reference", type=Path, required=True, metavar="FILE")
    parser.add_argument("--current", type=Path, required=True, metavar="FILE")
    parser.add_argument("--bundle", type=Path, default=default_bundle_path(), metavar="FOLDER",
                        help="what both were labelled by; default: the shipped one")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--thresholds", type=Path, default=THRESHOLDS_FILE, metavar="FILE")
    add_config_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    overrides = ["run_name=drift", "run_dir=runs/drift", *options.overrides]
    config = read_config(options.config, overrides)
    thresholds = read_thresholds(options.thresholds)
    if options.json:
        check_writable(options.json)
        if options.json.resolve() in {options.reference.resolve(), options.current.resolve()}:
            raise ScoredFileError(f"--json {options.json} is a file to read; name another one")
    bundle = read_bundle(options.bundle)
    rows, files = read_scored([options.reference, options.current], bundle)
    current = files == 1
    features = build_features(rows)
    report = compare(rows, features, current, thresholds)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RUN_ID_FILE).unlink(missing_ok=True)
    about = {
        "reference": str(options.reference),
        "current": str(options.current),
        "model_version": bundle.manifest.model_version,
    }
    text = format_report(report, thresholds)
    written = [run_dir / "drift.md", run_dir / "drift.json"]
    _write(text, written[0])
    for out in filter(None, (written[1], options.json)):
        _write(_to_json(report, about), out)
    written += draw_drift_figures(
        features, current, report.expected, report.drifted, run_dir / "figures"
    )
    with Tracker(
        config, {"model_version": about["model_version"]}, about | asdict(thresholds)
    ) as tracker:
        tracker.log_figures(drift_figures(report))
        tracker.log_files(written, "drift")
    print(text)
    return DRIFT if report.drifted else 0


if __name__ == "__main__":
    sys.exit(main())
