import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conversations import small_corpus, turn, utterance, write_rows
from tiny_bundle import write_tiny_bundle

from deesc_model import Level, Prediction, Turn
from deesc_model.labels import SIGNALS, TRIGGERS
from training import data, ingest, queue
from training.config import Config
from training.corpus import load_corpus
from training.dataset import load_dataset
from training.ingested import IngestedTurn, save_ingested
from training.label_errors import Doubt, Suspect, make_suspect
from training.label_files import read_labelled, write_queue
from training.selection import choose, disagreement, rarity, uncertainty


def prediction(level_scores, triggers=(), signals=(), score=0.0):
    return Prediction(
        level=Level(int(np.argmax(level_scores))),
        level_scores=tuple(level_scores),
        frustration=0.0,
        uncertain=False,
        triggers=triggers,
        trigger_scores=dict.fromkeys(TRIGGERS, score),
        signals=signals,
        signal_scores=dict.fromkeys(SIGNALS, 0.0),
        model_version="test",
    )


SURE, TORN = (1.0, 0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("measure", "torn"), [("entropy", np.log(2) / np.log(5)), ("margin", 1)])
def test_uncertainty_is_half_the_level_and_half_the_least_sure_label(measure, torn):
    values = uncertainty(
        [prediction(SURE), prediction(TORN), prediction(SURE, score=0.5), prediction([0.2] * 5)],
        measure,
    )
    assert values == pytest.approx([0, torn / 2, 0.5, 0.5], abs=1e-6)


def test_rarity_is_that_of_the_rarest_label():
    common = [prediction(SURE, ("delay",)) for _ in range(3)]
    values = rarity([*common, prediction(SURE, ("delay",), ("harm_threat",))])
    assert values == pytest.approx([0, 0, 0, 1])
    assert rarity([prediction(SURE)]) == pytest.approx([1])


def test_disagreement_is_half_the_levels_and_half_the_labels():
    first = [prediction(SURE), prediction(SURE), prediction(SURE)]
    second = [prediction(SURE), prediction(SURE[::-1]), prediction(SURE, score=0.4)]
    assert disagreement(first, second) == pytest.approx([0, 0.5, 0.2])


def test_a_second_of_the_same_kind_gives_way():
    # After the first the others' distances are 0, 0.5 and 0.8: worth 0, 0.2 and 0.24.
    vectors = np.array([[1, 0], [1, 0], [0.5, 0.75**0.5], [0.2, 0.96**0.5]])
    assert choose(np.array([0.9, 0.8, 0.4, 0.3]), vectors, 9).tolist() == [0, 3, 2, 1]
    assert choose(np.array([0.9, 0.8, 0.4, 0.3]), vectors, 2).tolist() == [0, 3]


SAID = [
    ("a", ["the parcel is late", "fine .", "late again", "idiot"]),
    ("b", ["fine", "the parcel is fine", "furious !"]),
    ("c", ["the manager !"]),
]


@pytest.fixture
def ingested(tmp_path) -> Path:
    turns = [
        IngestedTurn(name, n, ("customer", "agent")[n % 2], text, "chat", "delivery", "f.csv", n)
        for name, texts in SAID
        for n, text in enumerate(texts)
    ]
    save_ingested(turns, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def choosing(ingested, tiny_bundle, tmp_path):
    """The command, with a corpus that has nothing of the set."""
    corpus = write_rows(tmp_path / "other", [turn()])

    def command(out, *options, corpus=corpus):
        arguments = ["choose", ingested, "--out", out, "--bundle", tiny_bundle]
        arguments += ["--corpus", corpus, *options]
        return queue.main([str(item) for item in arguments])

    return command


@pytest.fixture
def run(choosing, tmp_path):
    def command(*options, out="q.csv", **corpus):
        assert choosing(tmp_path / out, *options, **corpus) == 0
        return tmp_path / out

    return command


def rows_of(path: Path) -> list[dict]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".csv":
            return list(csv.DictReader(stream))
        return [json.loads(line) for line in stream]


def places(path: Path) -> list[tuple[str, int]]:
    return [(row["conversation_id"], int(row["turn"])) for row in rows_of(path)]


def fill(path: Path, labels: dict) -> Path:
    rows = rows_of(path)
    for row in rows:
        row.update(labels.get((row["conversation_id"], int(row["turn"])), {}))
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".csv":
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_turns_of_customers_are_chosen_with_context(run):
    rows = rows_of(run())
    assert sorted((row["conversation_id"], row["turn"]) for row in rows) == [
        ("a", "0"),
        ("a", "2"),
        ("b", "0"),
        ("b", "2"),
        ("c", "0"),
    ]
    [row] = [row for row in rows if row["text"] == "late again"]
    assert row["context"] == "customer: the parcel is late\nagent: fine ."
    assert row["disagreement"] == ""
    assert row["level"] == row["triggers"] == ""
    assert len(rows_of(run("--count", 2, out="two.csv"))) == 2
    assert len(rows_of(run("--speaker", "all", out="all.csv"))) == 8
    assert {row["context"] for row in rows_of(run("--context", 0, out="bare.csv"))} == {""}


@pytest.mark.parametrize("name", ["q.csv", "q.jsonl"])
def test_labels_that_somebody_filled_in_are_not_overwritten(choosing, run, tmp_path, capsys, name):
    path = run(out=name)
    fill(path, {("a", 0): {"level": "1"}})
    filled = path.read_bytes()
    assert choosing(path) == 1
    assert f"{name} is there already" in capsys.readouterr().err
    assert path.read_bytes() == filled
    run("--overwrite", "--count", 1, out=name)
    assert len(rows_of(path)) == 1
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("out", "said"),
    [("q.xlsx", "must end in"), ("no/q.csv", "missing or read-only"), (".csv", "must end in")],
)
def test_a_file_that_cannot_be_written_is_refused_first(choosing, tmp_path, capsys, out, said):
    assert choosing(tmp_path / out, "--bundle", "nowhere") == 1
    assert said in capsys.readouterr().err


def test_a_previous_bundle_that_agrees_has_no_say(run, tmp_path):
    previous = write_tiny_bundle(tmp_path / "previous")
    rows = rows_of(run("--previous", previous, out="q.jsonl"))
    assert {row["disagreement"] for row in rows} == {0}


def test_context_can_be_labelled_too_and_makes_whole_conversations(run, tmp_path):
    path = run("--label-context", out="q.jsonl")
    assert {("a", 0), ("a", 1), ("a", 2), ("b", 1)} <= set(places(path))
    quiet = {"level": 0, "triggers": [], "signals": []}
    fill(path, {("a", 0): quiet, ("a", 1): quiet, ("a", 2): {**quiet, "level": "frustrated"}})
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 0
    rows = load_corpus(tmp_path / "mine")
    assert [(row.conversation_id, row.turn, row.level, row.arc) for row in rows] == [
        ("a", 0, 0, "rises"),
        ("a", 1, 0, "rises"),
        ("a", 2, 2, "rises"),
    ]
    assert [item.text for item in rows[2].context] == ["the parcel is late", "fine ."]


def test_labels_come_back_into_a_corpus_that_is_accepted(run, tmp_path, capsys):
    held = turn(conversation_id="held", text="Where is my order?", split="train")
    corpus = write_rows(tmp_path / "mine", [held], "delivery.jsonl")
    labels = {
        ("a", 2): {"level": "2", "triggers": "unresolved; delay", "signals": ""},
        ("b", 0): {"level": "0"},
        ("b", 2): {"level": "4", "signals": "personal_abuse"},
    }
    path = fill(run(), labels)
    assert queue.main(["import", str(path), "--corpus", str(corpus)]) == 0
    shown = capsys.readouterr().out
    assert "3 labelled turns in 3 conversations" in shown
    assert "2 rows without labels" in shown
    assert data.main(["split", "--corpus", str(corpus)]) == 0
    assert data.main(["check", "--corpus", str(corpus)]) == 0
    rows = {row.conversation_id: row for row in load_corpus(corpus)}
    assert set(rows) == {"held", "a@2", "b", "b@2"}
    assert rows["a@2"].triggers == ("delay", "unresolved")
    assert rows["b@2"].arc == "abusive"
    # what is labelled is not asked again
    assert sorted(places(run(out="next.csv", corpus=corpus))) == [("a", 0), ("c", 0)]


def test_an_import_can_be_done_again_but_changes_nothing(run, tmp_path, capsys):
    path, corpus = fill(run(), {("a", 2): {"level": "2"}}), tmp_path / "mine"

    def take() -> int:
        return queue.main(["import", str(path), "--corpus", str(corpus)])

    assert take() == 0
    before = (corpus / "delivery.jsonl").read_bytes()
    assert take() == 0
    assert "4 rows without labels, 1 that" in capsys.readouterr().out
    [text] = [
        row["text"] for row in rows_of(path) if row["conversation_id"] == "a" and row["level"]
    ]
    fill(path, {("a", 2): {"text": text.replace(" ", "\r\n")}})  # as another spreadsheet saves it
    assert take() == 0
    assert (corpus / "delivery.jsonl").read_bytes() == before
    fill(path, {("b", 0): {"level": "0"}})  # the labeller went on
    assert take() == 0
    assert [row.conversation_id for row in load_corpus(corpus)] == ["a@2", "b"]
    fill(path, {("a", 2): {"level": "3"}})
    assert take() == 1
    assert "has other labels" in capsys.readouterr().err
    assert [row.level for row in load_corpus(corpus)] == [2, 0]


def suspects(path, *rows):
    """What training.label_errors writes of rows of a corpus."""
    doubts = [Doubt(0, "level", 0, 0.8)]
    found = [make_suspect(row, doubts, predicted_level=0) for row in rows]
    write_queue(found, path, Suspect, overwrite=True)
    return path


def test_labels_that_were_read_again_take_the_place_of_those_of_the_corpus(tmp_path, capsys):
    held = [
        turn(conversation_id="x@2", turn=0, text="Where is  my order?", split="train"),
        turn(conversation_id="x@2", turn=1, text="Third time I ask!", split="train", level=1),
    ]
    corpus = write_rows(tmp_path / "mine", held, "delivery.jsonl")
    before = load_corpus(corpus)
    path = suspects(tmp_path / "suspects.csv", *before)
    fill(path, {("x@2", 1): {"level": "2", "triggers": "unresolved"}})

    def correct() -> int:
        return queue.main(["correct", str(path), "--corpus", str(corpus)])

    assert correct() == 0
    assert "1 turns read again, the labels of 1 changed" in capsys.readouterr().out
    after = load_corpus(corpus)
    assert after == [before[0], replace(before[1], level=2, triggers=("unresolved",))]
    assert correct() == 0
    assert "1 turns read again, the labels of 0 changed" in capsys.readouterr().out
    assert load_corpus(corpus) == after


@pytest.mark.parametrize("part", ["", "@3"])  # of a conversation that begins later
@pytest.mark.parametrize("none", ["none", "None", "NONE "])
@pytest.mark.parametrize("name", ["suspects.csv", "suspects.jsonl"])
def test_a_cell_that_is_left_empty_keeps_its_labels(tmp_path, name, none, part):
    labels = {"level": 2, "triggers": ("billing",), "signals": ("churn_threat",)}
    held = [
        turn(conversation_id=f"{number}{part}", turn=0, text=f"Text {number}!", **labels)
        for number in range(4)
    ]
    corpus = write_rows(tmp_path / "mine", held, "delivery.jsonl")
    path = suspects(tmp_path / name, *load_corpus(corpus))
    filled = [{"level": "3", "triggers": " "}, {"triggers": "delay"}, {"signals": none}, {}]
    fill(path, {(f"{number}{part}", 0): cells for number, cells in enumerate(filled)})
    assert queue.main(["correct", str(path), "--corpus", str(corpus)]) == 0
    assert [(row.level, row.triggers, row.signals) for row in load_corpus(corpus)] == [
        (3, ("billing",), ("churn_threat",)),
        (2, ("delay",), ("churn_threat",)),
        (2, ("billing",), ()),
        (2, ("billing",), ("churn_threat",)),
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"conversation_id": "xci-7"}, "has no such turn; of a public text, change the line in"),
        ({"text": "Where is my parcel?"}, "has another text for this turn"),
        ({"speaker": "agent", "level": 0, "triggers": ()}, "has another text for this turn"),
    ],
)
def test_what_the_corpus_does_not_have_is_not_corrected(tmp_path, capsys, changed, said):
    held = turn(conversation_id="x", turn=0, text="Where is my order?", split="train", level=1)
    corpus = write_rows(tmp_path / "mine", [held], "delivery.jsonl")
    (row,) = before = load_corpus(corpus)
    other = replace(row, **changed)
    path = suspects(tmp_path / "suspects.csv", other)
    fill(path, {(other.conversation_id, 0): {"level": "0"}})
    assert queue.main(["correct", str(path), "--corpus", str(corpus)]) == 1
    error = capsys.readouterr().err
    assert "suspects.csv:2 (" in error
    assert said in error
    assert load_corpus(corpus) == before


def test_what_people_bring_and_label_is_what_training_reads(tiny_bundle, tmp_path):
    """From a file of tickets to the examples of a training run, by the commands alone."""
    corpus = small_corpus(tmp_path / "corpus", conversations=20)
    (corpus / "a.jsonl").rename(corpus / "delivery.jsonl")
    tickets = tmp_path / "tickets.csv"
    tickets.write_text(
        "text,speaker,conversation_id\n"
        "the parcel is late again and my card is 4111 1111 1111 1111,customer,t1\n"
        "fine .,agent,t1\n"
        "you idiot !,customer,t1\n"
    )
    sets = tmp_path / "sets" / "march"
    nowhere = ["--sources", str(tmp_path / "raw")]
    taken = [str(tickets), "--out", str(sets), "--corpus", str(corpus), *nowhere]
    assert ingest.main([*taken, "--domain", "delivery"]) == 0
    out = tmp_path / "q.csv"
    chosen = ["choose", str(sets), "--out", str(out), "--corpus", str(corpus)]
    assert queue.main([*chosen, "--bundle", str(tiny_bundle), "--label-context"]) == 0
    name = "march-000001"
    fill(
        out,
        {
            (name, 0): {"level": "1", "triggers": "delay"},
            (name, 1): {"level": "0"},
            (name, 2): {"level": "4", "signals": "personal_abuse"},
        },
    )
    assert queue.main(["import", str(out), "--corpus", str(corpus)]) == 0
    assert data.main(["split", "--corpus", str(corpus)]) == 0
    assert data.main(["check", "--corpus", str(corpus)]) == 0
    config = Config(corpus=str(corpus), sources=str(tmp_path / "raw"))
    read = [row for rows in load_dataset(config).values() for row in rows]
    mine = [row for row in read if row.conversation_id == name]
    assert [(row.text, row.level, row.triggers, row.signals) for row in mine] == [
        ("the parcel is late again and my card is [card]", 1, ("delay",), ()),
        ("fine .", 0, (), ()),
        ("you idiot !", 4, (), ("personal_abuse",)),
    ]
    assert mine[2].context == (Turn("customer", mine[0].text), Turn("agent", "fine ."))
    assert ingest.main([*taken[:2], str(tmp_path / "sets" / "april"), *taken[3:]]) == 1  # known


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"level": "5"}, "level: must be 0 to 4"),
        ({"level": "cross"}, "level: must be 0 to 4"),
        ({"triggers": "delay"}, "level: must be 0 to 4"),
        ({"level": "1", "triggers": "lateness"}, "triggers: unknown label 'lateness'; known are"),
        ({"level": "1", "signals": "shouting"}, "harm_threat and none"),
        ({"level": "4"}, "level: 4 goes with personal_abuse or harm_threat"),
        ({"level": "3", "signals": "harm_threat"}, "level: 4 goes with"),
        ({"level": "0", "speaker": "agent", "signals": "churn_threat"}, "agent turns carry none"),
        ({"level": "0", "turn": "x"}, "turn: must be a whole number"),
        ({"level": "0", "domain": ""}, "domain: must be a word"),
        ({"level": "0", "text": "#NAME?"}, "text: is not as it was queued"),
    ],
)
def test_illegal_labels_are_refused_by_line(run, tmp_path, capsys, labels, said):
    path = run()
    fill(path, {places(path)[0]: labels})
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 1
    error = capsys.readouterr().err
    assert "q.csv:2 (" in error
    assert said in error
    assert not (tmp_path / "mine").exists()


def test_no_spreadsheet_takes_a_hash_for_a_number(run, tmp_path):
    path = run(out="q.csv")
    assert all(row["text_sha256"].startswith("sha256:") for row in rows_of(path))
    first = places(path)[0]
    bare = rows_of(path)[0]["text_sha256"].removeprefix("sha256:")  # as older files have it
    fill(path, {first: {"level": "0", "text_sha256": bare}})
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 0


def test_a_turn_labelled_twice_is_refused(run, tmp_path, capsys):
    path = run("--count", 1, out="q.jsonl")
    fill(path, {places(path)[0]: {"level": 0}})
    path.write_text(path.read_text() * 2)
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 1
    error = capsys.readouterr().err
    assert "q.jsonl:2 (" in error
    assert "this turn is labelled in q.jsonl:1 (" in error


def test_what_a_spreadsheet_does_to_a_file_is_understood(run, tmp_path):
    """Numbers with a point, other line breaks, empty rows at the end."""
    path = fill(run("--count", 1), {})
    [row] = rows_of(path)
    row |= {"level": "2.0", "turn": f"{row['turn']}.0", "text": row["text"].replace(" ", " \n")}
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, row, lineterminator="\n")
        writer.writeheader()
        writer.writerows([row, dict.fromkeys(row, "")])
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 0
    assert [labelled.level for labelled in load_corpus(tmp_path / "mine")] == [2]


@pytest.mark.parametrize("text", ["=1+1", "+44 is your number?", "- no refund", "@you what now"])
def test_no_spreadsheet_computes_what_a_customer_wrote(tmp_path, text):
    row = utterance(conversation_id="=a", text=text)
    path = suspects(tmp_path / "q.csv", row)
    [cells] = rows_of(path)
    assert (cells["conversation_id"], cells["text"]) == ("\t=a", f"\t{text}")
    cells["level"] = "0"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, cells)
        writer.writeheader()
        writer.writerow(cells)
    found = read_labelled(path)
    assert found.faults == []
    assert [(again.conversation_id, again.text) for _, again in found.rows] == [("=a", text)]


def studio_task(number, row, *results, cancelled=False):
    """A task as Label Studio exports it, annotations with their ordinary fields."""
    annotations = [
        {
            "id": 1000 + number,
            "completed_by": 1,
            "was_cancelled": cancelled,
            "ground_truth": False,
            "lead_time": 4.2,
            "task": number,
            "result": [
                {
                    "id": f"r{index}",
                    "type": "choices",
                    "origin": "manual",
                    "from_name": name,
                    "to_name": "text",
                    "value": {"choices": choices},
                }
                for index, (name, choices) in enumerate(result.items())
            ],
        }
        for result in results
    ]
    return {"id": number, "data": row, "annotations": annotations, "predictions": [], "meta": {}}


def export(path: Path, tasks: list) -> Path:
    path.write_text(json.dumps(tasks, indent=1), encoding="utf-8")
    return path


def test_what_another_spreadsheet_does_to_a_file_is_named(run, tmp_path, capsys):
    """Semicolons between columns, another encoding, a mark of quotation that is left open."""
    path = run("--count", 1)
    [row] = rows_of(path)
    cells = {**row, "level": "0"}
    for said, content in (
        ("commas must separate columns", ";".join(cells) + "\n" + ";".join(cells.values())),
        ("not UTF-8", ",".join(cells) + "\n" + ",".join({**cells, "text": "caf\xe9"}.values())),
        ("quotation mark left open", ",".join(cells) + '\n"' + ",".join(cells.values())),
    ):
        path.write_bytes(content.encode("latin-1"))
        assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 1
        assert said in capsys.readouterr().err
        assert not (tmp_path / "mine").exists()


def test_label_studio_labels_come_back(run, tmp_path, capsys):
    path = run()
    rows = dict(zip(places(path), rows_of(path), strict=True))
    tasks = [
        studio_task(1, rows["a", 2], {"level": ["3"], "triggers": ["unresolved", "delay"]}),
        studio_task(2, rows["b", 2], {"level": ["abusive"], "signals": ["harm_threat"]}),
        studio_task(3, rows["c", 0]),
        studio_task(4, rows["b", 0], {"level": ["1"]}, cancelled=True),
    ]
    path = export(tmp_path / "export.json", tasks)
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 0
    assert "2 rows without labels" in capsys.readouterr().out
    labels = {
        r.conversation_id: (r.level, r.triggers, r.signals) for r in load_corpus(tmp_path / "mine")
    }
    assert labels == {
        "a@2": (3, ("delay", "unresolved"), ()),
        "b@2": (4, (), ("harm_threat",)),
    }


def test_label_studio_faults_are_named_by_line(run, tmp_path, capsys):
    [row] = rows_of(run("--count", 1))
    capsys.readouterr()
    tasks = [
        studio_task(1, row, {"level": ["0"]}, {"level": ["1"]}),
        studio_task(2, row, {"level": ["0", "1"]}),
        studio_task(3, row, {"level": ["4"]}),
        {"id": 4, "text": "no data"},
    ]
    path = export(tmp_path / "export.json", tasks)
    assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 1
    lines = capsys.readouterr().err.splitlines()
    wanted = ("annotations differ", "more than one", "level: 4 goes", "not a task")
    for number, (line, said) in enumerate(zip(lines, wanted, strict=False), start=1):
        assert line.startswith(f"export.json, task {number}")
        assert said in line
    assert "4 faults; nothing was written" in lines
    for text, said in (("{}", "must be a list of tasks"), ('[{"data": ', "not JSON")):
        path.write_text(text)
        assert queue.main(["import", str(path), "--corpus", str(tmp_path / "mine")]) == 1
        assert said in capsys.readouterr().err


def test_nothing_to_choose_or_no_set_is_an_error(choosing, ingested, tmp_path, capsys):
    out = tmp_path / "q.csv"
    assert choosing(out, corpus=tmp_path / "nowhere") == 1
    assert "no *.jsonl file in" in capsys.readouterr().err
    everything = [
        turn(
            conversation_id=name,
            turn=n,
            text=text,
            triggers=[],
            speaker=("customer", "agent")[n % 2],
        )
        for name, texts in SAID
        for n, text in enumerate(texts)
    ]
    assert choosing(out, corpus=write_rows(tmp_path / "all", everything)) == 1
    assert "no turn to label" in capsys.readouterr().err
    assert queue.main(["choose", str(tmp_path), "--out", str(out)]) == 1
    assert "not a set that training.ingest wrote" in capsys.readouterr().err
    assert queue.main(["choose", str(ingested), str(ingested), "--out", str(out)]) == 1
    assert "conversation a is in another set too" in capsys.readouterr().err
    assert not out.exists()


def test_what_is_to_test_a_model_is_chosen_by_chance(run, tmp_path, capsys):
    ranked, drawn = places(run()), places(run("--random", "--count", 3, out="random.csv"))
    assert len(drawn) == 3
    assert set(drawn) < set(ranked)
    assert {row["uncertainty"] for row in rows_of(tmp_path / "random.csv")} == {""}
    path = fill(tmp_path / "random.csv", {place: {"level": "0"} for place in drawn})
    corpus = tmp_path / "mine"
    assert queue.main(["import", str(path), "--corpus", str(corpus), "--split", "test"]) == 0
    rows = load_corpus(corpus)
    assert {row.split for row in rows} == {"test"}
    # another turn of one of these conversations may not go elsewhere, and is not asked for
    others = [place for place in ranked if place not in drawn]
    assert {name for name, _ in others} & {name for name, _ in drawn}
    later = places(run(out="later.csv", corpus=corpus))
    assert not {name for name, _ in later} & {name for name, _ in drawn}
    path = fill(run(out="rest.csv"), {place: {"level": "0"} for place in others})
    capsys.readouterr()
    assert queue.main(["import", str(path), "--corpus", str(corpus), "--split", "train"]) == 1
    assert "turns of its conversation are in the split test" in capsys.readouterr().err
    assert load_corpus(corpus) == rows
