from dataclasses import replace

import pytest
from courses import prediction

from deesc_model import (
    Action,
    Decision,
    EscalationPolicy,
    Level,
    PolicyFollower,
    SettingsError,
    Turn,
    follow_conversation,
)
from deesc_model.playbook import PLAYBOOK_FILE, Playbook, shipped_playbook
from deesc_model.policy import POLICY_FILE, most_urgent, shipped_policy
from deesc_model.risk import RISK_FILE, RiskModel, shipped_risk

POLICY = EscalationPolicy(
    watch_at=0.3,
    de_escalate_at=0.6,
    hand_over_at=0.9,
    de_escalate_level=3,
    hysteresis=0.1,
    needed=1,
    window=1,
    cool_down=2,
    capacity=1,
    hand_over_on=("supervisor_request",),
)
(CALM,) = follow_conversation([Turn("customer", "x")], [prediction(0)])


def test_settings_are_read_by_names_as_text_too():
    assert EscalationPolicy.read(str(POLICY_FILE)) == shipped_policy()
    assert Playbook.read(str(PLAYBOOK_FILE)) == shipped_playbook()
    assert RiskModel.read(str(RISK_FILE)) == shipped_risk()
    with pytest.raises(SettingsError, match="cannot read nowhere"):
        EscalationPolicy.read("nowhere")


def test_a_reason_that_is_past_says_so():
    policy = replace(POLICY, needed=1, window=3)
    reasons = [decision.reason for decision in follow([0.95, 0.05, 0.05], policy)]
    assert reasons[0] == "risk 0.95, hand over from 0.90"
    assert reasons[2] == "risk 0.05, hand over from 0.90, reached in 1 of the last turns"


def follow(risks, policy=POLICY, **changes):
    follower = PolicyFollower(policy)
    return [
        follower.update(replace(CALM, turn=turn, risk=risk, **changes))
        for turn, risk in enumerate(risks)
    ]


def actions(risks, policy=POLICY, **changes):
    return [decision.action for decision in follow(risks, policy, **changes)]


def test_each_threshold_has_its_action():
    assert actions([0.29, 0.3, 0.6, 0.9]) == list(Action)
    assert [action.label for action in Action] == ["none", "watch", "de-escalate", "hand over"]


def test_an_action_ends_only_well_below_its_threshold():
    assert actions([0.6, 0.55, 0.49]) == [Action.DE_ESCALATE, Action.DE_ESCALATE, Action.WATCH]
    without = replace(POLICY, hysteresis=0.0)
    assert actions([0.6, 0.55], without) == [Action.DE_ESCALATE, Action.WATCH]


def test_k_of_n_turns_must_reach_a_threshold():
    policy = replace(POLICY, needed=2, window=3)
    assert actions([0.7, 0.1, 0.7, 0.1], policy) == [
        Action.NONE,
        Action.NONE,
        Action.DE_ESCALATE,
        Action.NONE,
    ]


def test_alerts_keep_quiet_in_the_cool_down_unless_it_gets_more_urgent():
    assert [d.alert for d in follow([0.7, 0.1, 0.7, 0.1, 0.7])] == [True, False, False, False, True]
    assert [d.alert for d in follow([0.7, 0.95])] == [True, True]
    assert [d.alert for d in follow([0.7, 0.7])] == [True, False]


def test_what_rises_in_the_cool_down_and_stays_is_told_after_it():
    risks = [0.7, 0.1, 0.7, 0.7, 0.7, 0.7, 0.7]
    assert [d.alert for d in follow(risks)] == [True, False, False, True, False, False, False]
    falls = [0.7, 0.1, 0.7, 0.4, 0.4]  # what is due now is less than what was not told
    assert [d.alert for d in follow(falls)] == [True, False, False, False, False]


def test_a_signal_calls_for_a_hand_over_until_it_is_resolved():
    said = [prediction(0, signals=["supervisor_request"]), *[prediction(0)] * 2]
    states = follow_conversation([Turn("customer", "x")] * 3, said)
    follower = PolicyFollower(replace(POLICY, watch_at=1.0, de_escalate_at=1.0, hand_over_at=1.0))
    found = [follower.update(state) for state in states]
    assert [d.action for d in found] == [Action.HAND_OVER, Action.HAND_OVER, Action.NONE]
    assert "supervisor_request" in found[0].reason


def test_a_heated_customer_needs_de_escalation_whatever_the_risk_is():
    assert actions([0.0], level=Level.ANGRY) == [Action.DE_ESCALATE]
    assert actions([0.0], level=Level.FRUSTRATED) == [Action.NONE]


def test_a_small_team_takes_over_the_most_urgent():
    decision = Decision(Action.HAND_OVER, alert=True, reason="")
    latest = {
        "low": (replace(CALM, risk=0.91), decision),
        "high": (replace(CALM, risk=0.95), decision),
        "other": (replace(CALM, risk=0.99), replace(decision, action=Action.WATCH)),
    }
    assert most_urgent(latest, 1) == ["high"]
    assert most_urgent(latest, 5) == ["high", "low"]
    assert most_urgent(latest, 0) == []


def test_the_shipped_policy_survives_writing_and_reading(tmp_path):
    policy = EscalationPolicy.read()
    path = tmp_path / "policy.toml"
    path.write_text(policy.to_toml())
    assert EscalationPolicy.read(path) == policy


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("window = ", "windows = ", "unknown key 'windows'"),
        ("needed = 1\n", "", "the key 'needed' is missing"),
        ("needed = 1", "needed = 0", "needed must be from 1"),
        ("needed = 1", "needed = true", "needed must be a whole number, not True"),
        ("watch_at = ", "watch_at = 1", "watch_at must be from 0 to 1"),
        ("hysteresis = ", "hysteresis = nan # ", "hysteresis must be from 0 to 1"),
        (
            "hysteresis = ",
            "hysteresis = 0.9 # ",
            "hysteresis 0.9 must be less than watch_at 0.",
        ),
        ("hysteresis = ", "hysteresis = '0.1' # ", "hysteresis must be a number"),
        ("cool_down = ", "cool_down = -", "cool_down must be 0 or more"),
        ("de_escalate_level = ", "de_escalate_level = 7 # ", "de_escalate_level must be 0 to 4"),
        ("hand_over_at = ", "hand_over_at = 0.01 # ", "must not fall"),
        ('"supervisor_request"', '"boss"', "'boss', which is none of"),
        ("needed = 1", "needed == 1", "is not TOML"),
    ],
)
def test_a_wrong_policy_is_refused_by_file_and_key(tmp_path, old, new, said):
    text = POLICY_FILE.read_text()
    assert old in text
    path = tmp_path / "policy.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(SettingsError) as refused:
        EscalationPolicy.read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_policy_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot read .*none\.toml"):
        EscalationPolicy.read(tmp_path / "none.toml")
