import pytest

from deesc_model import (
    SIGNALS,
    TRIGGERS,
    DeescError,
    InvalidInputError,
    Level,
    Prediction,
    Turn,
)
from deesc_model.types import MAX_CHARACTERS, as_batch


@pytest.mark.parametrize(
    ("speaker", "text", "said"),
    [
        ("customer", "", "empty"),
        ("customer", " \n\t ", "empty"),
        ("customer", None, "not NoneType"),
        ("customer", b"bytes", "not bytes"),
        ("customer", 3.5, "not float"),
        ("robot", "hello", "'robot'"),
        (None, "hello", "None"),
        ("customer", "broken \ud800 text", "U+D800) at character 7"),
        ("customer", "nul \x00", "U+0000) at character 4"),
        ("customer", "bell\x07", "U+0007"),
        ("customer", "c1 \x9f", "U+009F"),
        ("customer", "x" * 1_000_000, "1,000,000 characters, the limit is 100,000"),
    ],
)
def test_what_is_no_utterance_is_refused_by_name(speaker, text, said):
    with pytest.raises(InvalidInputError) as caught:
        Turn(speaker, text)
    assert said in str(caught.value)
    assert isinstance(caught.value, DeescError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "text",
    [
        "?",
        "line\nbreak\ttab\r\n",
        "naïve café",
        "😡",
        "👩‍👩‍👧",
        "次の電車",
        "مرحبا",
        "x" * MAX_CHARACTERS,
    ],
)
def test_any_proper_text_is_an_utterance(text):
    assert Turn("agent", text).text == text


def test_a_prediction_survives_json():
    prediction = Prediction(
        level=Level.ANGRY,
        level_scores=(0.0, 0.125, 0.25, 0.5, 0.125),
        frustration=2.625,
        uncertain=True,
        triggers=("billing",),
        trigger_scores=dict.fromkeys(TRIGGERS, 0.75),
        signals=(),
        signal_scores=dict.fromkeys(SIGNALS, 0.25),
        model_version="tiny@00000000",
    )
    assert Prediction.from_dict(prediction.to_dict()) == prediction
    assert prediction.to_dict()["level_name"] == "angry"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"level": 7}, "7"),
        ({"level_scores": None}, "NoneType"),
        ({"level_scores": []}, "must be 5 numbers, not 0"),
        ({"trigger_scores": []}, "one score each for billing, .*; see access"),
        ({"trigger_scores": dict.fromkeys(TRIGGERS, "nan")}, "nan is not from 0 to 1"),
        ({"triggers": "billing"}, "must be a list"),
        ({"triggers": ["b"]}, "'b' is none of billing"),
        ({"uncertain": "false"}, "must be true or false"),
        ({"frustration": "nan"}, "nan is not from 0 to 4"),
        ({"model_version": None}, "must be text"),
    ],
)
def test_what_is_no_prediction_is_refused(change, said, classifier):
    data = classifier.predict("fine").to_dict()
    with pytest.raises(InvalidInputError, match=said):
        Prediction.from_dict(data | change)


def test_a_missing_field_is_named(classifier):
    data = classifier.predict("fine").to_dict()
    del data["signals"]
    with pytest.raises(InvalidInputError, match="'signals'"):
        Prediction.from_dict(data)


def test_a_batch_names_what_is_wrong_in_it():
    agent = Turn("agent", "fine")
    assert as_batch(["a", agent], [[], ["b", agent]]) == [
        (Turn("customer", "a"), []),
        (agent, [Turn("customer", "b"), agent]),
    ]
    assert as_batch(["a"], None) == [(Turn("customer", "a"), [])]
    for utterances, contexts, said in (
        (["a", ""], None, "utterance 1: text is empty"),
        (["a", "b"], [[], ["fine", ""]], "utterance 1: in its context: text is empty"),
        (["a"], ["fine"], "utterance 0: in its context: context must be a list, not one str"),
        (["a", "b"], [[]], "2 utterances but 1 contexts; give one each"),
        ("a", None, "utterances must be a list, not one str"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            as_batch(utterances, contexts)
