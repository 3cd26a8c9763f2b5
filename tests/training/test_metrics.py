import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from deesc_model import SIGNALS, TRIGGERS
from deesc_model.scoring import (
    LEVEL_HEADS,
    MISSED_HEATED_COST,
    Calibration,
    Logits,
    Scores,
    level_scores,
    predicted_levels,
    sigmoid,
)
from training.calibration import (
    best_threshold,
    certainty_threshold,
    expected_threshold,
    fit_calibration,
    fit_threshold,
    missed_heated_cost,
)
from training.metrics import (
    Gold,
    average_precision,
    bootstrap_weights,
    calibration_by_chance,
    calibration_error,
    compute_metrics,
    confusion_matrix,
    intervals,
    wilson_interval,
)


def random_case(seed: int, rows: int = 300) -> tuple[Gold, Scores]:
    random = np.random.default_rng(seed)
    levels = random.integers(0, 5, rows)
    level_logits = random.normal(size=(rows, 5)) + 2 * np.eye(5)[levels]
    labels = {}
    for name, width in (("triggers", len(TRIGGERS)), ("signals", len(SIGNALS))):
        truth = random.random((rows, width)) < 0.3
        labels[name] = (
            truth,
            np.round(sigmoid(random.normal(size=truth.shape) + 2 * truth - 1), 2),
        )
    gold = Gold(levels, labels["triggers"][0], labels["signals"][0])
    scores = Scores(
        level_scores(level_logits, "softmax"), labels["triggers"][1], labels["signals"][1]
    )
    return gold, scores


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_figures_equal_scikit_learns(seed):
    gold, scores = random_case(seed)
    found = {
        k: v[0] for k, v in compute_metrics(gold, scores, Calibration(), np.ones((1, 300))).items()
    }
    levels = predicted_levels(scores)
    triggers, signals = scores.triggers >= 0.5, scores.signals >= 0.5
    expected = {
        "level_macro_f1": oracle.f1_score(gold.levels, levels, average="macro"),
        "level_accuracy": oracle.accuracy_score(gold.levels, levels),
        "level_qwk": oracle.cohen_kappa_score(gold.levels, levels, weights="quadratic"),
        "level_mae": oracle.mean_absolute_error(gold.levels, levels),
        "level_off_by_two": np.mean(np.abs(gold.levels - levels) >= 2),
        "level.angry.f1": oracle.f1_score(gold.levels, levels, average=None)[3],
        "trigger_micro_f1": oracle.f1_score(gold.triggers, triggers, average="micro"),
        "trigger_macro_f1": oracle.f1_score(gold.triggers, triggers, average="macro"),
        "trigger_macro_ap": oracle.average_precision_score(gold.triggers, scores.triggers),
        "signal_micro_f1": oracle.f1_score(gold.signals, signals, average="micro"),
        "signal_macro_ap": oracle.average_precision_score(gold.signals, scores.signals),
        "trigger.access.f1": oracle.f1_score(gold.triggers[:, 9], triggers[:, 9]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    confusion = oracle.confusion_matrix(gold.levels, levels, labels=range(5))
    assert (confusion_matrix(gold.levels, scores) == confusion).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_weighted_average_precision_equals_scikit_learns(seed):
    gold, scores = random_case(seed, 80)
    weights = np.random.default_rng(seed).integers(0, 4, 80).astype(float)
    found = average_precision(gold.signals, scores.signals, weights[None])
    for column in range(len(SIGNALS)):
        expected = oracle.average_precision_score(
            gold.signals[:, column], scores.signals[:, column], sample_weight=weights
        )
        assert found[0, column] == pytest.approx(expected)


def test_a_weight_of_two_is_a_row_twice():
    gold, scores = random_case(1, 60)
    weights = np.random.default_rng(0).integers(0, 3, (1, 60)).astype(float)
    rows = np.repeat(np.arange(60), weights[0].astype(int))
    weighted = compute_metrics(gold, scores, Calibration(), weights)
    repeated = compute_metrics(
        Gold(gold.levels[rows], gold.triggers[rows], gold.signals[rows]),
        Scores(scores.level[rows], scores.triggers[rows], scores.signals[rows]),
        Calibration(),
        np.ones((1, len(rows))),
    )
    assert {k: v[0] for k, v in weighted.items()} == pytest.approx(
        {k: v[0] for k, v in repeated.items()}
    )


def test_calibration_error_by_hand():
    # Bin of 0.9: 3 of 4 right, gap 0.15; bin of 0.6: 0 of 1 right, gap 0.6.
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6])
    correct = np.array([True, True, True, False, False])
    error = calibration_error(confidence, correct, np.ones((1, 5)))
    assert error[0] == pytest.approx((4 * 0.15 + 0.6) / 5)


@pytest.mark.parametrize(
    ("confidence", "found", "within"),
    [
        ([1.0] * 9, 0.0, 0),  # none is wrong
        ([0.5], 0.5, 0),  # right or wrong: half off
        ([0.9], 0.9, 1e-9),  # one draw in ten is wrong
        ([0.5] * 100, 0.1, 0.02),  # 1.96 standard deviations of the mean of 100
        ([0.5] * 10_000, 0.01, 0.002),
    ],
)
def test_what_calibration_error_is_chance(confidence, found, within):
    confidence = np.array(confidence)
    assert calibration_by_chance(confidence, seed=1) == pytest.approx(found, abs=within)
    assert calibration_by_chance(confidence, seed=1) == calibration_by_chance(confidence, seed=1)


@pytest.mark.parametrize(
    ("hits", "count", "ends"),
    [(0, 200, (0, 0.0188)), (60, 300, (0.1587, 0.2489)), (10, 10, (0.7225, 1))],
)
def test_wilsons_interval(hits, count, ends):
    assert wilson_interval(hits, count) == pytest.approx(ends, abs=1e-4)


def test_bootstrap_draws_whole_conversations():
    groups = ["a", "a", "b", "c", "c", "c"]
    weights = bootstrap_weights(groups, 200, seed=1)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[1:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights.std() > 0


def test_the_interval_of_a_mean_covers_as_often_as_it_says():
    # 95 % of intervals should hold the true accuracy 0.7; 120 trials allow 0.88 to 1.
    hits = 0
    for seed in range(120):
        random = np.random.default_rng(seed)
        correct = random.random(100) < 0.7
        weights = bootstrap_weights([str(i) for i in range(100)], 300, seed)
        interval = intervals({"accuracy": weights @ correct / weights.sum(axis=1)})["accuracy"]
        hits += interval.low <= 0.7 <= interval.high
    assert hits / 120 > 0.88


def test_labels_that_never_occur_do_not_count():
    gold, scores = random_case(2, 50)
    absent = Gold(gold.levels, np.zeros_like(gold.triggers), gold.signals)
    silent = Scores(scores.level, np.zeros_like(scores.triggers), scores.signals)
    assert "trigger_macro_f1" not in intervals(
        compute_metrics(absent, silent, Calibration(), np.ones((2, 50)))
    )


def test_the_threshold_with_the_best_f1_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.4, 0.2])
    truth = np.array([True, False, True, False, False])
    assert best_threshold(scores, truth) == pytest.approx((0.7 + 0.4) / 2)  # F1 0.8


def test_a_threshold_is_halfway_between_what_rows_and_what_scores_say():
    scores, truth = np.array([0.1, 0.9, 0.6, 0.3]), np.array([False, True, True, True])
    # Expected F1 with the first, two, three, all: 1.8/2.9, 3/3.9, 3.6/4.9, 3.8/5.9.
    assert expected_threshold(scores) == pytest.approx((0.6 + 0.3) / 2)
    assert best_threshold(scores, truth) == pytest.approx((0.3 + 0.1) / 2)  # F1 1
    assert fit_threshold(scores, truth) == pytest.approx((0.45 + 0.2) / 2)


def test_calibration_recovers_a_known_distortion():
    random = np.random.default_rng(3)
    count = 20_000
    true_logits = random.normal(size=(count, 5)) * 2
    cumulative = level_scores(true_logits, "softmax").cumsum(axis=1)
    levels = (random.random((count, 1)) > cumulative).sum(axis=1).clip(0, 4)
    label_logits = random.normal(size=(count, 1)) * 2
    drawn = random.random((count, 1)) < sigmoid(label_logits)
    gold = Gold(levels, np.repeat(drawn, 11, axis=1), np.repeat(drawn, 5, axis=1))
    distorted = Logits(
        true_logits * 3,
        np.repeat(label_logits * 4 + 2, 11, axis=1),
        np.repeat(label_logits, 5, axis=1),
    )
    calibration = fit_calibration(distorted, gold, "softmax", 0.1, np.zeros(len(gold.levels), bool))
    assert calibration.temperature == pytest.approx(3, rel=0.05)
    assert calibration.triggers["billing"].slope == pytest.approx(1 / 4, rel=0.1)
    assert calibration.triggers["billing"].intercept == pytest.approx(-1 / 2, abs=0.1)
    assert calibration.signals["harm_threat"].slope == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(("head", "width"), LEVEL_HEADS.items())
def test_biases_undo_what_weights_of_the_loss_did(head, width):
    random = np.random.default_rng(4)
    logits = random.normal(size=(20_000, width)) * 2
    cumulative = level_scores(logits, head).cumsum(axis=1)
    levels = (random.random((20_000, 1)) > cumulative).sum(axis=1).clip(0, 4)
    shift = np.array([0.0, 0.4, -0.2, 0.8, 1.0])[:width]
    labels = np.zeros((20_000, 11), bool), np.zeros((20_000, 5), bool)
    given = Logits(2 * (logits + shift), *(part.astype(float) for part in labels))

    def fit(rows: slice) -> Calibration:
        chosen = Logits(given.level[rows], given.triggers[rows], given.signals[rows])
        gold = Gold(levels[rows], *(part[rows] for part in labels))
        return fit_calibration(chosen, gold, head, 0.1, np.zeros(len(gold.levels), bool))

    found = fit(slice(None))
    wanted = -shift if head == "corn" else shift.mean() - shift  # of softmax only differences count
    assert found.temperature == pytest.approx(2, rel=0.05)
    assert found.level_biases == pytest.approx(wanted.tolist(), abs=0.1)
    assert np.abs(fit(slice(10)).level_biases).max() < 0.7  # ten rows say little


@pytest.mark.parametrize(
    ("error_rate", "threshold"),
    [(0.0, 0.85), (0.25, 0.55), (0.3, 0.55), (0.5, 0.0)],
)
def test_what_is_certain_is_wrong_no_more_often_than_was_asked(error_rate, threshold):
    confidence = np.array([0.5, 0.9, 0.6, 0.8, 0.7])
    correct = np.array([False, True, True, False, True])
    assert certainty_threshold(confidence, correct, error_rate) == pytest.approx(threshold)


def test_certainty_is_fitted_to_the_harder_kind_of_text():
    levels = np.arange(400) % 2
    said = np.where(np.arange(400) < 50, 1 - levels, levels)
    level_logits = np.zeros((400, 5))  # of the public half, the 50 least certain ones are wrong
    level_logits[np.arange(400), said] = np.tile(np.linspace(3, 7, 200), 2)
    gold = Gold(levels, np.zeros((400, 11), bool), np.zeros((400, 5), bool))
    logits = Logits(level_logits, np.zeros((400, 11)), np.zeros((400, 5)))
    public = np.arange(400) < 200
    mixed = fit_calibration(logits, gold, "softmax", 0.2, ~public & public)
    apart = fit_calibration(logits, gold, "softmax", 0.2, public)
    assert mixed.certain_from == 0.0  # 50 of 400 are wrong
    assert apart.certain_from > 0.0  # 50 of 200 are
    few = public & (np.arange(400) % 2 == 0)  # a hundred of which 25 are wrong
    assert fit_calibration(logits, gold, "softmax", 0.2, few).certain_from == 0.0


def test_the_level_is_calibrated_to_public_texts_where_there_are_some():
    random = np.random.default_rng(5)
    logits = random.normal(size=(4_000, 5))
    levels = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
    public = np.arange(4_000) < 2_000
    sharp = np.where(public[:, None], 2 * logits, 5 * logits)  # twice and five times too sure
    labels = np.zeros((4_000, 11), bool), np.zeros((4_000, 5), bool)
    given = Logits(sharp, *(part.astype(float) for part in labels)), Gold(levels, *labels)
    assert fit_calibration(*given, "softmax", 0.1, public).temperature == pytest.approx(2, rel=0.1)
    mixed = fit_calibration(*given, "softmax", 0.1, np.zeros(4_000, bool))
    assert mixed.temperature > 2.5
    few = fit_calibration(*given, "softmax", 0.1, np.arange(4_000) < 199)
    assert few.temperature > 2.5


def test_heated_customers_are_found_as_often_as_asked():
    levels = np.array([3] * 20 + [2] * 5)
    heated = np.array([0.9] * 16 + [0.32] * 2 + [0.12] * 2 + [0.4] * 5)
    level = np.stack([0 * heated, 0 * heated, 1 - heated, heated, 0 * heated], axis=1)
    # Level 2 costs .32 x (1 + cost), level 3 .68: 18 of 20 from 1.125 on, 16 before.
    assert missed_heated_cost(level, levels) == 1.5
    assert missed_heated_cost(level[:17], levels[:17]) == 0  # 16 of 17
    assert missed_heated_cost(level[16:], levels[16:]) == MISSED_HEATED_COST  # four are too few
    level[:20] = [0, 0, 0.99, 0.01, 0]
    assert missed_heated_cost(level, levels) == MISSED_HEATED_COST  # none finds them


def test_rows_of_one_confidence_are_certain_together_or_not_at_all():
    confidence = np.array([0.9, 0.8, 0.8])
    assert certainty_threshold(confidence, np.array([True, True, False]), 0.2) == pytest.approx(
        0.85
    )
    assert certainty_threshold(confidence, np.array([False, False, False]), 0.2) == 1.0


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.1, 0.3]))
def test_the_error_rate_holds_on_the_rows_it_was_fitted_to(seed, error_rate):
    random = np.random.default_rng(seed)
    confidence = random.integers(20, 100, 80) / 100
    correct = random.random(80) < confidence
    certain = confidence >= certainty_threshold(confidence, correct, error_rate)
    assert not certain.any() or (~correct[certain]).mean() <= error_rate


def test_a_label_too_rare_to_calibrate_stays_plain():
    gold = Gold(np.arange(20) % 5, np.zeros((20, 11), bool), np.zeros((20, 5), bool))
    calibration = fit_calibration(
        Logits(np.eye(5)[gold.levels], np.zeros((20, 11)), np.zeros((20, 5))),
        gold,
        "softmax",
        0.1,
        np.zeros(20, bool),
    )
    assert (calibration.triggers["other"].slope, calibration.triggers["other"].threshold) == (
        1.0,
        0.5,
    )
