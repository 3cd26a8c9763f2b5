"""The bundle that ships: plain cases that any release has to get right, with room for int8."""

import pytest

from deesc_model import EscalationClassifier, Turn


@pytest.fixture(scope="module")
def shipped() -> EscalationClassifier:
    return EscalationClassifier.from_pretrained()


def test_frustration_rises_with_the_wording(shipped):
    ladder = [
        "Thank you so much, that works perfectly now!",
        "I was hoping it would have arrived by now, any news?",
        "This is the third time I'm explaining this. Really poor service.",
        "You lied to me! This is outrageous, I want my money back NOW!",
        "You are a stupid idiot, go to hell.",
    ]
    frustration = [prediction.frustration for prediction in shipped.predict_batch(ladder)]
    assert frustration == sorted(frustration)
    assert frustration[0] < 0.5
    assert frustration[-1] > 3.0


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("You charged my card twice for the same order and the refund never came.", "billing"),
        ("My parcel is four days late.", "delay"),
        ("I have been on hold for fifty minutes.", "wait_time"),
        (
            "This is the fifth time I call about the same problem and it's still not fixed.",
            "unresolved",
        ),
        ("Your agent was rude and laughed at me.", "agent_conduct"),
        ("You promised a call back on Friday and nobody called.", "broken_promise"),
    ],
)
def test_plain_triggers_are_found(shipped, text, trigger):
    assert trigger in shipped.predict(text).triggers


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("I want to speak to your manager.", "supervisor_request"),
        ("I'm cancelling my contract and switching to another provider.", "churn_threat"),
        ("You will hear from my lawyer.", "public_or_legal_threat"),
        ("You useless moron.", "personal_abuse"),
    ],
)
def test_plain_signals_are_found(shipped, text, signal):
    assert signal in shipped.predict(text).signals


@pytest.mark.parametrize(
    "text",
    [
        "Hi, could you tell me your opening hours?",
        "Great, thanks for your help, have a nice day!",
        "My order number is 44718.",
    ],
)
def test_small_talk_is_calm_and_has_no_labels(shipped, text):
    prediction = shipped.predict(text)
    assert (int(prediction.level), prediction.triggers, prediction.signals) == (0, (), ())


def test_a_short_reply_means_what_the_turn_before_makes_of_it(shipped):
    asked = [
        Turn("customer", "My router has no internet."),
        Turn("agent", "Please restart it. Does it work now?"),
    ]
    offered = [
        Turn("customer", "Can I pay by card?"),
        Turn("agent", "Yes. Would you like anything else?"),
    ]
    failed = shipped.predict("no, still the same", asked).trigger_scores["unresolved"]
    declined = shipped.predict("no, that's all", offered).trigger_scores["unresolved"]
    assert failed > declined


def test_a_text_is_given_the_same_alone_and_among_others(shipped):
    texts = [
        "My parcel is four days late.",
        "You useless moron.",
        "thanks!",
        "I have been on hold for fifty minutes and every time I get through I am cut off again, so"
        " tell me who I can write to, because I am not going to call you another time.",
        "ok",
    ]
    contexts = [[], [Turn("agent", "One moment please, I am still looking.")], [], [], []]
    together = shipped.predict_batch(texts, contexts)
    for text, context, found in zip(texts, contexts, together, strict=True):
        alone = shipped.predict(text, context)
        assert found.level_scores == pytest.approx(alone.level_scores, abs=1e-4)
        assert found.trigger_scores == pytest.approx(alone.trigger_scores, abs=1e-4)
        assert found.signal_scores == pytest.approx(alone.signal_scores, abs=1e-4)


def test_the_card_and_the_figures_ship_with_it(shipped):
    card = (shipped.bundle.path / "README.md").read_text(encoding="utf-8")
    assert "Not for" in card
    for name in ("level_macro_f1", "trigger_macro_f1"):
        figure = shipped.bundle.metrics["metrics"][name]
        assert f"{figure['value']:.3f}" in card
