import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from courses import prediction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deesc_model import (
    SIGNALS,
    TRIGGERS,
    ConversationMonitor,
    InvalidInputError,
    Level,
    SettingsError,
    Turn,
    follow_conversation,
)
from deesc_model.monitor import RESOLVED_AFTER, TREND_TURNS
from deesc_model.risk import FEATURES, RISK_FILE, RiskFeatures, RiskModel, shipped_risk


def spoken(customer: bool, level: int, doubt: int, label: int, signal: int):
    """One turn: doubt in tenths moves probability from its level to the next."""
    scores = [0.0] * 5
    scores[level] += 1 - doubt / 10
    scores[(level + 1) % 5] += doubt / 10
    said = prediction(
        level=int(np.argmax(scores)),
        triggers=TRIGGERS[label : label + 1],
        signals=SIGNALS[signal : signal + 1] if customer else (),
        scores=scores,
        trigger_scores={"policy": doubt / 10},
    )
    return Turn("customer" if customer else "agent", "x"), said


conversations = st.lists(
    st.builds(
        spoken,
        st.booleans(),
        st.integers(0, 4),
        st.integers(0, 9),
        st.integers(0, len(TRIGGERS)),
        st.integers(0, 2 * len(SIGNALS)),
    ),
    min_size=1,
    max_size=15,
)
# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(conversations)
def test_streaming_equals_batch_on_every_prefix(pairs):
    turns, predictions = zip(*pairs, strict=True)
    whole = follow_conversation(turns, predictions)
    for end in range(1, len(pairs) + 1):
        assert follow_conversation(turns[:end], predictions[:end]) == whole[:end]
    monitor = ConversationMonitor()
    assert [monitor.update(*pair) for pair in pairs] == whole


@unhurried
@given(conversations)
def test_the_running_numbers_are_those_of_the_whole_past(pairs):
    """What the monitor updates step by step, computed from scratch with numpy."""
    states = follow_conversation(*zip(*pairs, strict=True))
    for end, state in enumerate(states, start=1):
        customer = [(at, p) for at, (t, p) in enumerate(pairs[:end]) if t.speaker == "customer"]
        heat = np.array([p.frustration for _, p in customer])
        if not customer:
            assert (state.frustration, state.trend, state.peak, state.recovery) == (0, 0, 0, 0)
            assert state.peak_turn is None
            continue
        halves = 0.5 ** np.arange(len(heat), 0, -1)
        halves[0] *= 2
        assert state.frustration == pytest.approx(float(halves @ heat))
        recent = heat[-TREND_TURNS:]
        slope = np.polyfit(np.arange(len(recent)), recent, 1)[0] if len(recent) > 1 else 0.0
        assert state.trend == pytest.approx(float(slope), abs=1e-9)
        assert state.peak == heat.max()
        assert state.peak_turn == customer[int(heat.argmax())][0]
        assert state.level == customer[-1][1].level
        assert {c.name for c in state.triggers} == {n for _, p in customer for n in p.triggers}
        for course in state.triggers:
            named = [at for at, p in customer if course.name in p.triggers]
            assert (course.first, course.latest) == (named[0], named[-1])
            since = [p.level == Level.CALM for at, p in customer if at > named[-1]]
            ended = any(
                all(since[start : start + RESOLVED_AFTER])
                for start in range(len(since) - RESOLVED_AFTER + 1)
            )
            assert course.resolved == ended
        first = [at for at, p in customer if p.level >= Level.ANGRY]
        assert state.escalated == (first[0] if first else None)
        first = [at for at, p in customer if p.signals]
        assert state.declared == (first[0] if first else None)


@unhurried
@given(conversations)
def test_the_risk_is_a_probability_of_finite_features(pairs):
    running = RiskFeatures()
    for turn, said in pairs:
        features = running.update(turn.speaker, said)
        assert len(features) == len(FEATURES)
        assert all(map(math.isfinite, features))
        assert 0 < shipped_risk().probability(features) < 1


def test_the_shipped_risk_rises_with_a_worsening_talk_and_falls_when_it_calms():
    told = [
        (Turn("customer", "x"), prediction(1)),
        (Turn("agent", "x"), prediction(0, ["policy"])),
        (Turn("customer", "x"), prediction(2, ["policy"])),
        (Turn("agent", "x"), prediction(0, ["agent_conduct"])),
        *[(Turn("customer", "x"), prediction(0)), (Turn("agent", "x"), prediction(0))] * 3,
    ]
    risks = [state.risk for state in follow_conversation(*zip(*told, strict=True))]
    assert risks[3] > 2 * risks[0]
    assert risks[3] > 0.5
    assert risks[-1] < risks[0]


def test_what_the_customer_says_and_what_is_predicted_are_kept_apart():
    told = [
        (Turn("agent", "x"), prediction(0, ["policy"])),
        (Turn("customer", "x"), prediction(1, ["delay"], ["churn_threat"])),
        (Turn("agent", "x"), prediction(0, ["agent_conduct"])),
        (Turn("agent", "x"), prediction(0, ["policy", "agent_conduct"])),
    ]
    states = follow_conversation(*zip(*told, strict=True))
    assert states[0].provocations == ("policy",)
    assert states[1].provocations == ()
    assert states[3].provocations == ("agent_conduct", "policy")
    assert states[3].open_triggers == ("delay",)
    assert states[3].open_signals == ("churn_threat",)
    assert (states[0].declared, states[3].declared, states[3].escalated) == (None, 1, None)


def test_recovery_is_the_share_of_the_peak_that_has_gone():
    levels = [1, 3, 3, 0]
    states = follow_conversation(
        [Turn("customer", "x")] * 4, [prediction(level) for level in levels]
    )
    assert [state.recovery for state in states] == [0, 0, 0, 1]
    assert [state.peak_turn for state in states] == [0, 1, 1, 1]


def test_states_cannot_be_changed_and_become_json():
    (state,) = follow_conversation([Turn("customer", "x")], [prediction(2, ["delay"])])
    with pytest.raises(FrozenInstanceError):
        state.risk = 0.0
    assert json.loads(json.dumps(state.to_dict()))["triggers"][0]["name"] == "delay"


def test_turns_without_predictions_are_refused():
    with pytest.raises(InvalidInputError, match="1 turns but 0 predictions"):
        follow_conversation([Turn("customer", "x")], [])


def test_each_real_conversation_gives_a_state_per_turn(classifier):
    turns = [
        Turn("customer", "the parcel is late"),
        Turn("agent", "fine"),
        Turn("customer", "idiot"),
    ]
    states = follow_conversation(turns, classifier.predict_conversation(turns))
    assert [state.turn for state in states] == [0, 1, 2]
    assert states[2].declared == 2
    assert states[2].level == Level.ABUSIVE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.pop("horizon"), "horizon"),
        (lambda data: data["weights"].pop("turns"), "other features"),
        (lambda data: data["weights"].update(turns=float("nan")), "no finite number"),
        (lambda data: data.update(intercept="much"), "holds no risk weights"),
        (lambda data: data.update(horizon=float("inf")), "holds no risk weights"),
    ],
)
def test_a_wrong_risk_file_is_refused(tmp_path, change, said):
    data = json.loads(RISK_FILE.read_text())
    change(data)
    path = tmp_path / "risk.json"
    path.write_text(json.dumps(data))
    with pytest.raises(SettingsError, match=said) as refused:
        RiskModel.read(path)
    assert str(path) in str(refused.value)


def test_a_missing_risk_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="fit_policy writes it"):
        RiskModel.read(tmp_path / "none.json")
