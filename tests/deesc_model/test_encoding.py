from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import SETTINGS, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from deesc_model import BundleError, Turn, encoding
from deesc_model.encoding import InputEncoder
from deesc_model.rendering import render_context, render_turn

WORD_LISTS = st.lists(
    st.sampled_from(["the", "parcel", "is", "late", "again", "fine"]), min_size=1, max_size=60
)
TEXTS = WORD_LISTS.map(lambda words: " ".join(words[:12]))


@pytest.fixture(scope="module")
def encoder() -> InputEncoder:
    tokenizer = tiny_tokenizer()
    tokenizer.enable_padding(length=128)  # as base checkpoints ship it
    tokenizer.enable_truncation(4)
    return InputEncoder(tokenizer, SETTINGS)


@pytest.fixture(scope="module")
def whole_encoder() -> InputEncoder:
    """One of which it is not known that it reads words apart, so that it reads everything."""
    tokenizer = tiny_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    return InputEncoder(tokenizer, SETTINGS)


@given(st.lists(st.text("late ! \ufe0f\t\u00a0", min_size=1).filter(str.strip), max_size=3))
def test_a_context_read_from_its_end_is_the_context_read_whole(encoder, whole_encoder, said):
    turns = [Turn("customer", text) for text in said]
    utterance = Turn("customer", "fine")
    assert encoder.encode(utterance, turns) == whole_encoder.encode(utterance, turns)


def test_rendering_names_the_speaker_and_keeps_the_newest_turns():
    turns = [Turn("customer", "one"), Turn("agent", "two"), Turn("customer", "three")]
    assert render_turn(turns[1]) == "agent: two"
    assert render_context(turns, 2) == "agent: two customer: three"
    assert render_context(turns, 9) == "customer: one agent: two customer: three"
    assert render_context(turns, 0) == ""


def tokens(encoder: InputEncoder, text: str) -> tuple[int, ...]:
    return tuple(encoder._tokenizer.encode(text, add_special_tokens=False).ids)


def test_the_context_loses_its_oldest_words_first_but_not_its_speaker(encoder):
    context = [Turn("customer", "the parcel"), Turn("agent", "is late again fine the parcel is")]
    (window,) = encoder.encode(Turn("customer", "the parcel"), context)
    # [CLS] customer: the parcel [SEP] + six tokens, of which two name the speaker + [SEP]
    assert window.utterance_length == 6
    assert window.ids[6:-1] == tokens(encoder, "agent: fine the parcel is")
    context[1] = Turn("agent", "is late")
    (window,) = encoder.encode(Turn("customer", "the parcel"), context)
    assert window.ids[6:-1] == tokens(encoder, "customer: agent: is late")


def test_a_speaker_whose_token_begins_at_a_blank_is_not_lost():
    """As tokens of SentencePiece do, which those of DeBERTa, XLM-R and ALBERT are."""
    words = ["▁customer:", "▁agent:", *(f"▁w{n}" for n in range(9)), "▁", "[CLS]", "[SEP]", "[UNK]"]
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = (("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    encoder = InputEncoder(tokenizer, SETTINGS)
    said = " ".join(f"w{n}" for n in range(9))
    (window,) = encoder.encode(
        Turn("customer", "w0"), [Turn("customer", "w1"), Turn("agent", said)]
    )
    seen = [words[number] for number in window.ids[window.utterance_length : -1]]
    assert seen == ["▁agent:", *(f"▁w{n}" for n in range(10 - SETTINGS.context_tokens, 9))]


@given(st.lists(st.tuples(st.sampled_from(["customer", "agent"]), TEXTS), max_size=4), TEXTS)
def test_the_context_is_the_newest_tokens_of_what_was_said(encoder, said, text):
    turns = [Turn(*pair) for pair in said]
    (window,) = encoder.encode(Turn("agent", text), turns)
    whole = tokens(encoder, render_context(turns, SETTINGS.context_turns))
    seen = window.ids[window.utterance_length : -1]
    room = SETTINGS.max_length - 3 - len(tokens(encoder, f"agent: {text}"))
    assert len(seen) == max(0, min(len(whole), SETTINGS.context_tokens, room))
    if len(seen) > 2:
        assert seen[2:] == whole[len(whole) - len(seen) + 2 :]


def test_the_context_gives_way_to_a_long_utterance(encoder):
    context = [Turn("agent", "parcel is late")]
    (window,) = encoder.encode(Turn("customer", "the " * 9), context)
    assert len(window.ids) == SETTINGS.max_length
    assert window.utterance_length == 13
    (window,) = encoder.encode(Turn("customer", "the " * 12), context)
    assert window.utterance_length == len(window.ids) == SETTINGS.max_length


@given(WORD_LISTS)
def test_windows_cover_every_word_in_order_with_the_stated_overlap(encoder, words):
    windows = encoder.encode(Turn("customer", " ".join(words)))
    speaker = tokens(encoder, "customer:")
    assert all(window.ids[1:3] == speaker for window in windows)
    bodies = [window.ids[3:-1] for window in windows]
    joined = list(bodies[0])
    for before, body in pairwise(bodies):
        overlap = SETTINGS.window_overlap
        assert before[-overlap:] == body[:overlap]
        joined += body[overlap:]
    assert tuple(joined) == tokens(encoder, " ".join(words))
    assert all(len(window.ids) <= SETTINGS.max_length for window in windows)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_padding_is_masked_and_only_the_utterance_is_pooled(encoder, pairs):
    windows = [encoder.encode(Turn("customer", a), [Turn("agent", b)])[0] for a, b in pairs]
    arrays = encoder.collate(windows)
    for row, window in enumerate(windows):
        length = len(window.ids)
        assert tuple(arrays["input_ids"][row, :length]) == window.ids
        assert not arrays["input_ids"][row, length:].any()
        assert arrays["attention_mask"][row].sum() == length
        assert arrays["utterance_mask"][row].sum() == window.utterance_length
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}
    assert len({array.shape for array in arrays.values()}) == 1


@given(
    st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3)), min_size=1, max_size=7),
    st.booleans(),
)
def test_many_texts_are_read_as_each_of_them_is(encoder, said, parallel):
    turns = [Turn("customer", text) for text, _ in said]
    turns.append(Turn("agent", "late " * 40))  # several windows
    contexts = [[Turn("agent", text) for text in before] for _, before in said]
    contexts.append([])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "READ_TOGETHER", 3)
        together = encoder.encode_many(turns, contexts, parallel=parallel)
    assert together == [encoder.encode(*pair) for pair in zip(turns, contexts, strict=True)]


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        InputEncoder.from_file(path, SETTINGS)


def test_every_window_begins_with_the_speaker(encoder):
    windows = encoder.encode(Turn("agent", "late " * 40))
    assert len(windows) > 3
    for window in windows:
        assert window.ids[1:3] == tokens(encoder, "agent:")
        assert window.utterance_length == len(window.ids) <= SETTINGS.max_length
    late = encoder._tokenizer.token_to_id("late")
    repeated = SETTINGS.window_overlap * (len(windows) - 1)
    assert sum(len(window.ids) - 4 for window in windows) - repeated == 40
    assert all(set(window.ids[3:-1]) == {late} for window in windows)


def test_special_tokens_in_a_text_are_plain_characters(encoder):
    (window,) = encoder.encode(Turn("customer", "the [SEP] parcel"))
    assert window.ids.count(3) == 1  # only the one that ends the utterance
