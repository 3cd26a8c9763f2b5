"""The description of a run in MLflow: its headline figures, beside the baseline, in plain words."""

from collections.abc import Mapping
from typing import Any

from training.descriptions import EVALUATED
from training.evaluation import HEADLINE
from training.report_tables import figure_cell, has_intervals, interval_words

PAGE = "report/report.html"
"""Where a run keeps its page, among its artifacts."""


def run_note(report: Mapping[str, Any], model_version: str) -> str:
    """Return Markdown.

    Args:
        report: What `training.evaluation.evaluate` returned for the test split.
        model_version: What was trained.
    """
    lines = [
        f"**{model_version}** on {report['rows']:,} test utterances of the corpus. All figures,"
        f" pictures and errors: Artifacts, `{PAGE}`. What each metric says: `metrics.json` there."
        f" Here {interval_words(report)}.",
        "",
        "| figure | in plain words | best | model | TF-IDF | difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    shown = has_intervals(report)
    for name in HEADLINE:
        metric = EVALUATED[name]
        lines.append(
            f"| `{name}` | {metric.words} | {metric.best}"
            f" | {figure_cell(report['metrics'], name, interval=shown)}"
            f" | {figure_cell(report['baseline'], name, interval=shown)}"
            f" | {figure_cell(report['difference'], name, signed=True, interval=shown)} |"
        )
    return "\n".join(lines)
