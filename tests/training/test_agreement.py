import json

import numpy as np
import pytest

from training import agreement
from training.agreement import ordinal_alpha

NAN = np.nan


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(name, level, triggers=(), signals=()):
    return {"id": name, "level": level, "triggers": list(triggers), "signals": list(signals)}


def test_alpha_equals_the_published_example():
    # Krippendorff 2011, section C: four observers, twelve units, missing values; ordinal 0.815.
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
    assert ordinal_alpha(ratings) == pytest.approx(0.815, abs=0.0005)


def test_alpha_is_one_for_equal_and_near_zero_for_shuffled_ratings():
    ratings = np.random.default_rng(0).integers(0, 5, 4000)
    assert ordinal_alpha([ratings, ratings]) == pytest.approx(1)
    shuffled = np.random.default_rng(1).permutation(ratings)
    assert ordinal_alpha([ratings, shuffled]) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("ratings", [[[2, 2, 1], [2, 2, NAN]], [[1, NAN], [NAN, 3]]])
def test_alpha_is_undefined_where_nothing_varies(ratings):
    assert np.isnan(ordinal_alpha(ratings))


def test_labellings_are_compared_where_both_have_a_row(tmp_path, capsys):
    turn = {"conversation_id": "a", "turn": 0, "level": 2, "triggers": ["delay"], "signals": []}
    folder = tmp_path / "corpus"
    folder.mkdir()
    write(folder / "x.jsonl", [turn, {**turn, "turn": 1, "level": 0, "triggers": []}])
    write(folder / "y.jsonl", [row("b#0", 4, ["delay"], ["personal_abuse"]), row("only here", 1)])
    second = [row("a#0", 2, ["delay", "billing"]), row("a#1", 2), row("b#0", 4, ["delay"])]
    found = agreement.main([str(folder), str(write(tmp_path / "second.jsonl", second))])
    shown = capsys.readouterr().out
    assert found == 0
    assert "3 utterances labelled twice: the level is the same in 66.7%, off by two" in shown
    assert "| delay | 2 | 2 | 1.00 |" in shown
    assert "| billing | 0 | 1 | 0.00 |" in shown
    assert "| policy | 0 | 0 | – |" in shown
    assert "| first \\ second | 0 | 1 | 2 | 3 | 4 |" in shown
    assert "| 0 | 0 | 0 | 1 | 0 | 0 |" in shown
    assert "| 4 | 0 | 0 | 0 | 0 | 1 |" in shown
    assert "annotator" not in shown


def test_annotators_are_told_apart_by_what_their_ids_begin_with(tmp_path, capsys):
    first = [row("w1-001#0", 2), row("w1-002#3", 2), row("w2-001#0", 1), row("xci:7", 3)]
    second = [row("w1-001#0", 1), row("w1-002#3", 2), row("w2-001#0", 1), row("xci:7", 4)]
    files = [write(tmp_path / "a.jsonl", first), write(tmp_path / "b.jsonl", second)]
    assert agreement.main([*map(str, files), "--annotators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "| xci | 1 | 100.0% | 0 | 1 |",
        "| w1 | 2 | 50.0% | 1 | 0 |",
        "| w2 | 1 | 0.0% | 0 | 0 |",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no labels at"),
        ("{}\n", "second.jsonl:1: not a labelled utterance: KeyError"),
        ('{"id": "x", "level": 9, "triggers": [], "signals": []}', "9 is not a valid Level"),
        ('{"id": "x", "level": 1, "triggers": [], "signals": []}', "no utterance in common"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, capsys, content, said):
    first, second = write(tmp_path / "first.jsonl", [row("a", 0)]), tmp_path / "second.jsonl"
    if content is not None:
        second.write_text(content, encoding="utf-8")
    assert agreement.main([str(first), str(second)]) == 1
    assert said in capsys.readouterr().err
