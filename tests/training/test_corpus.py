import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from conversations import turn, utterance, write_rows
from hypothesis import given
from hypothesis import strategies as st

from training import data
from training.corpus import (
    ARCS,
    CHANNELS,
    SPLITS,
    DataError,
    Utterance,
    fingerprint,
    load_corpus,
    read_corpus,
    select_split,
    to_json,
)
from training.near_duplicates import find_near_duplicates, shingles
from training.splits import assign_splits

DATA = Path(__file__).parents[2] / "data"


def test_turns_know_the_turns_before_them(tmp_path):
    folder = write_rows(
        tmp_path, [turn(), turn(turn=1, speaker="agent", text="Let me look.", triggers=[])]
    )
    first, second = load_corpus(folder)
    assert first.context == ()
    assert [(before.speaker, before.text) for before in second.context] == [
        ("customer", "My parcel is late.")
    ]


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        (turn(conversation_id=""), "conversation_id", "non-empty"),
        (turn(turn=-1), "turn", "whole number"),
        (turn(turn=3), "turn", "expected 1"),
        (turn(turn=1, level=5), "level", "0 to 4"),
        (turn(turn=1, level=True), "level", "0 to 4"),
        (turn(turn=1, level=4), "level", "goes with personal_abuse"),
        (turn(turn=1, signals=["harm_threat"]), "level", "goes with personal_abuse"),
        (turn(turn=1, speaker="bot"), "speaker", "'bot'"),
        (turn(turn=1, text=" "), "text", "empty"),
        (turn(turn=1, text=None), "text", "NoneType"),
        (turn(turn=1, triggers="delay"), "triggers", "must be a list"),
        (turn(turn=1, triggers=["lateness"]), "triggers", "unknown label 'lateness'"),
        (turn(turn=1, triggers=["delay", "billing"]), "triggers", "vocabulary order"),
        (turn(turn=1, triggers=["delay", "delay"]), "triggers", "once"),
        (turn(turn=1, signals=7), "signals", "must be a list"),
        (turn(turn=1, speaker="agent", triggers=[], signals=["churn_threat"]), "signals", "none"),
        (turn(turn=1, channel="fax"), "channel", "'fax'"),
        (turn(turn=1, channel="email"), "channel", "differs within"),
        (turn(turn=1, arc="odd"), "arc", "'odd'"),
        (turn(turn=1, split="dev"), "split", "'dev'"),
        (turn(turn=1, domain=""), "domain", "must be a word"),
        ({**turn(turn=1), "mood": 1}, "mood", "unknown field"),
        ({k: v for k, v in turn(turn=1).items() if k != "level"}, "level", "missing"),
    ],
)
def test_each_fault_is_named_by_file_line_and_field(tmp_path, row, field, said):
    _, faults = read_corpus(write_rows(tmp_path, [turn(), row]))
    assert [(fault.file, fault.line, fault.field) for fault in faults] == [("a.jsonl", 2, field)]
    assert said in str(faults[0])


def test_lines_that_are_no_objects_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text("{\n[]\n\n" + json.dumps(turn()) + "\n")
    rows, faults = read_corpus(tmp_path)
    assert [fault.line for fault in faults] == [1, 2]
    assert len(rows) == 1


def test_a_conversation_stands_in_one_file(tmp_path):
    write_rows(tmp_path, [turn()])
    write_rows(tmp_path, [turn(turn=1)], "b.jsonl")
    _, faults = read_corpus(tmp_path)
    assert "also stands in a.jsonl" in str(faults[0])


def test_a_faulty_or_missing_corpus_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \*\.jsonl"):
        load_corpus(tmp_path)
    with pytest.raises(DataError, match=r"a\.jsonl:1: turn"):
        load_corpus(write_rows(tmp_path, [turn(turn=1)]))


def test_an_empty_split_is_told_with_what_helps():
    with pytest.raises(DataError, match=r"'test' is empty; run: python -m training\.data split"):
        select_split([utterance(), utterance(conversation_id="c2", split="")], "test")
    with pytest.raises(DataError, match=r"'test' is empty, and no conversation .* --split test"):
        select_split([utterance()], "test")


def test_the_fingerprint_is_of_content_not_order(tmp_path):
    rows = [utterance(), utterance(conversation_id="c2")]
    assert fingerprint(rows) == fingerprint(rows[::-1])
    assert fingerprint(rows) != fingerprint([rows[0], utterance(conversation_id="c2", level=1)])


SAID = "my blue suitcase did not arrive on the belt in oslo last night"


def test_near_duplicates_are_found_and_others_are_not():
    rows = [
        utterance(text=SAID),
        utterance(conversation_id="c2", text=SAID.upper().replace("LAST NIGHT", "last night!!")),
        utterance(conversation_id="c3", text="the red bicycle came with a bent wheel and no pump"),
        utterance(conversation_id="c4", text="yes please"),
        utterance(conversation_id="c5", text="yes please"),
    ]
    pairs = find_near_duplicates(rows)
    assert [(pair.first.conversation_id, pair.second.conversation_id) for pair in pairs] == [
        ("c1", "c2")
    ]
    assert pairs[0].similarity == 1.0


def distinct(number: int) -> str:
    return " ".join(f"word{number}x{k}" for k in range(8))


def test_splits_are_80_10_10_frozen_and_keep_duplicates_together():
    rows = [utterance(conversation_id=f"c{n}", text=distinct(n), split="") for n in range(100)]
    rows.append(utterance(conversation_id="twin", text=distinct(3), split=""))
    once = assign_splits(rows)
    by_id = {row.conversation_id: row.split for row in once}
    counts = [list(by_id.values()).count(name) for name in ("train", "validation", "test")]
    assert sum(counts) == 101
    assert 9 <= counts[1] <= 12
    assert 9 <= counts[2] <= 12
    assert by_id["twin"] == by_id["c3"]
    more = [
        *once,
        *(utterance(conversation_id=f"d{n}", text=distinct(n + 500), split="") for n in range(40)),
    ]
    again = {row.conversation_id: row.split for row in assign_splits(more)}
    assert {name: again[name] for name in by_id} == by_id
    assert {again[f"d{n}"] for n in range(40)} == {"train", "validation", "test"}


GREETING = "Thank you for contacting Acme Support, my name is Kim, how can I help you today?"


def greeted(name: str, number: int, split: str = "") -> list[Utterance]:
    return [
        utterance(conversation_id=name, speaker="agent", text=GREETING, triggers=[], split=split),
        utterance(conversation_id=name, turn=1, text=distinct(number), split=split),
    ]


def test_what_all_agents_say_keeps_no_conversations_together():
    rows = [row for n in range(200) for row in greeted(f"c{n}", n)]
    split = {row.conversation_id: row.split for row in assign_splits(rows)}
    sizes = Counter(split.values())
    assert 158 <= sizes["train"] <= 162
    assert 19 <= sizes["validation"] <= 21
    assert 19 <= sizes["test"] <= 21
    old = [row for n, name in enumerate(SPLITS) for row in greeted(name, n, name)]
    assert find_near_duplicates(old) == []  # so that `check` finds none across splits
    assert assign_splits([*old, *greeted("new", 9)])[-1].split == "train"


@pytest.mark.parametrize(
    ("conversations", "parts", "used"),
    [
        (9, 1, {"train"}),
        (9, 3, {"train"}),  # 27 parts, but of nine conversations
        (42, 1, {"train", "validation", "test"}),
    ],
)
def test_few_conversations_of_many_kinds_are_split(conversations, parts, used):
    kinds = [(arc, channel) for arc in ARCS[:6] for channel in CHANNELS[:4]]
    rows = []
    for number in range(conversations):
        arc, channel = kinds[number % len(kinds)]
        for part in range(parts):
            name = f"c{number}@{part * 2}" if part else f"c{number}"
            text = distinct(100 * number + part)
            about = {"arc": arc, "channel": channel, "split": ""}
            rows.append(utterance(conversation_id=name, text=text, **about))
    assert {row.split for row in assign_splits(rows)} == used


def test_parts_of_one_conversation_share_a_split():
    """Both unseen, and a later one with one that has its split already."""
    rows = [utterance(conversation_id=f"c{n}", text=distinct(n), split="") for n in range(60)]
    rows += [
        utterance(conversation_id=f"c{n}@{start}", text=distinct(1000 * start + n), split="")
        for n in range(60)
        for start in (2, 5)
    ]
    rows[30] = utterance(conversation_id="c30", text=distinct(30), split="test")
    rows.append(utterance(conversation_id="d@4", text=distinct(9000), split="validation"))
    rows.append(utterance(conversation_id="d@8", text=distinct(9001), split=""))
    split = {row.conversation_id: row.split for row in assign_splits(rows)}
    for n in range(60):
        assert split[f"c{n}"] == split[f"c{n}@2"] == split[f"c{n}@5"]
    assert len({split[f"c{n}"] for n in range(60)}) == 3
    assert split["c30@2"] == "test"
    assert split["d@8"] == "validation"


def test_what_repeats_two_splits_joins_neither_and_moves_nothing():
    """The new one is near to both, which are not near to each other."""
    words = [*distinct(1).split(), *distinct(2).split()]
    told = {"train": words[:-3], "test": words[3:]}
    rows = [
        utterance(conversation_id=split, text=" ".join(text), split=split)
        for split, text in told.items()
    ]
    between = utterance(conversation_id="new", text=" ".join(words), split="")
    assert find_near_duplicates(rows) == []
    assert len(find_near_duplicates([*rows, between])) == 2
    for order in (rows, rows[::-1]):
        with pytest.raises(DataError, match=r"^new nearly repeats .*; leave it out$"):
            assign_splits([*order, between])
    assert assign_splits(rows) == rows


def test_check_fails_on_duplicates_across_splits_only(tmp_path, capsys):
    near = [turn(text=SAID), turn(conversation_id="c2", text=SAID)]
    assert data.main(["check", "--corpus", str(write_rows(tmp_path, near))]) == 0
    near[1]["split"] = "test"
    assert data.main(["check", "--corpus", str(write_rows(tmp_path, near))]) == 1
    assert "1 of them across splits" in capsys.readouterr().out


def test_split_writes_files_that_check_accepts(tmp_path, capsys):
    rows = [turn(conversation_id=f"c{n}", text=distinct(n), split="") for n in range(30)]
    folder = write_rows(tmp_path, rows, "delivery.jsonl")
    assert data.main(["check", "--corpus", str(folder)]) == 1
    assert data.main(["split", "--corpus", str(folder)]) == 0
    assert data.main(["check", "--corpus", str(folder)]) == 0
    assert data.main(["describe", "--corpus", str(folder)]) == 0
    assert "| delivery | 24 | 3 | 3 | 30 |" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["delivery.jsonl"]


def test_split_says_which_split_stays_empty_for_want_of_conversations(tmp_path, capsys):
    rows = [turn(conversation_id=f"c{n}", text=distinct(n), split="") for n in range(9)]
    rows.append(turn(conversation_id="t", text=distinct(9), split="test"))
    assert data.main(["split", "--corpus", str(write_rows(tmp_path, rows, "delivery.jsonl"))]) == 0
    out = capsys.readouterr().out
    assert "the split 'validation' is empty, and no conversation is left" in out
    assert "--split validation" in out
    assert "'test' is empty" not in out


def test_the_data_card_has_the_counts_of_the_corpus(capsys):
    assert data.main(["describe", "--corpus", str(DATA / "corpus")]) == 0
    counts = capsys.readouterr().out.strip()
    assert counts.count("|") > 100
    assert counts in (DATA / "README.md").read_text(encoding="utf-8")


def test_a_row_survives_its_line():
    row = utterance(text="naïve\n😡")
    assert json.loads(to_json(row))["text"] == row.text


def test_near_duplicates_at_the_edge_are_not_missed():
    texts = (
        "That'll be it. Set it to automatic and try one last time.",
        "That'll be it :) Set it to automatic and try.",
    )
    pair = [utterance(text=text, conversation_id=text[:14]) for text in texts]
    (found,) = find_near_duplicates(pair)
    assert found.similarity == pytest.approx(0.75)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=6, max_size=9), max_size=12))
def test_no_near_duplicate_is_missed(word_lists):
    rows = [utterance(text=" ".join(words)) for words in word_lists]
    found = sorted(pair.similarity for pair in find_near_duplicates(rows))
    pairs = [(shingles(a.text), shingles(b.text)) for a, b in combinations(rows, 2)]
    everything = [len(a & b) / len(a | b) for a, b in pairs]
    assert found == sorted(value for value in everything if value >= 0.7)


def test_bytes_that_are_not_utf8_are_a_fault_of_their_line(tmp_path):
    folder = write_rows(tmp_path / "corpus", [turn()])
    with (folder / "a.jsonl").open("ab") as stream:
        stream.write(b'{"text": "caf\xe9"}\n')
    rows, faults = read_corpus(folder)
    assert len(rows) == 1
    assert [(fault.file, fault.line, fault.message[:9]) for fault in faults] == [
        ("a.jsonl", 2, "not UTF-8")
    ]


def test_split_does_not_write_a_second_copy_of_a_corpus_in_other_files(tmp_path, capsys):
    folder = write_rows(tmp_path / "corpus", [turn(split="")], "mine.jsonl")
    assert data.main(["split", "--corpus", str(folder)]) == 1
    assert "mine.jsonl is not named by a domain" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mine.jsonl"]
