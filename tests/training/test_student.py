import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from base_models import write_base_model
from conversations import turn, utterance, write_rows
from transformers import AutoTokenizer, ModernBertConfig

from deesc_model import Turn
from deesc_model.encoding import EncodedInput, EncoderSettings
from deesc_model.errors import DeescError
from training.config import Config
from training.corpus import SPLITS
from training.distil import choose_views, texts_to_ask
from training.examples import make_encoder
from training.model import (
    EscalationModel,
    LossWeights,
    load_checkpoint,
    new_encoder,
    new_model,
    save_checkpoint,
)
from training.recombination import recombine
from training.sampling import is_plain
from training.student import DistillationWeights, binary_divergence, divergence, make_student
from training.teacher import Answers, Reader, agree, ask, question_key, remembered
from training.unlabelled import draw_evenly, load_unlabelled, without_near
from training.vocabulary import trim, trim_vocabulary

PLAIN = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 1.0, 1.0)
HEED = DistillationWeights(soft_share=1.0, temperature=2.0, state=1.0)
LAYERS = 6


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    base = write_base_model(tmp_path_factory.mktemp("six"), ["customer", "late"], layers=LAYERS)
    model, tokenizer = new_model(str(base), "softmax", 0.0, PLAIN)
    torch.nn.init.normal_(model.heads.query.weight)  # as after training: not the mean
    return model.eval(), tokenizer


def batch():
    ids = torch.tensor([[2, 10, 11, 3, 20, 21, 3], [2, 12, 13, 14, 3, 0, 0]])
    utterance_mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0]])
    return ids, (ids > 0).long(), utterance_mask


def test_all_layers_and_no_step_give_the_teachers_answers(teacher, tmp_path):
    model, tokenizer = teacher
    student = make_student(model, range(1, LAYERS + 1), 0.0, PLAIN, HEED)
    save_checkpoint(student, tokenizer, EncoderSettings(48, 2, 16, 8), tmp_path)
    again, _, _ = load_checkpoint(tmp_path)
    with torch.inference_mode():
        expected, actual = model(*batch()), again(*batch())
    for name, logits in expected.items():
        assert torch.equal(actual[name], logits)


def test_a_student_of_the_lowest_layers_is_the_teacher_cut_there(teacher):
    model, _ = teacher
    student = make_student(model, (1, 2), 0.0, PLAIN, HEED).eval()
    assert len(list(student.parameters())) < len(list(model.parameters()))
    with torch.inference_mode():
        logits, states = student.with_states(*batch())
        _, of_teacher = model.with_states(*batch())
        segments = 1 - batch()[2]
        hidden = model.encoder(
            *batch()[:2], token_type_ids=segments, output_hidden_states=True
        ).hidden_states
        cut = model.heads(hidden[2], batch()[2].unsqueeze(-1).bool())
    assert torch.equal(logits, cut)
    assert torch.equal(states, of_teacher[:, :2])
    # The second text has 5 tokens, all of them the utterance's.
    assert torch.allclose(states[1, 1], hidden[2][1, :5].mean(dim=0), atol=1e-6)
    assert model.encoder.config.num_hidden_layers == LAYERS  # the teacher stays whole


@pytest.mark.parametrize("layers", [(), (0, 1), (7,), (2, 2), (3, 1)])
def test_layers_that_the_teacher_has_not_are_refused(teacher, layers):
    with pytest.raises(DeescError, match="from 1 to 6"):
        make_student(teacher[0], layers, 0.0, PLAIN, HEED)


def test_layers_that_no_checkpoint_could_hold_are_refused_before_they_learn():
    # The first layer of ModernBERT has no norm, and every second one another kind of attention.
    config = ModernBertConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        pad_token_id=0,
    )
    model = EscalationModel(new_encoder(config), "softmax", 0.0, PLAIN)
    with pytest.raises(DeescError, match=r"layers \[2, 4\] of this encoder are no encoder"):
        make_student(model, (2, 4), 0.0, PLAIN, HEED)
    student = make_student(model, (1, 2), 0.0, PLAIN, HEED)
    assert student.encoder.config.layer_types == config.layer_types[:2]


def test_divergences_by_hand():
    # Teacher 3 : 1, student even: 3/4 log(3/2) + 1/4 log(1/2).
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    odds = math.log(3)
    assert divergence(torch.zeros(1, 2), torch.tensor([[odds, 0.0]])).item() == pytest.approx(
        expected, rel=1e-5
    )
    there = torch.tensor([[odds, 0.0], [0.0, 0.0]])  # one of four labels differs
    assert binary_divergence(torch.zeros(2, 2), there).item() == pytest.approx(
        expected / 4, rel=1e-5
    )


def test_the_loss_weighs_teacher_gold_and_states(teacher):
    ids, attention, mask = batch()
    weights = LossWeights((1.0,) * 5, (1.0,) * 11, (1.0,) * 5, 3.0, 2.0)
    gold = (torch.tensor([1, 3]), torch.ones(2, 11), torch.zeros(2, 5))
    heed = DistillationWeights(soft_share=0.75, temperature=2.0, state=0.5)
    with torch.inference_mode():
        teacher[0].with_states(ids, attention, mask)  # asked before it is copied, as in a run
    student = make_student(teacher[0], (2, 4), 0.0, weights, heed)
    with torch.inference_mode():
        mine, states = student.with_states(ids, attention, mask)
        assert states.shape == (2, 2, 32)
        theirs = mine + torch.linspace(-1, 1, 42).reshape(2, 21)
        both = student(ids, attention, mask, *gold, torch.tensor([True, False]), theirs, -states)
        first = student(ids[:1], attention[:1], mask[:1], *(part[:1] for part in gold))
        none = student(ids, attention, mask, *gold, torch.tensor([False, False]), mine, states)
    soft = (
        4
        * (  # the square of the temperature
            divergence(mine[:, :5] / 2, theirs[:, :5] / 2)
            + 3 * binary_divergence(mine[:, 5:16] / 2, theirs[:, 5:16] / 2)
            + 2 * binary_divergence(mine[:, 16:] / 2, theirs[:, 16:] / 2)
        )
    )
    # Opposite states are 2 apart; gold counts on the first text only.
    expected = 0.75 * soft + 0.25 * first["loss"] + 0.5 * 2
    assert both["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert none["loss"].item() == pytest.approx(0.0, abs=1e-5)


def test_a_trimmed_vocabulary_reads_kept_texts_as_before(tmp_path):
    words = ["customer", "late", "parcel", "##s", "again", "##by"]
    write_base_model(tmp_path, words, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model, _ = new_model(str(tmp_path), "softmax", 0.0, PLAIN)
    kept_text, odd_text = "customer: late parcels [SEP]", "late again"
    trimmed, kept = trim_vocabulary(tokenizer, [kept_text, kept_text, odd_text], 2)
    assert len(trimmed) == len(kept) < len(tokenizer)
    old, new = tokenizer.get_vocab(), trimmed.get_vocab()
    gone = old.keys() - new.keys()  # once, and never; capitals cannot be read by this tokenizer
    assert {piece for piece in gone if piece == piece.lower()} == {"again", "##by"}
    assert {"A", "##Z"} <= gone
    assert all(kept[number] == old[token] for token, number in new.items())
    for text in (kept_text, "late ☂"):
        before, after = tokenizer.tokenize(text), trimmed.tokenize(text)
        assert before == after
    assert trimmed.tokenize("again") == ["a", "##g", "##a", "##i", "##n"]
    student = make_student(model, (1,), 0.0, PLAIN, HEED).eval()
    assert trim(student.encoder, tokenizer, [kept_text] * 2, 2).get_vocab().keys() == new.keys()
    save_checkpoint(student, trimmed, EncoderSettings(48, 2, 16, 8), tmp_path / "checkpoint")
    again, read_again, _ = load_checkpoint(tmp_path / "checkpoint")
    inputs = tokenizer(kept_text, return_tensors="pt")
    fewer = read_again(kept_text, return_tensors="pt")
    mask = inputs["attention_mask"]
    with torch.inference_mode():
        expected = model.eval()(inputs["input_ids"], mask, mask)
        actual = again(fewer["input_ids"], fewer["attention_mask"], fewer["attention_mask"])
    assert torch.equal(expected["trigger_logits"], actual["trigger_logits"])


def test_a_vocabulary_that_would_make_words_unknown_is_not_trimmed(tmp_path, caplog):
    write_base_model(tmp_path, ["customer", "caf\u2602x"], layers=1)  # no such sign alone
    model, tokenizer = new_model(str(tmp_path), "softmax", 0.0, PLAIN)
    with pytest.raises(DeescError, match="is part of a piece and not a piece"):
        trim_vocabulary(tokenizer, ["customer"], 1)
    assert trim(model.encoder, tokenizer, ["customer"], 1) is tokenizer
    assert "all word pieces stay: the vocabulary cannot be trimmed" in caplog.text
    assert model.encoder.config.vocab_size == len(tokenizer)


def test_the_teacher_is_asked_once(teacher, tmp_path):
    model, tokenizer = teacher
    encoder = make_encoder(tokenizer, Config(max_length=48, context_tokens=8, window_overlap=8))
    windows = [EncodedInput(tuple(range(2, 2 + size)), size) for size in (9, 3, 6)]
    asked = []

    def compute():
        asked.append(1)
        return ask(Reader(model, encoder, windows), (2, 6), batch_size=2, bf16=False)

    file, key = tmp_path / "answers.npz", question_key("weights", windows, (2, 6))
    first = remembered(file, key, compute)
    second = remembered(file, key, compute)
    assert len(asked) == 1
    assert np.array_equal(first.logits, second.logits)
    alone = ask(Reader(model, encoder, windows[1:2]), (2, 6), batch_size=1, bf16=False)
    assert np.allclose(second.logits[1], alone.logits[0], atol=1e-5)  # the order is the windows'
    assert second.states.shape == (3, 2, 32)
    other = question_key("weights", windows[:2], (2, 6))
    remembered(file, other, lambda: Answers(*2 * [alone.logits]))
    remembered(file, key, compute)
    assert len(asked) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["answers.npz"]


def test_several_teachers_answer_with_their_mean_and_the_starts_states():
    first, second = (
        Answers(np.full((2, 3), value, np.float32), np.full((2, 1, 4), value, np.float16))
        for value in (1.0, 2.0)
    )
    both = agree([first, second], second)
    assert both.logits.tolist() == [[1.5] * 3] * 2
    assert both.states.tolist() == second.states.tolist()
    assert agree([second], first).logits.tolist() == second.logits.tolist()


def test_a_network_asked_in_bf16_answers_nearly_the_same(teacher):
    model, tokenizer = teacher
    encoder = make_encoder(tokenizer, Config(max_length=48, context_tokens=8, window_overlap=8))
    reader = Reader(model, encoder, [EncodedInput(tuple(range(2, 11)), 9)])
    exact, rough = (ask(reader, (), 2, bf16=bf16) for bf16 in (False, True))
    assert not np.array_equal(rough.logits, exact.logits)
    assert np.allclose(rough.logits, exact.logits, atol=0.1)
    assert exact.states.size == 0


def test_keys_of_questions_differ_by_weights_layers_and_text():
    def key(weights, layers, *windows):
        return question_key(weights, windows, layers)

    window = EncodedInput((2, 9, 3), 3)
    keys = {
        key("a", (2, 4), window),
        key("b", (2, 4), window),
        key("a", (2, 6), window),
        key("a", (2, 4), EncodedInput((2, 9, 3), 2)),
        key("a", (2, 4), window, window),
    }
    assert len(keys) == 5


def test_a_student_sees_each_text_in_one_view():
    agent = {"speaker": "agent", "triggers": []}
    rows = [utterance(conversation_id=f"c{n}", **agent) for n in range(400)]
    rows += [utterance(conversation_id=f"d{n}", text="Where is my parcel?") for n in range(400)]
    config = Config(plain_share=0.25, augmentation=0.5)
    seen = choose_views(rows, config)
    customers = [row for row in seen if not is_plain(row)]
    assert [row.conversation_id for row in customers] == [f"d{n}" for n in range(400)]
    assert 60 < len(seen) - len(customers) < 140
    assert 140 < sum(row.text != "Where is my parcel?" for row in customers) < 260
    assert seen == choose_views(rows, config)


def write_source(folder: Path, name: str, texts: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"id": f"{name}:{key}", "text": text}) for key, text in texts.items())
    (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_unlabelled_are_the_texts_without_annotation(tmp_path):
    write_source(tmp_path / "raw", "xci", {"1": "labelled", "2": "not yet", "3": "  "})
    write_source(tmp_path / "raw", "banking77", {"1": "a question"})
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    label = {"id": "xci:1", "text_sha256": "0", "level": 0, "triggers": [], "signals": []}
    (annotations / "xci.jsonl").write_text(json.dumps(label | {"passes": 1}))
    (annotations / "banking77.jsonl").write_text("")
    rows = load_unlabelled(tmp_path / "raw", annotations)
    assert {row.text for row in rows} == {"not yet", "a question"}
    assert {row.source for row in rows} == {"xci", "banking77"}
    held_out = load_unlabelled(tmp_path / "raw", annotations, held_out="xci")
    assert [row.text for row in held_out] == ["a question"]


def test_sources_share_a_draw_evenly():
    rows = [
        dataclasses.replace(utterance(conversation_id=f"{source}{n}"), source=source)
        for source, count in (("a", 100), ("b", 3), ("c", 50))
        for n in range(count)
    ]
    drawn = [row.source for row in draw_evenly(rows, 33, seed=1)]
    assert {source: drawn.count(source) for source in "abc"} == {"a": 15, "b": 3, "c": 15}
    assert draw_evenly(rows, 33, seed=1) == draw_evenly(rows, 33, seed=1)
    assert draw_evenly(rows, 33, seed=1) != draw_evenly(rows, 33, seed=2)
    assert len(draw_evenly(rows, 999, seed=1)) == 153


def test_what_a_test_text_says_is_not_shown_to_the_student():
    held = [
        utterance(text="my train was late again and nobody said a word about it"),
        utterance(text="Thanks a lot!"),
    ]
    rows = [
        utterance(text="my train was late again and nobody said a word about it today"),
        utterance(text="thanks a lot!"),
        utterance(text="my card was declined at the shop this morning again"),
    ]
    assert without_near(rows, held, 0) == rows[2:]


def test_nor_is_a_text_that_follows_one_of_a_test():
    held, text = utterance(text="my train was late again and nobody said a word"), "And now this."
    near, fine = Turn("customer", held.text.upper()), Turn("agent", "What can I do for you today?")
    contexts = ((near, fine), (near, fine, fine), (Turn("agent", near.text),), ())
    rows = [utterance(text=text, context=context) for context in contexts]
    assert without_near(rows, [held], 2) == rows[1:]  # the student reads two turns before a text
    short = utterance(text="Yes please.")
    after = utterance(text=text, context=(Turn("customer", "yes please."),))
    assert without_near([after], [short], 2) == [after]


def test_teachers_are_asked_nothing_that_the_corpus_is_to_test(tmp_path):
    said = {split: f"the {split} parcel came on a rainy day without its lid" for split in SPLITS}
    rows = [turn(conversation_id=name, split=name, text=text) for name, text in said.items()]
    rows.append(turn(conversation_id="a", split="test", speaker="agent", text="May I see it?"))
    config = Config(
        corpus=str(write_rows(tmp_path / "corpus", rows)), sources=str(tmp_path / "raw")
    )
    texts = [*(f"{text} again" for text in said.values()), "May I see it?"]
    unlabelled = [utterance(text=text, split="unlabelled") for text in texts]
    assert [row.text for row in texts_to_ask(config, unlabelled)] == [texts[0], texts[3]]


def test_recombined_texts_begin_as_one_and_end_as_another_of_their_source():
    texts = {"a": ("One. Two! Three?", "Four. Five."), "b": ("six", "seven", "eight")}
    rows = [
        dataclasses.replace(
            utterance(conversation_id=f"{source}{n}", text=text, level=3, triggers=("delay",)),
            source=source,
        )
        for source, members in (*texts.items(), ("alone", ("nobody to meet",)))
        for n, text in enumerate(members)
    ]
    made = recombine(rows, 400, seed=1)
    of_a = {row.text for row in made if row.source == "a"}
    of_b = {row.text for row in made if row.source == "b"}
    begin = ("One.", "One. Two!", "One. Two! Three?", "Four.", "Four. Five.")
    end = ("Three?", "Two! Three?", "One. Two! Three?", "Five.", "Four. Five.")
    assert of_a == {f"{first} {second}" for first in begin for second in end}
    assert of_b == {f"{first} {second}" for first in texts["b"] for second in texts["b"]}
    assert len(made) == len(of_a) + len(of_b)
    assert {(row.level, row.triggers, row.split) for row in made} == {(0, (), "unlabelled")}
    assert made == recombine(rows, 400, seed=1) != recombine(rows, 400, seed=2)
    assert recombine(rows[-1:], 5, seed=1) == []
