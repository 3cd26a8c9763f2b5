import numpy as np
import pytest

from training.confident import (
    class_thresholds,
    confident_joint,
    distance,
    estimated_errors,
    margin,
    self_confidence,
    shifted,
)

GIVEN = np.array([0, 0, 1, 1, 2])
SAID = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.2, 0.7, 0.1],  # called 0, confidently a 1
        [0.1, 0.6, 0.3],
        [0.3, 0.5, 0.2],  # no class reaches its threshold
        [0.2, 0.2, 0.6],
    ]
)


def test_a_threshold_is_the_mean_confidence_of_those_who_are_given_the_class():
    assert class_thresholds(GIVEN, SAID) == pytest.approx([0.5, 0.55, 0.6])
    assert class_thresholds(np.array([0, 0]), SAID[:2]) == pytest.approx([0.5, 1, 1])


def test_the_confident_joint_and_the_errors_that_it_estimates():
    assert confident_joint(GIVEN, SAID).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    # One of the two counted 0s is a 1, and there are two 0s; of the counted 1s and 2s none errs.
    assert estimated_errors(GIVEN, SAID) == pytest.approx(1.0)


def test_a_row_that_reaches_several_thresholds_belongs_to_the_most_probable():
    given = np.array([0, 1, 2])
    said = np.array([[0.4, 0.5, 0.1], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4]])
    # Thresholds are .4, .4, .4: the first reaches 0 and 1, the second too.
    assert confident_joint(given, said).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_rankings_by_hand():
    assert self_confidence(GIVEN, SAID) == pytest.approx([0.2, 0.8, 0.4, 0.5, 0.4])
    assert margin(GIVEN, SAID) == pytest.approx([-0.7, 0.5, -0.3, -0.2, -0.4])
    assert distance(GIVEN, SAID) == pytest.approx([0.3, 0.9, 0.4, 0.5, 0.6])


def test_only_distance_knows_that_far_is_worse_than_near():
    said = np.array([[0.6, 0.0, 0.0, 0.4], [0.0, 0.0, 0.6, 0.4]])
    given = np.array([3, 3])
    assert self_confidence(given, said)[0] == self_confidence(given, said)[1]
    assert margin(given, said)[0] == margin(given, said)[1]
    assert distance(given, said) == pytest.approx([1.8, 0.6])


def test_shifting_is_fair_to_a_class_of_which_the_model_is_rarely_sure():
    assert shifted(GIVEN, SAID)[0] == pytest.approx(np.array([0.9, 0.15, 0.1]) / 1.15)
    rare = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3]])
    given = np.array([0, 0, 1])
    # The last is as sure of class 1 as a model here ever is, so it is no longer suspicious.
    assert self_confidence(given, rare)[2] == pytest.approx(0.7)
    assert self_confidence(given, shifted(given, rare))[2] < 0.5
