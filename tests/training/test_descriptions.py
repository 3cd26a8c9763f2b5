"""Every figure that is logged is described, and its name stays what it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluations import answer
from test_metrics import random_case

from training.descriptions import EVALUATED, PROBED, describe, metric_table
from training.evaluation import HEADLINE
from training.metrics import compute_metrics
from training.report_figures import report_figures
from training.robustness import PROBE_NAMES

SHIPPED = json.loads(Path("models/default/metrics.json").read_text(encoding="utf-8"))


def logged():
    return report_figures(SHIPPED, "test") | report_figures(SHIPPED["public"], "test_public")


def test_every_figure_of_a_whole_evaluation_is_described():
    figures = logged()
    assert [name for name in figures if describe(name) is None] == []
    assert 300 < len(figures) < 700  # the UI draws a chart of each


def test_what_is_measured_and_what_is_described_are_the_same():
    gold, scores = random_case(1)
    calibration = answer()([]).calibration
    found = compute_metrics(gold, scores, calibration, np.ones((1, len(gold.levels))))
    assert {name for name in found if "." not in name} == set(EVALUATED)
    assert all(describe(f"test_labels/{name}") for name in found if "." in name)
    assert set(PROBED) == set(PROBE_NAMES)


@pytest.mark.parametrize(
    "name",
    [
        "level_qwk",
        "test/level_quality",
        "test/level.angry.f1",
        "test_labels/level_qwk",
        "test_labels/trigger.angry.f1",
        "test_slices/level_qwk",
        "test_slices/weather.rain/level_qwk",
        "test_robustness/whisper_failures",
        "test/policy/level_qwk",
        "train/speed",
    ],
)
def test_a_name_that_nobody_described_has_no_description(name):
    assert describe(name) is None


def test_a_description_says_of_what_the_figure_is():
    metric = describe("test_public_baseline_slices/channel.chat/level_mae")
    assert metric.words == (
        "levels that a prediction is off by, on average (of TF-IDF with logistic regression;"
        " only channel chat; public texts, test split)"
    )
    assert metric.best == "0"
    assert describe("test_difference/level_mae_low").best == ""  # a difference has no best value


def test_names_that_charts_and_dashboards_rely_on():
    assert HEADLINE == (
        "level_macro_f1",
        "level_qwk",
        "level_mae",
        "level_off_by_two",
        "level_ece",
        "level_heated_recall",
        "level_false_alarms",
        "level_coverage",
        "level_certain_error",
        "trigger_micro_f1",
        "trigger_macro_f1",
        "trigger_macro_ap",
        "signal_micro_f1",
        "signal_macro_f1",
        "signal_macro_ap",
    )
    figures = logged()
    for name in HEADLINE:
        for prefix in ("test", "test_public"):
            assert {f"{prefix}/{name}", f"{prefix}/{name}_low", f"{prefix}/{name}_high"} <= set(
                figures
            )
            assert f"{prefix}_baseline/{name}" in figures
            assert f"{prefix}_difference/{name}_low" in figures
    assert figures["test/level_qwk"] == SHIPPED["metrics"]["level_qwk"]["value"]
    assert {
        "test_labels/level.angry.f1",
        "test_labels/trigger.billing.ap",
        "test_slices/words.41_up/level_macro_f1",
        "test_baseline_slices/channel.phone/trigger_macro_f1",
        "test_robustness/typo_failures",
    } <= set(figures)


def test_the_document_has_the_same_words():
    assert metric_table() in Path("docs/analysts.md").read_text(encoding="utf-8")
