"""Wrong labels put into a small corpus are found in it, by models that did not see them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conversations import MOODS, utterance, write_rows
from whole_runs import config_file

from deesc_model.errors import DeescError
from deesc_model.labels import TRIGGERS
from training import label_errors, label_noise
from training.label_errors import Doubt, Suspect, make_suspect
from training.label_files import read_labelled, write_queue
from training.label_noise import add_noise, found_at
from training.linear_heads import LinearHeads
from training.metrics import gold_labels
from training.out_of_fold import conversation_folds, features_of, out_of_fold

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")

WRONG = {
    "c011#1": {"level": 0},
    "c023#2": {"level": 4, "signals": ["personal_abuse"]},
    "c033#0": {"triggers": []},
    "c044#3": {"triggers": ["billing"]},
}
"""What is changed in the corpus: moods are (number + turn) % 5."""


@pytest.fixture
def config(tiny_config):
    """The small corpus with the labels of four turns made wrong."""
    make_wrong(tiny_config, WRONG)
    return tiny_config


def make_wrong(config, wrong):
    file = next(Path(config.corpus).glob("*.jsonl"))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.update(wrong.get(f"{row['conversation_id']}#{row['turn']}", {}))
    write_rows(file.parent, rows, file.name)


def mood(name):
    number, position = name[1:].split("#")
    return MOODS[(int(number) + int(position)) % len(MOODS)]


@pytest.mark.parametrize("name", ["suspects.jsonl", "suspects.csv"])
def test_wrong_labels_come_first_with_the_right_ones_beside_them(config, tmp_path, capsys, name):
    out = tmp_path / name
    path = str(config_file(config, tmp_path / "c.toml"))
    assert label_errors.main(["--config", path, "--out", str(out), "--top", "4"]) == 0
    if name.endswith(".csv"):
        with out.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
        rows = [
            row | {key: row[key].split() for key in row if key.endswith(("triggers", "signals"))}
            for row in rows
        ]
    else:
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    found = {f"{row['conversation_id']}#{row['turn']}": row for row in rows}
    assert found.keys() == WRONG.keys()
    for key, row in found.items():
        _, level, triggers, signals = mood(key)
        assert int(row["suggested_level"]) == level
        assert row["suggested_triggers"] == triggers
        assert row["suggested_signals"] == signals
        assert not row["level"]
        assert row["triggers"] == row["signals"] == []
        assert float(row["score"]) > 0.5
    assert found["c044#3"]["context"].splitlines()[-1].startswith("customer: ")
    assert "+" in found["c033#0"]["suspected"]
    assert "-billing" in found["c044#3"]["suspected"]
    shown = capsys.readouterr().out
    found = re.search(r"level: confident learning takes (\d+) of 400 labels for wrong", shown)
    assert 2 <= int(found[1]) <= 4  # two are; an estimate
    assert "4 utterances to read again are in" in shown


def test_only_the_asked_split_is_listed(config, tmp_path):
    make_wrong(config, {"c019#2": {"level": 4, "signals": ["personal_abuse"]}})  # those are train's
    out = tmp_path / "suspects.jsonl"
    path = str(config_file(config, tmp_path / "c.toml"))
    found = label_errors.main(["--config", path, "--out", str(out), "--split", "test"])
    assert found == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {row["split"] for row in rows} == {"test"}
    assert ("c019", 2) in [(row["conversation_id"], row["turn"]) for row in rows]


def test_a_table_that_was_filled_in_is_kept_and_can_be_read(tmp_path, capsys):
    out = tmp_path / "suspects.jsonl"
    row = utterance(conversation_id="c7", turn=3, text="my parcel is late", level=4)
    doubts = [Doubt(0, "level", 0, 0.8), Doubt(0, "triggers", TRIGGERS.index("delay"), 0.6)]
    suspect = make_suspect(row, doubts, predicted_level=1)
    assert suspect.suspected == "level 4→1, -delay"
    assert (suspect.suggested_level, suspect.suggested_triggers, suspect.score) == (1, (), 0.8)
    write_queue([suspect], out, Suspect)
    assert label_errors.main(["--out", str(out)]) == 1
    assert "may hold labels" in capsys.readouterr().err
    filled = json.loads(out.read_text(encoding="utf-8")) | {"level": 1, "triggers": ["delay"]}
    out.write_text(json.dumps(filled), encoding="utf-8")
    ((_, found),) = read_labelled(out).rows
    assert (found.conversation_id, found.turn, found.level) == ("c7", 3, 1)
    assert found.triggers == ("delay",)


def test_an_output_that_is_no_table_is_refused_before_the_work(tmp_path, capsys):
    assert label_errors.main(["--out", str(tmp_path / "suspects.txt")]) == 1
    assert "must end in .jsonl" in capsys.readouterr().err


def test_no_model_sees_the_labels_of_the_conversation_that_it_scores(tiny_config):
    # Each conversation has a word of its own and labels that only this word could teach.
    chance = np.random.default_rng(0)
    rows = [
        utterance(
            conversation_id=f"c{number}",
            turn=position,
            text=f"word{number} " * 3,
            level=int(level),
            triggers=[],
        )
        for number, level in enumerate(chance.integers(0, 2, 60))
        for position in range(3)
    ]
    gold, features = gold_labels(rows), features_of(rows, tiny_config)
    heads = LinearHeads(100.0, balanced=False).fit(features["tfidf"], gold)
    assert (heads.logits(features["tfidf"]).level.argmax(axis=1) == gold.levels).all()
    folds = conversation_folds(rows, 5, seed=1)
    for scores in out_of_fold(features, gold, folds).values():
        assert 0.3 < (scores.level.argmax(axis=1) == gold.levels).mean() < 0.7
    assert {
        len({fold for fold, row in zip(folds, rows, strict=True) if row.conversation_id == c})
        for c in {row.conversation_id for row in rows}
    } == {1}


@pytest.mark.parametrize("count", [1, 3])
def test_folds_that_cannot_be_made_are_refused(count):
    rows = [utterance(conversation_id=name) for name in ("a", "b", "b")]
    with pytest.raises(DeescError, match=f"folds {count}: take 2 to 2"):
        conversation_folds(rows, count, seed=1)


def test_noise_is_as_much_as_was_asked_for_and_only_customers_get_labels():
    moods = [MOODS[number % 5] for number in range(1000)]
    rows = [
        utterance(
            conversation_id=f"c{number}",
            speaker="customer" if number < 500 else "agent",
            level=level if number < 500 else 0,
            triggers=triggers,
            signals=signals if number < 500 else [],
        )
        for number, (_, level, triggers, signals) in enumerate(moods)
    ]
    gold, customers = gold_labels(rows), np.arange(1000) < 500
    noise = add_noise(gold, customers, rate=0.1, far=0.2, seed=1)
    steps = np.abs(noise.gold.levels - gold.levels)
    assert noise.wrong["level"].sum() == (steps > 0).sum() == 50
    assert not noise.wrong["level"][500:].any()
    assert 2 <= (steps > 1).sum() <= 20
    assert noise.gold.triggers.sum() == gold.triggers.sum()
    assert noise.wrong["triggers"].sum() == 2 * 0.1 * gold.triggers.sum()
    assert not (noise.gold.triggers & ~gold.triggers)[500:].any()
    again = add_noise(gold, customers, rate=0.1, far=0.2, seed=1)
    assert (again.gold.levels == noise.gold.levels).all()


def test_precision_by_hand():
    wrong = np.zeros(1000, dtype=bool)
    wrong[[0, 1, 2, 99]] = True
    # Read in order: three of the first 50 are wrong, four of the first 150 and 500.
    precision = found_at(wrong, -np.arange(1000.0))
    assert precision == pytest.approx([3 / 50, 4 / 150, 4 / 500, (1 + 1 + 1 + 4 / 100) / 4])


def test_known_errors_rank_first_where_labels_can_be_learned(tiny_config, tmp_path, capsys):
    path = str(config_file(tiny_config, tmp_path / "c.toml"))
    assert label_noise.main(["--config", path, "--rate", "0.125", "--far", "0"]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    levels = [line for line in lines if line[0] == "| level"]
    assert len(levels) == 18  # three models, three rankings, shifted or not
    assert {line[1] for line in levels} == {"50"}
    by_name = {(line[2], line[3]): line for line in levels}
    assert float(by_name["both", "self_confidence"][4]) > 0.9
