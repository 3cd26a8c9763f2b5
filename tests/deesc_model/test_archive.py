"""Scoring of many files: parts, processes, kills. None of them may change a row or a score."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from command import deesc, read_jsonl, stopped_amid, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import WORDS, write_tiny_bundle

pytest.importorskip("typer")

from deesc_model import EscalationClassifier, InvalidInputError
from deesc_model.archive import job
from deesc_model.archive.folders import folder_at
from deesc_model.archive.labelling import in_processes, in_this_process
from deesc_model.archive.manifest import guard, plan_of
from deesc_model.archive.outputs import open_file, open_parts
from deesc_model.archive.pace import Pace, in_words
from deesc_model.archive.scoring import score
from deesc_model.archive.sources import find_sources
from deesc_model.archive.windows import Wanted, windows_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "transcripts"
BATCH = 4
SKIP = ("--on-error", "skip")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A bundle whose scores tell which texts were labelled together."""
    return write_tiny_bundle(tmp_path_factory.mktemp("crowded") / "bundle", crowd=1e-4)


def talks(count, length=3):
    """Conversations of different lengths, every text its own."""
    words = list(WORDS)
    return [
        {
            "conversation_id": f"c{talk}",
            "speaker": "agent" if turn % 2 else "customer",
            "text": f"{words[(talk + turn) % len(words)]} {'the ' * ((talk * turn) % 9)}",
            "row": talk * 100 + turn,
        }
        for talk in range(count)
        for turn in range(1 + (talk + length) % (2 * length))
    ]


def contents(folder):
    """All files of a folder by name, but for the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def part_files(folder):
    return sorted(folder.glob("part-*"))


def rows_of(folder):
    return [row for path in part_files(folder) for row in read_jsonl(path.read_text("utf-8"))]


# What a split may be: nothing of it shows in the rows.


@pytest.fixture(scope="module")
def labellers(crowded):
    """How windows may be labelled: here, or in one, two or three processes."""
    here = in_this_process(EscalationClassifier.from_pretrained(crowded, threads=1), BATCH)
    with in_processes(crowded, 1, 1, BATCH) as one, in_processes(crowded, 3, 1, BATCH) as three:
        yield here, one, three


ROWS = st.lists(
    st.one_of(
        st.builds(
            lambda name, words: {"text": " ".join(words), "conversation_id": name},
            st.sampled_from(["a", "b", "c", ""]),
            st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=20),
        ),
        st.just({"speaker": "customer"}),  # a bad one
    ),
    max_size=40,
)


def run(sources, output, label, part_rows=None, size=7):
    with output as opened:
        wanted = Wanted(sources, 2, part_rows, there=opened.there, skip=True, size=size)
        return score(wanted, label, opened)


def parts_of(sources, folder, label, part_rows, size=7):
    plan = plan_of(sources, part_rows=part_rows)
    return run(sources, open_parts(folder_at(folder), "jsonl", (), plan), label, part_rows, size)


@settings(max_examples=60)
@given(
    files=st.lists(ROWS, min_size=1, max_size=3),
    part_rows=st.integers(1, 12),
    way=st.integers(0, 2),
    lost=st.sets(st.integers(0, 12)),
)
def test_no_split_changes_a_row(labellers, tmp_path_factory, files, part_rows, way, lost):
    folder = tmp_path_factory.mktemp("split")
    paths = [write_jsonl(folder / f"{n}.jsonl", rows) for n, rows in enumerate(files)]
    sources = find_sources(paths)
    plain, aside, out = folder / "plain.jsonl", folder / "skipped.jsonl", folder / "out"
    run(sources, open_file(plain, "jsonl", (), aside), labellers[0])
    parts_of(sources, out, labellers[way], part_rows)

    def joined(pattern):
        return b"".join(path.read_bytes() for path in sorted(out.glob(pattern)))

    assert joined("part-*.jsonl") == plain.read_bytes()
    assert joined("_skipped/*.jsonl") == (aside.read_bytes() if aside.exists() else b"")
    whole = contents(out)
    for number in lost:
        (out / f"part-{number:06}.jsonl").unlink(missing_ok=True)
    parts_of(sources, out, labellers[way], part_rows)
    assert contents(out) == whole


@settings(max_examples=60)
@given(rows=ROWS, part_rows=st.integers(1, 12))
def test_a_part_that_is_full_ends_before_a_conversation_begins(
    labellers, tmp_path_factory, rows, part_rows
):
    folder = tmp_path_factory.mktemp("cut")
    sources = find_sources([write_jsonl(folder / "a.jsonl", rows)])
    parts_of(sources, folder / "out", labellers[0], part_rows)
    begun = set()
    for path in part_files(folder / "out"):
        for number, row in enumerate(read_jsonl(path.read_text())):
            begins = row["conversation_id"] == "" or row["conversation_id"] not in begun
            begun.add(row["conversation_id"])
            assert begins or number > 0
            assert not begins or number < part_rows


def test_the_test_bundle_would_show_another_window(labellers, tmp_path):
    sources = find_sources([write_jsonl(tmp_path / "a.jsonl", talks(20))])
    for size in (7, 8):
        output = open_file(tmp_path / f"{size}.jsonl", "jsonl", (), tmp_path / "skipped")
        run(sources, output, labellers[0], size=size)
    assert (tmp_path / "7.jsonl").read_bytes() != (tmp_path / "8.jsonl").read_bytes()


def test_threads_do_not_change_a_score_of_the_shipped_model():
    texts = [row["text"] + " where is my refund?" for row in talks(16)]
    one, two = (EscalationClassifier.from_pretrained(threads=n) for n in (1, 2))
    assert one.predict_batch(texts) == two.predict_batch(texts)


# The command.


def test_files_patterns_and_folders_become_one_folder_of_parts(tiny_bundle, tmp_path):
    january = tmp_path / "in" / "year=2026" / "month=01"
    (january / "_tmp").mkdir(parents=True)
    write_jsonl(january / "b.jsonl", [{"text": "late", "month": "own"}])
    (january / "a.csv").write_text("text,id\nagain,1\nfine,2\n")
    write_jsonl(january / "_tmp" / "c.jsonl", [{"text": "no part of it"}])
    write_jsonl(january / ".hidden.jsonl", [{"text": "no part of it"}])
    null = tmp_path / "in" / "year=__HIVE_DEFAULT_PARTITION__" / "month=a%2Fb"
    null.mkdir(parents=True)
    write_jsonl(null / "d.jsonl", [{"text": "manager"}])
    for name in ("x2.jsonl", "x1.jsonl", "y.jsonl"):
        write_jsonl(tmp_path / name, [{"text": "the", "name": name}])
    given_ = (tmp_path / "in", tmp_path / "x*.jsonl", tmp_path / "y.jsonl")
    options = ("--parts", tmp_path / "out", "--part-rows", 2, "--model", tiny_bundle)
    result = deesc("score", *given_, *options, check=0)
    assert "7 rows labelled" in result.stderr
    rows = rows_of(tmp_path / "out")
    # Of the last four the tiny model knows nothing: two of five levels as likely are heated.
    assert [row.pop("deesc")["level"] for row in rows] == [2, 0, 1, 3, 3, 3, 3]
    assert rows == [
        {"text": "again", "id": "1", "year": "2026", "month": "01"},
        {"text": "fine", "id": "2", "year": "2026", "month": "01"},
        {"text": "late", "month": "own", "year": "2026"},
        {"text": "manager", "year": None, "month": "a/b"},
        {"text": "the", "name": "x1.jsonl"},
        {"text": "the", "name": "x2.jsonl"},
        {"text": "the", "name": "y.jsonl"},
    ]
    sizes = [len(read_jsonl(path.read_text())) for path in part_files(tmp_path / "out")]
    assert sizes == [2, 2, 2, 1]


def test_a_pattern_may_fit_a_folder_without_files(tmp_path):
    (tmp_path / "a1" / "_tmp").mkdir(parents=True)
    path = write_jsonl(tmp_path / "a2.jsonl", talks(1))
    assert [source.file for source in find_sources([tmp_path / "a*"])] == [path]
    with pytest.raises(InvalidInputError, match="a1 holds no files"):
        find_sources([tmp_path / "a1", path])


def test_linked_folders_are_read_once(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for name in ("in/day=2", "elsewhere/deeper", "in/z"):
        Path(name).mkdir(parents=True)
        write_jsonl(Path(name, "a.jsonl"), [{"text": "late", "from": name}])
    Path("in/day=1").symlink_to(tmp_path / "elsewhere")
    Path("in/day=3").symlink_to("day=2")  # is in it itself
    Path("elsewhere/up").symlink_to(tmp_path / "in")  # a circle
    result = deesc("score", "in", "--model", tiny_bundle, check=0)
    rows = read_jsonl(result.stdout)
    assert [(row["from"], row.get("day")) for row in rows] == [
        *(("elsewhere/deeper", "1"), ("in/day=2", "2"), ("in/z", None))
    ]
    for option, out in (("-o", "elsewhere/out.jsonl"), ("--parts", "elsewhere/deeper/new")):
        result = deesc("score", "in", option, out, "--model", tiny_bundle, check=1)
        assert f"{out} and in/day=1 lie in one another" in result.stderr


def test_several_files_may_become_one(tiny_bundle, tmp_path):
    for name in "ba":
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": "late", "file": name}])
    result = deesc("score", tmp_path / "*.jsonl", "--model", tiny_bundle, check=0)
    assert [row["file"] for row in read_jsonl(result.stdout)] == ["a", "b"]


def test_a_conversation_ends_with_its_file(tiny_bundle, tmp_path):
    for name, text in (("a", "again"), ("b", "the")):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text, "conversation_id": "one"}])
    result = deesc("score", tmp_path / "*.jsonl", "--model", tiny_bundle, check=0)
    assert [row["deesc"]["triggers"] for row in read_jsonl(result.stdout)] == [["unresolved"], []]


def test_transcripts_of_a_folder_are_one_archive(tiny_bundle, tmp_path):
    names = ("genesys.json", "google_conversation.json", "zendesk_export.jsonl")
    model = ("--model", tiny_bundle)
    single = ""
    for name in names:
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(FIXTURES / name, tmp_path / "in")
        single += deesc("score", FIXTURES / name, *model, check=0).stdout
    deesc("score", tmp_path / "in", "--parts", tmp_path / "out", *model, check=0)
    (part,) = part_files(tmp_path / "out")
    assert part.read_text("utf-8") == single


def test_parts_of_a_table_have_the_columns_of_the_first_row(tiny_bundle, tmp_path):
    rows = [{"text": "late", "a": 1, "b": 2}, {"text": "fine", "b": 3}, {"text": "the", "a": 4}]
    path, out = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "out"
    options = ("--part-rows", 1, "--format", "csv", "--model", tiny_bundle)
    deesc("score", path, "--parts", out, *options, check=0)
    plain = deesc("score", path, "--format", "csv", "--model", tiny_bundle, check=0).stdout
    header, *lines = plain.splitlines()
    assert [path.read_text().splitlines() for path in part_files(out)] == [
        [header, line] for line in lines
    ]


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(crowded, tmp_path, file_format):
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    rows = talks(1600)
    for place in (1000, 4500):
        rows.insert(place, {"text": "", "row": place})
    path, whole, out = write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "whole", tmp_path / "out"
    options = ("--part-rows", 700, "--on-error", "skip", "--format", file_format)
    options = (*options, "--threads", 1, "--model", crowded)
    deesc("score", path, "--parts", whole, *options, check=0)
    again = ("score", path, "--parts", out, *options, "--processes", 2)
    for parts in (2, 6):
        with stopped_amid(parts, *again):
            pass
        assert len(list(out.glob(f"part-*.{file_format}"))) == parts
        assert json.loads((out / "_deesc.json").read_text())["done"] is False
    result = deesc(*again, check=0)
    assert "were there" in result.stderr
    assert contents(out) == contents(whole)
    assert json.loads((out / "_deesc.json").read_text())["done"] is True
    # Every row once: the killed runs lost and doubled none.
    if file_format == "jsonl":
        expected = [row["row"] for row in rows if row["text"]]
        assert [row["row"] for row in rows_of(out)] == expected
        aside = [path.read_text() for path in sorted((out / "_skipped").iterdir())]
        assert [row["line"] for row in read_jsonl("".join(aside))] == [1001, 4501]


def test_processes_end_with_the_one_that_started_them(tiny_bundle, tmp_path):
    psutil = pytest.importorskip("psutil")
    path = write_jsonl(tmp_path / "a.jsonl", talks(1000))
    arguments = ("score", path, "--parts", tmp_path / "out", "--part-rows", 500)
    with stopped_amid(1, *arguments, "--processes", 2, "--model", tiny_bundle) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive


def test_a_process_that_dies_is_said_and_the_rest_goes_on_later(tiny_bundle, tmp_path):
    psutil = pytest.importorskip("psutil")
    path, out = write_jsonl(tmp_path / "a.jsonl", talks(5000)), tmp_path / "out"
    arguments = ("score", path, "--parts", out, "--part-rows", 500, "--model", tiny_bundle)
    with stopped_amid(1, *arguments, "--processes", 2) as process:
        workers = [
            child
            for child in psutil.Process(process.pid).children()
            if any("spawn_main" in part for part in child.cmdline())
        ]
        workers[0].kill()
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a labelling process was killed by signal 9" in said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    deesc(*arguments, check=0)
    assert len(rows_of(out)) == len(talks(5000))


# What is refused, and what a refusal leaves.


@pytest.fixture
def finished(tiny_bundle, tmp_path):
    """A finished run: its command, without the options that a test changes."""
    path = write_jsonl(tmp_path / "a.jsonl", talks(8))
    command = ("score", path, "--parts", tmp_path / "out", "--model", tiny_bundle)
    deesc(*command, "--part-rows", 5, check=0)
    return command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--part-rows", 6), "part_rows was 5, now 6"),
        (("--part-rows", 5, "--batch-size", 8), "batch_size was 32, now 8"),
        (("--part-rows", 5, "--format", "csv"), "format was 'jsonl', now 'csv'"),
    ],
)
def test_another_run_does_not_go_on(finished, tmp_path, options, said):
    before = contents(tmp_path / "out")
    result = deesc(*finished, *options, check=1)
    assert f"holds parts of another run ({said}" in result.stderr
    assert contents(tmp_path / "out") == before


def test_a_changed_input_and_model_are_not_gone_on_with(finished, crowded, tmp_path):
    result = deesc(*finished[:-1], crowded, "--part-rows", 5, check=1)
    assert "model was 'tiny@" in result.stderr
    write_jsonl(tmp_path / "a.jsonl", talks(9))
    assert "a.jsonl has changed" in deesc(*finished, "--part-rows", 5, check=1).stderr
    other = write_jsonl(tmp_path / "b.jsonl", talks(1))
    result = deesc("score", other, *finished[1:], "--part-rows", 5, check=1)
    assert "the inputs were" in result.stderr


def test_a_finished_run_is_done_again_at_no_cost(finished, tmp_path):
    before = contents(tmp_path / "out")
    result = deesc(*finished, "--part-rows", 5, "--processes", 1, check=0)
    assert f"0 rows labelled, {len(talks(8))} were there" in result.stderr
    assert contents(tmp_path / "out") == before


def test_a_bad_row_leaves_the_parts_before_it_and_can_be_skipped_then(tiny_bundle, tmp_path):
    rows = talks(3000)
    rows.insert(5000, {"text": ""})
    path, out = write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "out"
    command = ("score", path, "--parts", out, "--part-rows", 1000, "--model", tiny_bundle)
    result = deesc(*command, check=1)
    assert "a.jsonl: line 5001: text is empty" in result.stderr
    assert "4 parts are complete" in result.stderr
    assert len(part_files(out)) == 4
    result = deesc(*command, "--on-error", "skip", check=0)
    assert "1 skipped" in result.stderr
    assert len(rows_of(out)) == len(rows) - 1


# One that cannot be read among many: skipped, or mended and gone on with.

STRAY = 'text\n"fine"\n"late" again\nthe\n'
GOOD = {"a.txt": "Customer: late\nAgent: fine\n", "b.txt": "Customer: again\nAgent: the\n"}


def put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_what_cannot_be_read_is_skipped_with_file_and_line(tiny_bundle, tmp_path, file_format):
    if file_format == "parquet":
        pytest.importorskip("pyarrow")
    bad = {"c.txt": "Customer: late\x01\nAgent: the\n", "d.csv": STRAY, "e.csv": "words\nfine\n"}
    folder = put(tmp_path / "in", {**GOOD, **bad, "f.jsonl": '{"text": "late", "name": null}\n'})
    options = ("--format", file_format, "--on-error", "skip", "--model", tiny_bundle)
    deesc("score", folder, "-o", tmp_path / f"out.{file_format}", *options, check=0)
    result = deesc("score", folder, "--parts", tmp_path / "out", "--part-rows", 2, *options)
    assert result.returncode == 0, result.stderr
    assert "6 rows labelled, 3 skipped" in result.stderr
    aside = "".join(path.read_text() for path in sorted((tmp_path / "out/_skipped").iterdir()))
    assert (tmp_path / f"out.{file_format}.skipped.jsonl").read_text() == aside
    first, second, third = read_jsonl(aside)
    assert (first["file"], first["row"]) == (str(folder / "c.txt"), "")
    assert "control character" in first["error"]
    assert (second["file"], second["line"]) == (str(folder / "d.csv"), 3)
    assert second["error"].endswith("is a quotation mark left open?")
    assert (third["line"], third["error"]) == (
        1,
        "no column named text among words; say which it is: --column text=COLUMN",
    )


def test_what_was_not_read_yet_may_be_mended_or_go_or_come(tiny_bundle, tmp_path):
    folder, out = put(tmp_path / "in", GOOD), tmp_path / "out"
    put(folder, {"c.txt": "Customer: the\nAgent: fine\n", "d.txt": "Customer: late\x01\n"})
    options = ("--part-rows", 2, "--model", tiny_bundle)
    command = ("score", folder, "--parts", out, *options)
    result = deesc(*command, check=1)
    assert "control character" in result.stderr
    assert "the same command goes on" not in result.stderr
    assert f"2 parts are complete in {out}; a run goes on from there while no input up to" in (
        result.stderr
    )
    for change in (
        {"d.txt": "Customer: late\nAgent: the\n"},
        {"d.txt": None},
        {"d.txt": None, "e.txt": "Customer: furious\nAgent: fine\n"},
    ):
        kept, whole = tmp_path / "kept", tmp_path / "whole"
        shutil.copytree(out, kept)
        put(folder, {name: content for name, content in change.items() if content})
        for name in (name for name, content in change.items() if not content):
            (folder / name).unlink(missing_ok=True)
        assert ", 2 were there" in deesc("score", folder, "--parts", kept, *options, check=0).stderr
        deesc("score", folder, "--parts", whole, *options, check=0)
        assert contents(kept) == contents(whole)
        shutil.rmtree(kept)
        shutil.rmtree(whole)
    put(folder, {"a.txt": "Customer: fine\nAgent: fine\n"})
    assert "a.txt has changed" in deesc(*command, check=1).stderr


def test_a_finished_archive_goes_on_with_what_came_after_it(tiny_bundle, tmp_path):
    folder, out, whole = put(tmp_path / "in", GOOD), tmp_path / "out", tmp_path / "whole"
    options = ("--part-rows", 3, "--model", tiny_bundle)
    deesc("score", folder, "--parts", out, *options, check=0)
    put(folder, {"c.txt": "Customer: late\x01\n"})
    deesc("score", folder, "--parts", out, *options, *SKIP, check=0)
    deesc("score", folder, "--parts", whole, *options, *SKIP, check=0)
    assert contents(out) == contents(whole)
    assert len(list((out / "_skipped").iterdir())) == 1


def test_an_input_that_changes_how_conversations_are_called_is_not_gone_on_with(
    tiny_bundle, tmp_path
):
    folder, out = put(tmp_path / "in", GOOD), tmp_path / "out"
    command = ("score", folder, "--parts", out, "--part-rows", 2, "--model", tiny_bundle)
    deesc(*command, check=0)
    before = contents(out)
    put(folder / "later", {"b.txt": GOOD["b.txt"]})
    said = deesc(*command, check=1).stderr
    assert f"a conversation without an id in {folder / 'b.txt'} was called 'b', among" in said
    assert f"it is '{folder / 'b'}'); name another folder" in said
    assert contents(out) == before
    (folder / "later" / "b.txt").rename(folder / "later" / "c.txt")
    deesc(*command, check=0)


def test_another_table_is_not_gone_on_with(tiny_bundle, tmp_path):
    pytest.importorskip("pyarrow")
    rows = [{"text": "late", "n": 1}, {"text": "fine", "n": 2}]
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", rows) for name in "abc"]
    command = ("score", *paths, "--parts", tmp_path / "out", "--part-rows", 2)
    command = (*command, "--format", "parquet", "--model", tiny_bundle)
    deesc(*command, check=0)
    (tmp_path / "out" / "part-000002.parquet").unlink()
    write_jsonl(paths[2], [{"text": "late", "n": "many"}])
    assert "the columns of all inputs together are others" in deesc(*command, check=1).stderr


def test_a_row_with_a_field_more_than_a_table_has_can_be_skipped(tiny_bundle, tmp_path):
    rows = [{"text": "late"}, {"text": "fine", "note": "x"}, {"text": "the"}]
    path, out = write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "a.csv"
    options = ("--on-error", "skip", "--model", tiny_bundle)
    deesc("score", path, "-o", out, *options, check=0)
    assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["text", "late", "the"]
    (row,) = read_jsonl((tmp_path / "a.csv.skipped.jsonl").read_text())
    assert (row["line"], json.loads(row["row"])) == (2, rows[1])
    assert "the field note is not in the first row" in row["error"]
    options = ("--format", "csv", "--skipped", tmp_path / "aside", *options)
    text = path.read_text()
    assert deesc("score", "-", *options, text=text, check=0).stdout == out.read_text()


def test_what_is_not_whole_any_more_is_made_again(finished, tmp_path):
    whole, out = contents(tmp_path / "out"), tmp_path / "out"
    first, second, *_ = part_files(out)
    first.write_bytes(first.read_bytes()[:-30])
    with (out / "_parts.jsonl").open("r+") as ledger:
        lines = ledger.read().splitlines(keepends=True)
        ledger.seek(0)
        ledger.truncate()
        # Killed after the second part had its name, and once more amid a line.
        ledger.writelines([lines[0], *lines[2:], lines[1][:9]])
    again = sum(len(read_jsonl(whole[path.name].decode())) for path in (first, second))
    assert f"{again} rows labelled" in deesc(*finished, "--part-rows", 5, check=0).stderr
    assert contents(out) == whole


@pytest.mark.parametrize("content", ["", "[]", '{"inputs": 5}', '{"inputs": [7]}'])
def test_a_manifest_of_something_else_is_said(finished, tmp_path, content):
    (tmp_path / "out" / "_deesc.json").write_text(content)
    before = contents(tmp_path / "out")
    result = deesc(*finished, "--part-rows", 5, check=1)
    assert "_deesc.json is damaged or not of a run of deesc score" in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(tmp_path / "out") == before


def test_an_input_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", talks(2))
    check = guard(find_sources([path]))
    check()
    write_jsonl(path, talks(3))
    with pytest.raises(InvalidInputError, match=r"a\.jsonl was changed while it was read"):
        check()


def test_a_folder_of_something_else_is_left_alone(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "a.jsonl", talks(2)), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    result = deesc("score", path, "--parts", out, "--model", tiny_bundle, check=1)
    assert "holds 'notes.txt', which is not of a run of deesc score" in result.stderr
    assert [item.name for item in out.iterdir()] == ["notes.txt"]


def test_a_kill_amid_the_first_manifest_leaves_a_folder_that_can_be_used(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "a.jsonl", talks(2)), tmp_path / "out"
    arguments = ("score", path, "--parts", out, "--model", tiny_bundle)
    code = (
        "import os, signal; os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL);"
        "from deesc_model.cli import main; main()"
    )
    killed = subprocess.run([sys.executable, "-c", code, *map(str, arguments)])
    assert killed.returncode == -signal.SIGKILL
    (left,) = (item for item in out.iterdir() if item.suffix != ".lock")
    assert left.name.startswith("_deesc.json.")
    deesc(*arguments, check=0)
    assert len(rows_of(out)) == len(talks(2))
    assert not left.exists()


def test_two_runs_do_not_write_into_one_folder(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "a.jsonl", talks(400)), tmp_path / "out"
    command = ("score", path, "--parts", out, "--part-rows", 500, "--model", tiny_bundle)
    with stopped_amid(1, *command) as first:
        assert "is being written by another deesc score" in deesc(*command, check=1).stderr
        first.send_signal(signal.SIGCONT)
        assert first.wait(60) == 0
    assert len(rows_of(out)) == len(talks(400))


def test_a_full_disk_names_the_part_and_the_run_goes_on_with_room(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "a.jsonl", talks(400)), tmp_path / "out"
    arguments = ("score", path, "--parts", out, "--part-rows", 100, "--model", tiny_bundle)
    command = [sys.executable, "-m", "deesc_model.cli", *map(str, arguments)]

    def little_room():  # for a file; a full disk fails in the same call
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=little_room)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert f"{out / 'part-000000.jsonl'}" in result.stderr
    assert "the same command goes on" in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(item.name for item in out.iterdir()) == ["_deesc.json", "_deesc.lock"]
    deesc(*arguments, check=0)
    assert len(rows_of(out)) == len(talks(400))


def test_a_full_device_is_named(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", talks(8))
    options = ("-o", "/dev/full", "--format", "jsonl", "--model", tiny_bundle)
    assert "No space left on device: '/dev/full'" in deesc("score", path, *options, check=1).stderr


def test_a_folder_that_cannot_be_is_said(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", talks(2))
    other = write_jsonl(tmp_path / "b.jsonl", talks(2))
    result = deesc("score", path, "--parts", other, "--model", tiny_bundle, check=1)
    assert "b.jsonl is a file, and --parts needs a folder" in result.stderr
    for out in (path, path / "out"):
        result = deesc("score", path, "--parts", out, "--model", tiny_bundle, check=1)
        assert "a.jsonl" in result.stderr
        assert "Traceback" not in result.stderr


CSV = ("--format", "csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("in", "--parts", "in/out"), "lie in one another"),
        (("out/a.jsonl", "--parts", "out"), "lie in one another"),
        (("in/a.jsonl", "in"), "is named twice"),
        (("in/**/*.jsonl", "--parts", "in/new"), "fits in/**/*.jsonl, so the next run would"),
        (("i*/**/*", "--parts", "in/new"), "in/new fits i*/**/*"),
        (("in/**/*.jsonl", "--parts", "in/new", *CSV), "in/new/_skipped/part-000000.jsonl fits"),
        (("in/**/_[bd]*", "--parts", "in/new", *CSV), "in/new/_deesc.json fits in/**/_[bd]*"),
        (("in", "-o", "in/b.jsonl"), "in/b.jsonl and in lie in one another"),
        (("in", "-o", "b.jsonl", *SKIP, "--skipped", "in/b"), "in/b and in lie in one another"),
        (("in/*.jsonl", "-o", "in/b.jsonl"), "in/b.jsonl fits in/*.jsonl, so the next run would"),
        (("i?", "-o", "in/b.jsonl"), "in/b.jsonl fits i?"),
        (("in/*.csv",), "no file fits in/*.csv"),
        (("emp*",), "no file fits emp*"),
        (("empty",), "empty holds no files"),
        (("in", "nowhere.jsonl"), "No such file or directory: 'nowhere.jsonl'"),
        (("in", "-"), "cannot be read together with files"),
        (("-", "--parts", "new"), "standard input can be read only once"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(
    tiny_bundle, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    for folder in ("in", "out", "empty"):
        Path(folder).mkdir()
    for folder in ("in", "out"):
        write_jsonl(Path(folder, "a.jsonl"), talks(2))
    write_jsonl(Path("in", "_b.jsonl"), talks(2))
    result = deesc("score", *arguments, "--model", tiny_bundle, text="", check=1)
    assert said in result.stderr
    assert sorted(item.name for item in tmp_path.iterdir()) == ["empty", "in", "out"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--parts", "out", "-o", "a.jsonl"), "--parts is a folder for all"),
        (("--parts", "out", "--skipped", "b.jsonl", *SKIP), "--parts is a folder for all"),
        (("--parts", "out", "--processes", "0"), "Invalid value for '--processes'"),
        (("--parts", "out", "--part-rows", "0"), "Invalid value for '--part-rows'"),
        (("-o", "a.jsonl", "--part-rows", "5"), "--part-rows is for --parts FOLDER"),
        (("-o", "a.jsonl", "--skipped", "b.jsonl"), "--skipped is for --on-error skip"),
        (SKIP, "name a file for skipped rows"),  # standard output has no name for the other file
    ],
)
def test_wrong_usage_is_said_and_exits_with_2(options, said):
    assert said in deesc("score", "x.jsonl", *options, check=2).stderr


# Pace, memory.


def test_the_pace_counts_from_the_first_window_and_says_what_is_left():
    now = [100.0]
    pace = Pace("rows", lambda: now[0])
    now[0] = 200.0  # read what was done before
    pace.begin()
    now[0] = 204.0
    pace.begin()
    pace.advance(1000, work=50, left=150)
    assert str(pace) == "1,000 rows, 250.0 rows/s, 12 s left"
    assert pace.share == 0.25
    now[0] = 210.0
    pace.advance(1000, work=150, left=0)
    assert str(pace) == "2,000 rows, 200.0 rows/s, 0 s left"


def test_a_pace_without_a_known_end_names_none():
    now = [0.0]
    pace = Pace("turns", lambda: now[0])
    pace.begin()
    now[0] = 2.0
    pace.advance(3)
    assert (str(pace), pace.share) == ("3 turns, 1.5 turns/s", None)


@pytest.mark.parametrize(
    ("seconds", "words"), [(59, "59 s"), (61, "1 min"), (3599, "1 h 0 min"), (7500, "2 h 5 min")]
)
def test_times_are_said_in_words(seconds, words):
    assert in_words(seconds) == words


def test_windows_say_how_much_is_left(tmp_path):
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", talks(40)) for name in "ab"]
    sources = find_sources(paths)
    total = sum(path.stat().st_size for path in paths)
    found = list(windows_of(sources, 2, size=50))
    assert sum(window.size for window in found) <= total
    left = [window.left for window in found]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert Counter(window.source for window in found).keys() == set(map(str, paths))


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_a_window_is_bounded_by_characters_too(tmp_path, file_format):
    texts = [f"{n} {'late ' * (20 if n % 5 else 3000)}" for n in range(200)]
    path = tmp_path / f"a.{file_format}"
    if file_format == "parquet":
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"text": texts}), path)
    elif file_format == "csv":
        path.write_text("".join(f"{text}\n" for text in ["text", *texts]))
    else:
        write_jsonl(path, [{"text": text} for text in texts])
    sources = find_sources([path])
    found = [window.records for window in windows_of(sources, 0, characters=20_000)]
    assert [record.turn.text for window in found for record in window] == texts
    # The last row is the one with which it is full. Rows of Parquet count as much as the mean of
    # those that are read together, here seven to a window, of which two may be long.
    most = 20_000 if file_format != "parquet" else 2 * 16_000
    assert all(sum(len(record.turn.text) for record in window[:-1]) < most for window in found)
    assert 20 < len(found) < 60


def test_reading_ahead_is_bounded(labellers, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", talks(200))
    taken = 0

    def windows():
        nonlocal taken
        for window in windows_of(find_sources([path]), 2, size=7):
            taken += 1
            yield window

    for done, _ in enumerate(labellers[2](windows(), lambda: None), start=1):
        assert taken <= done + 6  # two for each of three processes
    assert done == taken > 50


def test_links_in_a_folder_to_others_of_it_are_passed_over(tiny_bundle, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_jsonl(folder / "day.jsonl", [{"text": "late"}])
    (folder / "latest.jsonl").symlink_to("day.jsonl")
    write_jsonl(tmp_path / "else.jsonl", [{"text": "fine"}])
    (folder / "link.jsonl").symlink_to(tmp_path / "else.jsonl")
    names = [source.file.name for source in find_sources([folder])]
    assert names == ["day.jsonl", "link.jsonl"]
    assert [source.file.name for source in find_sources([folder / "*.jsonl"])] == names


def test_what_cannot_be_read_later_is_said_at_once(tmp_path, monkeypatch):
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        find_sources([tmp_path])
    (tmp_path / "gone.jsonl").unlink()
    write_jsonl(tmp_path / "secret.jsonl", [{"text": "late"}])
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # whoever is root may read all
    with pytest.raises(InvalidInputError, match=r"secret\.jsonl may not be read"):
        find_sources([tmp_path])


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_takes_parts(tiny_bundle, tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        return sync(descriptor)

    sync = os.fsync
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "fsync", fsync)
    write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}])
    wanted = job.Job([tmp_path / "in.jsonl"], model=tiny_bundle, parts=tmp_path / "out")
    done = job.run(wanted, contextlib.nullcontext((Pace("rows"), lambda *_: None)))
    assert done.counts.labelled == 1
    assert (tmp_path / "out" / "part-000000.jsonl").is_file()
