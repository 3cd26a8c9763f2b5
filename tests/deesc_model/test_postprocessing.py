from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deesc_model.labels import SIGNALS, TRIGGERS, Level
from deesc_model.postprocessing import Postprocessor
from deesc_model.scoring import (
    LEVEL_HEADS,
    Calibration,
    LabelCalibration,
    Logits,
    calibrated_scores,
    expected_levels,
    level_costs,
    predicted_labels,
    predicted_levels,
    uncertain_levels,
)


def logits_of(level: list[float], triggers: list[float], signals: list[float]) -> Logits:
    return Logits(*(np.array([row], dtype=np.float32) for row in (level, triggers, signals)))


def test_a_row_by_hand():
    triggers = {label: LabelCalibration(threshold=0.9) for label in TRIGGERS}
    triggers[TRIGGERS[2]] = LabelCalibration(slope=2.0, intercept=-1.0, threshold=0.7)
    calibration = replace(
        Calibration(temperature=2.0, certain_from=0.4, missed_heated_cost=3.0), triggers=triggers
    )
    level = (2 * np.log([4.0, 2.0, 1.0, 2.0, 1.0])).tolist()
    logits = logits_of(level, [1.0] * len(TRIGGERS), [0.0, *[-1.0] * (len(SIGNALS) - 1)])
    (found,) = Postprocessor(calibration, "some@1")(logits)
    assert found.level == Level.ANGRY  # 2.2, calm 2.7, concerned 2.3, frustrated 2.6
    assert found.level_scores == pytest.approx((0.4, 0.2, 0.1, 0.2, 0.1))
    assert found.frustration == pytest.approx(1.4)
    assert found.uncertain
    assert found.triggers == (TRIGGERS[2],)
    assert list(found.trigger_scores) == list(TRIGGERS)
    assert found.trigger_scores[TRIGGERS[2]] == pytest.approx(0.731, abs=1e-3)
    assert found.signals == (SIGNALS[0],)
    assert found.signal_scores[SIGNALS[0]] == 0.5
    assert found.model_version == "some@1"


def test_biases_of_the_level_are_added_after_the_temperature():
    calibration = Calibration(temperature=2.0, level_biases=(*np.log([1.0, 3.0, 1.0, 1.0, 2.0]),))
    logits = logits_of((2 * np.log([1.0, 1.0, 2.0, 1.0, 1.0])).tolist(), [0.0] * 11, [0.0] * 5)
    (found,) = Postprocessor(calibration, "some@1")(logits)
    assert found.level_scores == pytest.approx((1 / 9, 3 / 9, 2 / 9, 1 / 9, 2 / 9))


@pytest.mark.parametrize(("head", "width"), LEVEL_HEADS.items())
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.filter_too_much]
)  # simplest numbers touch thresholds
@given(data=st.data())
def test_the_same_as_in_arrays(head, width, data):
    drawn = {
        name: data.draw(arrays(np.float32, (3, size), elements=st.floats(-50, 50, width=32)))
        for name, size in (("level", width), ("triggers", len(TRIGGERS)), ("signals", len(SIGNALS)))
    }
    share = st.floats(0, 1)

    def labels(names):
        return {
            name: LabelCalibration(
                data.draw(st.floats(0, 5)), data.draw(st.floats(-5, 5)), data.draw(share)
            )
            for name in names
        }

    calibration = Calibration(
        head,
        data.draw(st.floats(0.1, 10)),
        data.draw(st.just(()) | st.tuples(*[st.floats(-3, 3)] * width)),
        data.draw(share),
        data.draw(st.floats(0, 20)),
        labels(TRIGGERS),
        labels(SIGNALS),
    )
    logits = Logits(**drawn)
    scores = calibrated_scores(logits, calibration)
    levels = predicted_levels(scores)
    # A sum in another order may fall on the other side of a threshold that it touches.
    for values, thresholds in (
        (np.diff(np.sort(scores.level @ level_costs(calibration.missed_heated_cost).T))[:, :1], 0),
        (scores.level, calibration.certain_from),
        (scores.triggers, calibration.trigger_arrays.thresholds),
        (scores.signals, calibration.signal_arrays.thresholds),
    ):
        assume(np.abs(values - np.asarray(thresholds)).min() > 1e-9)
    found = Postprocessor(calibration, "some@1")(logits)
    assert [each.level for each in found] == levels.tolist()
    assert [each.uncertain for each in found] == uncertain_levels(
        scores, levels, calibration
    ).tolist()
    close = partial(pytest.approx, abs=1e-12)
    assert np.array([each.level_scores for each in found]) == close(scores.level)
    assert [each.frustration for each in found] == close(expected_levels(scores.level))
    for kind, names, arrays_of in (
        ("trigger", TRIGGERS, calibration.trigger_arrays),
        ("signal", SIGNALS, calibration.signal_arrays),
    ):
        wanted = getattr(scores, f"{kind}s")
        shown = [list(getattr(each, f"{kind}_scores").values()) for each in found]
        assert np.array(shown) == close(wanted)
        labels_given = [[name in getattr(each, f"{kind}s") for name in names] for each in found]
        assert labels_given == predicted_labels(wanted, arrays_of).tolist()
