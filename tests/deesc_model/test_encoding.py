from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import SETTINGS, tiny_tokenizer

from deesc_model import BundleError, Turn
from deesc_model.encoding import InputEncoder
from deesc_model.rendering import render_context, render_turn

WORD_LISTS = st.lists(
    st.sampled_from(["the", "parcel", "is", "late", "again", "fine"]), max_size=60
)


@pytest.fixture(scope="module")
def encoder() -> InputEncoder:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_padding(length=128)  # as base checkpoints ship it
    tokenizer.enable_truncation(4)
    return InputEncoder(tokenizer, SETTINGS)


def test_rendering_names_the_speaker_and_keeps_the_newest_turns():
    turns = [Turn("customer", "one"), Turn("agent", "two"), Turn("customer", "three")]
    assert render_turn(turns[1]) == "agent: two"
    assert render_context(turns, 2) == "agent: two customer: three"
    assert render_context(turns, 9) == "customer: one agent: two customer: three"
    assert render_context(turns, 0) == ""


def test_the_context_loses_its_oldest_words_first(encoder):
    (window,) = encoder.encode("the parcel", "is late again fine the parcel is late")
    # [CLS] the parcel [SEP] + the newest six of eight words + [SEP]
    assert window.utterance_length == 4
    assert window.ids[4:] == tuple(encoder.encode("again fine the parcel is late")[0].ids[1:])


def test_the_context_gives_way_to_a_long_utterance(encoder):
    (window,) = encoder.encode("the " * 11, "parcel is late")
    assert len(window.ids) == SETTINGS.max_length
    assert window.utterance_length == 13
    (window,) = encoder.encode("the " * 14, "parcel is late")
    assert window.utterance_length == len(window.ids) == SETTINGS.max_length


@given(WORD_LISTS)
def test_windows_cover_every_word_in_order_with_the_stated_overlap(encoder, words):
    windows = encoder.encode(" ".join(words))
    bodies = [window.ids[1:-1] for window in windows]
    joined = list(bodies[0])
    for before, body in pairwise(bodies):
        overlap = SETTINGS.window_overlap
        assert before[-overlap:] == body[:overlap]
        joined += body[overlap:]
    assert joined == [encoder._tokenizer.token_to_id(word) for word in words]
    assert all(len(window.ids) <= SETTINGS.max_length for window in windows)


@given(st.lists(st.tuples(WORD_LISTS, WORD_LISTS), min_size=1, max_size=5))
def test_padding_is_masked_and_only_the_utterance_is_pooled(encoder, pairs):
    windows = [encoder.encode(" ".join(a), " ".join(b))[0] for a, b in pairs]
    arrays = encoder.collate(windows)
    for row, window in enumerate(windows):
        length = len(window.ids)
        assert tuple(arrays["input_ids"][row, :length]) == window.ids
        assert not arrays["input_ids"][row, length:].any()
        assert arrays["attention_mask"][row].sum() == length
        assert arrays["utterance_mask"][row].sum() == window.utterance_length
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}
    assert len({array.shape for array in arrays.values()}) == 1


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        InputEncoder.from_file(path, SETTINGS)


def test_every_window_begins_with_the_speaker(encoder):
    windows = encoder.encode("agent: " + "late " * 40, prefix="agent:")
    speaker = encoder.encode("agent:")[0].ids[:-1]
    assert len(windows) > 3
    for window in windows:
        assert window.ids[:3] == speaker
        assert window.utterance_length == len(window.ids) <= SETTINGS.max_length
    late = encoder._tokenizer.token_to_id("late")
    repeated = SETTINGS.window_overlap * (len(windows) - 1)
    assert sum(len(window.ids) - 4 for window in windows) - repeated == 40
    assert all(set(window.ids[3:-1]) == {late} for window in windows)


def test_special_tokens_in_a_text_are_plain_characters(encoder):
    (window,) = encoder.encode("the [SEP] parcel")
    assert window.ids.count(3) == 1  # only the one that ends the utterance
