import random

import pytest
from courses import prediction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deesc_model import InvalidInputError, Turn
from deesc_model.evidence import FRUSTRATION, Evidence, Word, find_evidence, split_words, without

TEXT = "The parcel is late again! Is the manager the parcel, you idiot?"
LABELS = (FRUSTRATION, "delay", "unresolved", "supervisor_request", "personal_abuse")


def explain(classifier, text, *labels, context=()):
    return find_evidence(classifier, Turn("customer", text), context, labels)


def test_each_label_is_carried_by_its_word(classifier):
    found = {e.label: e for e in explain(classifier, "the parcel is late manager", *LABELS)}
    assert [word.text for word in found["delay"].top(1)] == ["late"]
    assert [word.text for word in found["supervisor_request"].top(1)] == ["manager"]
    assert found["delay"].score == pytest.approx(0.98, abs=0.02)


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and text.strip()))
@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
def test_spans_are_substrings_in_order(classifier, text):
    (found,) = find_evidence(classifier, Turn("customer", text))
    end = 0
    for word in found.words:
        assert text[word.start : word.end] == word.text
        assert word.start >= end
        end = word.end


def test_an_accent_is_a_part_of_its_word():
    text = "so nai\u0308ve, cafe\u0301-owner!"
    assert [text[start:end] for start, end in split_words(text)] == [
        "so",
        "nai\u0308ve",
        "cafe\u0301-owner",
        "!",
    ]


def test_removing_top_words_changes_the_score_more_than_removing_random_ones(classifier):
    (found,) = explain(classifier, TEXT, "delay")
    top = [(word.start, word.end) for word in found.top(1)]
    after = classifier.predict(without(TEXT, top)).trigger_scores["delay"]
    chance = random.Random(5)
    others = [
        classifier.predict(without(TEXT, [chance.choice(split_words(TEXT))])).trigger_scores[
            "delay"
        ]
        for _ in range(20)
    ]
    assert found.score - after > found.score - sum(others) / len(others)


def test_effects_within_the_noise_are_not_evidence():
    words = (Word(0, 1, "a", 0.05), Word(2, 3, "b", 0.2), Word(4, 5, "c", 0.3))
    found = Evidence("delay", 0.9, words, noise=0.1)
    assert [word.text for word in found.top(5)] == ["c", "b"]
    assert found.top(1) == [words[2]]


class Drifting:
    """A classifier whose scores depend on how many texts there are."""

    def predict_batch(self, utterances, contexts=None, *, batch_size=32):
        score = 0.5 + 0.1 * len(utterances)
        return [prediction(trigger_scores={"delay": score})] * len(utterances)

    def predict(self, utterance, context=()):
        return self.predict_batch([utterance])[0]


def test_the_noise_is_how_far_the_score_moves_with_the_batch():
    (found,) = find_evidence(Drifting(), Turn("customer", "a b c"), labels=["delay"])
    assert found.noise == pytest.approx(0.3)
    assert found.top(3) == []


def test_a_text_of_one_word_is_explained(classifier):
    (found,) = explain(classifier, "late", "delay")
    assert found.top(1)[0].text == "late"


def test_unknown_labels_and_long_texts_are_refused(classifier):
    with pytest.raises(InvalidInputError, match="'anger' is no trigger"):
        explain(classifier, "late", "anger")
    with pytest.raises(InvalidInputError, match="has 201 words, the limit for evidence is 200"):
        explain(classifier, "late " * 201, "delay")
