"""Which figures of an evaluation MLflow keeps, and under what names."""

from collections.abc import Mapping
from typing import Any

from training.evaluation import HEADLINE
from training.report_tables import SLICE_METRICS


def report_figures(report: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the figures of an evaluation under the names that MLflow shows.

    Of several thousand they are some hundred, because the UI draws a chart of each: intervals of
    the headline figures alone, and of each slice `SLICE_METRICS`. The report has them all.

    Args:
        report: What `training.evaluation.evaluate` returned, or what its ``public`` holds.
        prefix: Of the names: ``"test"`` or ``"test_public"``.
    """
    figures: dict[str, float] = {}
    for name, found in report["metrics"].items():
        figures[f"{prefix}{'_labels' if '.' in name else ''}/{name}"] = found["value"]
    for group, metrics in (("", report["metrics"]), ("_difference", report["difference"])):
        for name in HEADLINE:
            if found := metrics.get(name):
                place = f"{prefix}{group}/{name}"
                figures |= {place: found["value"]}
                figures |= {f"{place}_low": found["low"], f"{place}_high": found["high"]}
    for name in HEADLINE:
        if found := report["baseline"].get(name):
            figures[f"{prefix}_baseline/{name}"] = found["value"]
    for slice_name, part in report["slices"].items():
        # MLflow allows neither "=" nor "+" in names.
        place = slice_name.replace("=", ".").replace("+", "_up")
        for group, metrics in (("", part["metrics"]), ("_baseline", part["baseline"])):
            for name in SLICE_METRICS:
                if found := metrics.get(name):
                    figures[f"{prefix}{group}_slices/{place}/{name}"] = found["value"]
    for probe, found in report.get("robustness", {}).items():
        if found["rows"]:
            figures[f"{prefix}_robustness/{probe}_failures"] = found["failures"]
    return figures
