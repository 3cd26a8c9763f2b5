from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deesc_model.scoring import (
    LEVEL_HEADS,
    Calibration,
    LabelCalibration,
    Logits,
    Scores,
    calibrated_scores,
    combine_windows,
    decide_levels,
    level_confidence,
    level_costs,
    level_scores,
    predicted_labels,
    predicted_levels,
    sigmoid,
    uncertain_levels,
)


def test_softmax_by_hand():
    scores = level_scores(np.log([[1.0, 2.0, 3.0, 2.0, 2.0]]), "softmax")
    assert scores[0] == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.2])


def test_temperature_two_takes_square_roots_of_the_odds():
    scores = level_scores(np.log([[1.0, 4.0, 16.0, 4.0, 1.0]]), "softmax", temperature=2.0)
    assert scores[0] == pytest.approx([0.1, 0.2, 0.4, 0.2, 0.1])


def test_corn_by_hand():
    # P(>0) = 1/2, P(>1 | >0) = 3/4, P(>2 | >1) = 1/2, P(>3 | >2) = 1/4
    logits = np.log([[1.0, 3.0, 1.0, 1 / 3]])
    above = [0.5, 0.375, 0.1875, 0.046875]
    expected = [
        1 - above[0],
        above[0] - above[1],
        above[1] - above[2],
        above[2] - above[3],
        above[3],
    ]
    assert level_scores(logits, "corn")[0] == pytest.approx(expected)


@pytest.mark.parametrize(("head", "width"), LEVEL_HEADS.items())
@given(data=st.data())
def test_level_scores_are_probabilities(head, width, data):
    logits = data.draw(arrays(float, (3, width), elements=st.floats(-1e4, 1e4)))
    scores = level_scores(logits, head, data.draw(st.floats(0.1, 10)))
    assert (scores >= -1e-12).all()
    assert scores.sum(axis=1) == pytest.approx(np.ones(3))


@given(st.floats(-1e6, 1e6))
def test_sigmoid_is_stable_and_symmetric(value):
    up, down = sigmoid(np.array([value, -value]))
    assert 0 <= up <= 1
    assert up + down == pytest.approx(1)


def test_platt_scaling_and_threshold_by_hand():
    labels = {"a": LabelCalibration(2.0, -1.0, 0.7), "b": LabelCalibration()}
    calibration = Calibration(triggers=labels, signals={"c": LabelCalibration()})
    logits = Logits(np.zeros((1, 5)), np.array([[1.0, 0.0]]), np.array([[-1.0]]))
    scores = calibrated_scores(logits, calibration)
    assert scores.triggers[0] == pytest.approx([1 / (1 + np.exp(-1)), 0.5])
    assert predicted_labels(scores.triggers, calibration.trigger_arrays).tolist() == [[True, True]]
    unsure = np.array([[0.69, 0.49]])
    assert not predicted_labels(unsure, calibration.trigger_arrays).any()
    assert predicted_levels(scores).tolist() == [3]  # all levels are as likely


def test_what_errors_cost_by_hand():
    assert level_costs(5.0).tolist() == [
        [0, 1, 3, 8, 8],
        [1, 0, 1, 8, 8],
        [3, 1, 0, 6, 8],
        [3, 3, 1, 0, 1],
        [3, 3, 3, 1, 0],
    ]


def test_the_level_is_the_one_that_is_expected_to_cost_least():
    level = np.array(
        [
            [0.6, 0.2, 0.1, 0.1, 0.0],
            [0.4, 0.1, 0.3, 0.2, 0.0],  # calm is the most probable, and the next is never far off
            [0.4, 0.0, 0.4, 0.1, 0.1],  # concerned costs 1.8, angry 1.7
            [0.0, 0.0, 0.7, 0.3, 0.0],  # frustrated costs .9, angry .7
            [0.7, 0.0, 0.0, 0.0, 0.3],  # calm costs 1.5, abusive 2.1
            [0.0, 0.0, 0.0, 0.25, 0.75],
        ]
    )
    scores = Scores(level, np.zeros((6, 11)), np.zeros((6, 5)))
    levels = predicted_levels(scores)
    assert levels.tolist() == [0, 1, 3, 3, 0, 4]
    assert level_confidence(level, levels).tolist() == [0.6, 0.1, 0.1, 0.3, 0.7, 0.75]
    unsure = uncertain_levels(scores, levels, Calibration(certain_from=0.3))
    assert unsure.tolist() == [False, True, True, False, False, False]
    patient, eager = (replace(scores, missed_heated_cost=cost) for cost in (0.0, 5.0))
    assert predicted_levels(patient).tolist() == [0, 1, 1, 2, 0, 4]
    assert predicted_levels(eager).tolist() == [0, 3, 3, 3, 4, 4]


@given(st.integers(0, 10_000), st.floats(0, 20))
def test_no_other_level_costs_less_among_many_customers(seed, missed_heated_cost):
    random = np.random.default_rng(seed)
    level = random.dirichlet(np.ones(5))
    true = random.choice(5, 200, p=level)
    drawn = np.bincount(true, minlength=5) / len(true)

    def cost(given: int) -> float:
        off = np.abs(true - given)
        missed = (given < 3) & (true >= 3)
        return float(((off >= 1) + 2.0 * (off >= 2) + missed_heated_cost * missed).mean())

    (chosen,) = decide_levels(drawn[None], missed_heated_cost)
    assert cost(chosen) == pytest.approx(min(map(cost, range(5))))


def test_a_long_text_is_as_heated_as_its_most_heated_window():
    level = np.array([[9.0, 0, 0, 0, 0], [0, 0, 0, 9.0, 0], [0, 9.0, 0, 0, 0], [9.0, 0, 0, 0, 0]])
    triggers = np.array([[1.0, -1.0], [0.0, 3.0], [2.0, 2.0], [-1.0, -1.0]])
    signals = np.array([[-5.0], [-4.0], [-3.0], [-2.0]])
    owners = np.array([1, 0, 0, 1])
    combined = combine_windows(Logits(level, triggers, signals), owners, 2, Calibration())
    assert combined.level.tolist() == [level[1].tolist(), level[0].tolist()]
    assert combined.triggers.tolist() == [[2.0, 3.0], [1.0, -1.0]]
    assert combined.signals.tolist() == [[-3.0], [-2.0]]


def test_windows_are_compared_by_the_levels_that_they_are_given():
    level = np.log([[0.30, 0.30, 0.10, 0.15, 0.15], [0.05, 0.60, 0.35, 0.0001, 0.0001]])
    logits = Logits(level, np.zeros((2, 11)), np.zeros((2, 5)))

    def chosen(calibration: Calibration) -> list[float]:
        return combine_windows(logits, np.zeros(2, np.int64), 1, calibration).level[0].tolist()

    # The first is heated where missing that costs 5; else both are given level 1, and it has the
    # higher mean.
    assert chosen(Calibration(missed_heated_cost=5)) == level[0].tolist()
    assert chosen(Calibration(missed_heated_cost=0)) == level[0].tolist()
    # Biases that halve what is heated leave it calm.
    biases = (0.7, 0.0, 0.0, -1.0, -1.0)
    assert chosen(Calibration(missed_heated_cost=0, level_biases=biases)) == level[1].tolist()


def test_single_windows_only_change_order():
    logits = Logits(np.eye(5)[:3], np.arange(3.0)[:, None], np.arange(3.0)[:, None])
    combined = combine_windows(logits, np.array([2, 0, 1]), 3, Calibration())
    assert combined.triggers[:, 0].tolist() == [1.0, 2.0, 0.0]
