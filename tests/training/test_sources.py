import gzip
import json
from collections import defaultdict
from pathlib import Path

import pytest

from deesc_model.labels import SIGNALS, TRIGGERS
from deesc_model.types import Turn
from training import sources
from training.sources import join_source, load_sources, read_annotations, text_hash

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "data/annotations").glob("*.jsonl"))


def label(name, text, **changes):
    row = {"id": name, "text_sha256": text_hash(text), "level": 1, "triggers": ["delay"]}
    return {**row, "signals": [], "passes": 1, **changes}


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["xci.jsonl", "xci.jsonl.gz"])
def test_labels_meet_the_text_that_was_labelled(tmp_path, name):
    labels = [label("xci:1", "it is late"), label("xci:2", "as it was"), label("xci:3", "away")]
    annotations = write(tmp_path / "annotations" / "xci.jsonl", labels)
    texts = [{"id": "xci:1", "text": "it is late"}, {"id": "xci:2", "text": "edited since"}]
    write(tmp_path / "raw" / name, [*texts, {"id": "xci:9", "text": "nobody labelled this"}])
    joined = join_source(annotations, tmp_path / "raw")
    assert [(label.id, label.triggers, row.text) for label, row in joined.texts] == [
        ("xci:1", ("delay",), "it is late")
    ]
    assert (joined.missing, joined.changed) == (1, 1)


def test_the_command_says_what_is_missing_and_where_it_is_published(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    write(tmp_path / "a" / "banking77.jsonl", [label("banking77:test:1", "where is it")])
    write(tmp_path / "raw" / "banking77.jsonl", [{"id": "banking77:test:1", "text": "where is it"}])
    out = tmp_path / "joined.jsonl"
    options = ["--annotations", str(tmp_path / "a"), "--out", str(out)]
    assert sources.main([*options, "--sources", str(tmp_path / "raw")]) == 0
    shown = capsys.readouterr().out
    assert "| banking77 | CC BY 4.0 | 1 | 0 | 0 |" in shown
    assert "1 texts are labelled, 1 of them customers'." in shown
    assert json.loads(out.read_text())["text"] == "where is it"
    assert sources.main([*options, "--sources", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr().out
    assert "| banking77 | CC BY 4.0 | 0 | 1 | 0 |" in shown
    assert "PolyAI-LDN/task-specific-datasets" in shown
    write(tmp_path / "raw" / "banking77.jsonl", [{"id": "banking77:test:1", "text": "changed"}])
    assert sources.main([*options, "--sources", str(tmp_path / "raw")]) == 1


def test_a_text_keeps_the_turns_before_it(tmp_path):
    turns = (Turn("customer", "it's late: two days"), Turn("agent", "Which parcel?"))
    labels = [label("convabuse:1", "as I said"), label("convabuse:2", "hello")]
    labels[0]["text_sha256"] = text_hash("as I said", turns)
    annotations = write(tmp_path / "annotations" / "convabuse.jsonl", labels)
    before = ["customer: it's late: two days", "agent: Which parcel?"]
    texts = [
        {"id": "convabuse:1", "text": "as I said", "context": before},
        {"id": "convabuse:2", "text": "hello", "context": ["customer: _", "agent: _"]},
    ]
    write(tmp_path / "raw" / "convabuse.jsonl", texts)
    said, greeting = load_sources(tmp_path / "raw", annotations.parent)
    assert said.context == turns
    assert greeting.context == ()
    write(tmp_path / "raw" / "convabuse.jsonl", [{**texts[0], "context": before[1:]}, texts[1]])
    assert join_source(annotations, tmp_path / "raw").changed == 1
    write(tmp_path / "raw" / "convabuse.jsonl", [{**texts[0], "context": ["bot: Which?"]}])
    with pytest.raises(sources.DataError, match=r"convabuse.jsonl:1: .*speaker"):
        join_source(annotations, tmp_path / "raw")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("null", "text must be a string, not None"),
        ('"cut \\ud83d"', r"lone surrogate \(U\+D83D\)"),
        ('"a\\u0000b"', "control character"),
    ],
)
def test_a_text_that_nobody_could_label_is_named_by_line(tmp_path, text, said):
    annotations = write(tmp_path / "annotations" / "xci.jsonl", [label("xci:1", "a")])
    (tmp_path / "xci.jsonl").write_text(f'{{"id": "xci:1", "text": {text}}}\n')
    with pytest.raises(sources.DataError, match=rf"xci.jsonl:1: not a source text: .*{said}"):
        join_source(annotations, tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    annotations = write(tmp_path / "annotations" / "xci.jsonl", [label("xci:1", "a")])
    raw = bytearray(gzip.compress(b'{"id": "xci:1", "text": "a"}\n' * 50))
    raw[14:18] = b"\xff" * 4
    (tmp_path / "xci.jsonl.gz").write_bytes(raw)
    with pytest.raises(sources.DataError, match=r"xci.jsonl.gz:\d+: not a source text"):
        join_source(annotations, tmp_path)


def test_a_damaged_file_is_named_by_line(tmp_path):
    annotations = write(tmp_path / "annotations" / "xci.jsonl", [label("xci:1", "a")])
    (tmp_path / "xci.jsonl").write_text('{"id": "xci:1", "text": "a"}\n{"id"\n')
    with pytest.raises(sources.DataError, match=r"xci.jsonl:2: not a source text"):
        join_source(annotations, tmp_path)
    annotations.write_text('{"id": "xci:1"}\n')
    with pytest.raises(sources.DataError, match=r"xci.jsonl:1: not an annotation"):
        read_annotations(annotations)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_annotations_keep_to_the_vocabulary_and_hold_no_text(file):
    rows = read_annotations(file)
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert row.id.startswith(f"{file.stem}:")
        assert row.triggers == tuple(name for name in TRIGGERS if name in row.triggers)
        assert row.signals == tuple(name for name in SIGNALS if name in row.signals)
        abusive = bool({"personal_abuse", "harm_threat"} & set(row.signals))
        assert row.skip or (row.level == 4) == abusive
        assert len(row.text_sha256) == sources.HASH_DIGITS


def test_every_annotated_source_says_where_it_is_published():
    about = sources.read_about(ROOT / "data/sources.toml")
    assert {file.stem for file in SHIPPED} == set(about)
    wanted = {"what", "by", "repository", "file", "licence", "id", "channel", "domain"}
    assert all(set(origin) - {"context"} == wanted for origin in about.values())


def split_list(name):
    return (ROOT / "data/splits" / f"{name}.txt").read_text().split()


def test_the_frozen_splits_are_apart_and_twice_labelled():
    test, validation, unused = map(split_list, ("test", "validation", "unused"))
    assert len(test) == 1000
    ids = [*test, *validation, *unused]
    assert len(set(ids)) == len(ids)
    labels = {row.id: row for file in SHIPPED for row in read_annotations(file)}
    assert all(labels[name].passes == 2 for name in test)
    assert not any(labels[name].skip for name in (*test, *validation))
    apart = dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")
    apart |= dict.fromkeys(unused)
    dialogues = defaultdict(set)
    for row in read_annotations(ROOT / "data/annotations/multidogo.jsonl"):
        if not row.skip:  # the last part of an id is the turn
            dialogues[row.id.rpartition(":")[0]].add(apart.get(row.id, "train"))
    assert len(dialogues) > 200
    assert all(len(splits - {None}) <= 1 for splits in dialogues.values())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """One text of each split from two sources, and one that is no customer's."""
    monkeypatch.chdir(ROOT)
    names = [split_list(name)[0] for name in ("test", "validation", "unused")]
    names += [next(name for name in split_list("test") if name.startswith("xci:"))]
    names += ["xci:none", "xci:staff"]
    for source in {name.split(":")[0] for name in names}:
        mine = [name for name in names if name.startswith(f"{source}:")]
        labels = [label(name, f"text {name}", skip=name == "xci:staff") for name in mine]
        write(tmp_path / "a" / f"{source}.jsonl", labels)
        texts = [{"id": name, "text": f"text {name}"} for name in mine]
        write(tmp_path / "raw" / f"{source}.jsonl", texts)
    return tmp_path / "raw", tmp_path / "a", names


def test_public_texts_go_where_the_lists_say(folders):
    raw, annotations, names = folders
    rows = {row.conversation_id: row for row in load_sources(raw, annotations)}
    wanted = dict(zip(names, ("test", "validation", None, "test", "train", None), strict=True))
    assert {name: row.split for name, row in rows.items()} == {k: v for k, v in wanted.items() if v}
    assert rows["xci:none"].source == "xci"
    assert rows["xci:none"].channel == "social"
    assert rows["xci:none"].triggers == ("delay",)
    assert load_sources(raw / "away", annotations) == []


def test_a_source_that_is_held_out_is_all_that_is_tested(folders):
    raw, annotations, names = folders
    rows = load_sources(raw, annotations, held_out="xci")
    assert {row.conversation_id for row in rows if row.split == "test"} == {
        name for name in names if name.startswith("xci:") and name != "xci:staff"
    }
    assert all(row.source != "xci" for row in rows if row.split != "test")
    with pytest.raises(sources.DataError, match="'goemotions'"):
        load_sources(raw, annotations, held_out="goemotions")
