"""Archives in a store: nothing of where a file is may show in what is written."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command import stopped_amid, write_jsonl
from store import VARIABLES, running_store
from tiny_bundle import WORDS, write_tiny_bundle

pytest.importorskip("typer")

from deesc_model import DeescError, EscalationClassifier, InvalidInputError, StoreError
from deesc_model.archive.folders import folder_at
from deesc_model.archive.labelling import in_this_process
from deesc_model.archive.manifest import guard, plan_of
from deesc_model.archive.outputs import open_parts
from deesc_model.archive.places import place
from deesc_model.archive.scoring import score
from deesc_model.archive.sources import find_sources, refuse_inside
from deesc_model.archive.windows import Wanted
from deesc_model.cli import main

ROOT = Path(__file__).parents[2]
TRANSCRIPT = ROOT / "tests" / "fixtures" / "transcripts" / "genesys.json"
NOBODY_LISTENS = "127.0.0.1:9"


@pytest.fixture(scope="module")
def bucket():
    with running_store() as found:
        yield found


@pytest.fixture(scope="module")
def silence(bucket):
    """What is said of a store that does not answer; it takes seconds, so it starts first."""
    uri = f"s3://bucket/a.jsonl?endpoint_override={NOBODY_LISTENS}&scheme=http&region=us-east-1"
    refusal("s3://bucket/nothing")  # opens the other one, which would have to wait
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(refusal, uri)


@pytest.fixture
def deesc(monkeypatch, capsys):
    """The command, in this process, which has loaded all that it needs; what it said."""

    def run(*arguments, check=0):
        monkeypatch.setattr(sys, "argv", ["deesc", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == check, said.err
        return said.err

    return run


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A bundle whose scores tell which texts were labelled together."""
    return write_tiny_bundle(tmp_path_factory.mktemp("crowded") / "bundle", crowd=1e-4)


@pytest.fixture(scope="module")
def archive(bucket, silence, tmp_path_factory):
    """A folder of files of all kinds, on the disk and in the store."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("archive") / "in"
    for below in ("year=2026/month=01/_tmp", "year=2026/a%2Fb=c d", ".hidden", "a", "a-b"):
        (folder / below).mkdir(parents=True)
    january = folder / "year=2026" / "month=01"
    write_jsonl(january / "b.jsonl", [*rows(40), {"text": "", "row": 41}, {"text": "late"}])
    (january / "a.csv").write_text("text,id\nagain,1\nfine,2\n")
    write_jsonl(january / "_tmp" / "c.jsonl", rows(1))
    write_jsonl(january / ".c.jsonl", rows(1))
    write_jsonl(folder / ".hidden" / "d.jsonl", rows(1))
    write_jsonl(folder / "year=2026" / "a%2Fb=c d" / "e é?.jsonl", rows(2))
    for below in ("a", "a-b"):  # which come in another order as names than as paths
        pq.write_table(pa.table({"text": ["furious", "fine"]}), folder / below / "x.parquet")
    shutil.copy(TRANSCRIPT, folder / "talk.json")
    bucket.put_folder(folder, "in")
    return folder


def rows(count):
    words = list(WORDS)
    return [
        {
            "conversation_id": f"c{n // 3}",
            "text": f"{words[n % len(words)]} {'the ' * (n % 9)}",
            "row": n,
        }
        for n in range(count)
    ]


def on_disk(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/",
        "/year=2026",
        "/year=2026/month=01/b.jsonl",
        "/**",
        "/**/*.jsonl",
        "/*",
        "/*/*",
        "/year=*/**/[bc].jsonl",
        "/year=*/month=01/_*",
        "/year=*/month=01/.*",
        "/**/month=01",
        "/**/a*",
    ],
)
def test_what_is_meant_is_what_would_be_on_the_disk(archive, pattern):
    there = find_sources([place(f"s3://bucket/in{pattern}")])
    here = find_sources([place(f"{archive}{pattern}")])
    assert len(here) > 0
    assert [source.name for source in there] == [
        source.name.replace(str(archive), "s3://bucket/in") for source in here
    ]
    for one, other in zip(there, here, strict=True):
        assert (one.fields, one.file_format, one.size) == (
            other.fields,
            other.file_format,
            other.size,
        )


def test_a_store_makes_no_difference_to_the_bytes(deesc, archive, bucket, crowded, tmp_path):
    options = ("--part-rows", 15, "--on-error", "skip", "--format", "jsonl", "--model", crowded)
    local = write_jsonl(tmp_path / "more.jsonl", rows(3))
    deesc("score", archive, local, "--parts", tmp_path / "out", *options)
    there = "s3://bucket/out"
    said = deesc("score", "s3://bucket/in/", local, "--parts", there, *options)
    assert "1 skipped, see s3://bucket/out/_skipped" in said
    here, found = on_disk(tmp_path / "out"), bucket.contents("out")
    manifest = json.loads(found.pop("_deesc.json"))
    assert manifest["done"] is True
    assert [sorted(item) for item in manifest["inputs"][-2:]] == [
        ["fields", "file", "modified", "size"],
        ["fields", "file", "sha256"],
    ]
    here.pop("_deesc.json")
    # Only the names of files differ, and with them the size of the rows that name them.
    shift = len(str(archive)) - len("s3://bucket/in")
    ledger = [json.loads(line) for line in found.pop("_parts.jsonl").splitlines()]
    for entry in ledger:
        entry["skipped_bytes"] += shift if entry["skipped_bytes"] else 0
    assert ledger == [json.loads(line) for line in here.pop("_parts.jsonl").splitlines()]
    assert len(here) > 3
    assert {
        name: content.replace(b"s3://bucket/in", str(archive).encode())
        for name, content in found.items()
    } == here


def test_one_file_goes_to_a_store_when_it_is_complete(
    deesc, archive, bucket, tiny_bundle, tmp_path
):
    source, model = "s3://bucket/in/a/x.parquet", ("--model", tiny_bundle)
    deesc("score", archive / "a" / "x.parquet", "-o", tmp_path / "x.parquet", *model)
    deesc("score", source, "-o", "s3://bucket/one/x.parquet", *model)
    assert bucket.contents("one") == {"x.parquet": (tmp_path / "x.parquet").read_bytes()}
    bad = "s3://bucket/in/year=2026/month=01/b.jsonl"
    said = deesc("score", bad, "-o", "s3://bucket/one/b.jsonl", *model, check=1)
    assert f"{bad}: line 41: text is empty" in said
    assert bucket.contents("one").keys() == {"x.parquet"}
    said = deesc("score", bad, "-o", "s3://bucket/one/b.jsonl", "--on-error", "skip", *model)
    assert "41 rows labelled, 1 skipped, see s3://bucket/one/b.jsonl.skipped.jsonl" in said
    found = bucket.contents("one")
    assert found.keys() == {"x.parquet", "b.jsonl", "b.jsonl.skipped.jsonl"}
    assert found["b.jsonl"].count(b"\n") == 41
    deesc("score", source, "-o", "s3://bucket/one/b.jsonl", "--on-error", "skip", *model)
    assert bucket.contents("one").keys() == {"x.parquet", "b.jsonl"}
    said = deesc("score", bad, "-o", "s3://bucket/one/", "--format", "jsonl", *model, check=1)
    assert "'s3://bucket/one' is a folder; name a file in it" in said


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(deesc, bucket, crowded, tmp_path):
    content = "".join(json.dumps(row) + "\n" for row in rows(1200))
    source = bucket.put("long/a.jsonl", content.encode())
    options = ("--part-rows", 200, "--threads", 1, "--format", "parquet", "--model", crowded)
    deesc("score", source, "--parts", "s3://bucket/whole", *options)
    whole = bucket.contents("whole")
    assert len(whole) == 6 + 2
    command = ("score", source, "--parts", "s3://bucket/killed", *options)
    with stopped_amid(2, *command, TMPDIR=str(tmp_path)):  # where a kill may leave something
        pass
    left = bucket.contents("killed")
    assert {name for name in left if name.startswith("part-")} == {
        "part-000000.parquet",
        "part-000001.parquet",
    }
    assert json.loads(left["_deesc.json"])["done"] is False
    for name in left.keys() - {"_deesc.json", "_parts.jsonl"}:
        assert left[name] == whole[name]  # no part is there in part
    assert " were there" in deesc(*command)
    assert bucket.contents("killed") == whole


# What follows is done in this process.


@pytest.fixture(scope="module")
def label(crowded):
    return in_this_process(EscalationClassifier.from_pretrained(crowded, threads=1), 4)


def label_parts(label, sources, target):
    plan = plan_of(sources, part_rows=4)
    with open_parts(folder_at(place(target)), "jsonl", (), plan) as output:
        wanted = Wanted(sources, 2, 4, there=output.there, skip=True)
        return score(wanted, label, output).labelled


def test_parts_that_are_not_whole_any_more_are_made_again(bucket, label):
    lines = "".join(json.dumps(row) + "\n" for row in rows(12))
    sources = find_sources([place(bucket.put("again/a.jsonl", lines.encode()))])
    out = "s3://bucket/again-out"
    assert label_parts(label, sources, out) == 12
    whole = bucket.contents("again-out")
    assert label_parts(label, sources, out) == 0
    assert bucket.contents("again-out") == whole
    bucket.put("again-out/part-000001.jsonl", whole["part-000001.jsonl"][:-30])
    bucket.put("again-out/_parts.jsonl", whole["_parts.jsonl"][:-9])  # the last line is cut
    assert label_parts(label, sources, out) == 6 + 0
    assert bucket.contents("again-out") == whole


def test_what_came_after_is_gone_on_with(bucket, label):
    for name, count in (("a", 6), ("b", 5)):
        lines = "".join(json.dumps(row) + "\n" for row in rows(count))
        bucket.put(f"grown/{name}.jsonl", lines.encode())
    sources = find_sources([place("s3://bucket/grown")])
    assert label_parts(label, sources[:1], "s3://bucket/grown-out") == 6
    assert label_parts(label, sources, "s3://bucket/grown-out") == 6 + 5
    assert label_parts(label, sources, "s3://bucket/grown-whole") == 6 + 5
    assert bucket.contents("grown-out") == bucket.contents("grown-whole")


def test_a_folder_of_something_else_is_left_alone(bucket, label):
    sources = find_sources([place(bucket.put("other/a.jsonl", b'{"text": "late"}\n'))])
    bucket.put("mine/notes.txt", b"mine")
    with pytest.raises(InvalidInputError, match=r"s3://bucket/mine holds 'notes.txt', which is"):
        label_parts(label, sources, "s3://bucket/mine")
    assert bucket.contents("mine").keys() == {"notes.txt"}


@pytest.mark.parametrize("change", ["longer", "gone"])
def test_an_input_that_changes_while_it_is_read_is_refused(bucket, change):
    uri = bucket.put("changing/a.jsonl", b'{"text": "late"}\n')
    check = guard(find_sources([place(uri)]))
    check()
    if change == "gone":
        bucket.files.delete_file("bucket/changing/a.jsonl")
    else:
        bucket.put("changing/a.jsonl", b'{"text": "late again"}\n')
    with pytest.raises(InvalidInputError, match=r"changing/a\.jsonl was changed while it was read"):
        check()


def test_who_corrects_the_endpoint_is_connected_to_that_one(bucket):
    bucket.put("corrected/a.jsonl", b'{"text": "fine"}\n')
    asked = place("s3://bucket/corrected/*")
    assert [file.name for file in find_sources([asked])] == ["s3://bucket/corrected/a.jsonl"]
    with running_store() as other:
        other.put("corrected/b.jsonl", b'{"text": "fine"}\n')
        assert [file.name for file in find_sources([asked])] == ["s3://bucket/corrected/b.jsonl"]


def test_a_file_is_read_from_anywhere(bucket):
    content = bytes(range(256)) * 10_000  # longer than what is read ahead
    with place(bucket.put("bytes/a.bin", content)).open("rb") as stream:
        assert stream.read() == content
        assert (stream.tell(), stream.read(1)) == (len(content), b"")
        for start in (0, 5, 1_100_000, 2_559_990, 300):
            assert stream.seek(start) == start
            assert stream.read(20) == content[start : start + 20]
            assert stream.tell() == min(start + 20, len(content))
        assert stream.seek(-3, os.SEEK_END) == len(content) - 3
        assert stream.read() == content[-3:]


def test_what_ends_in_an_error_leaves_the_object_as_it_was(bucket):
    target = place(bucket.put("kept/a.txt", b"before"))

    def interrupted():
        with target.replaced() as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert bucket.contents("kept") == {"a.txt": b"before"}


def check(given, parts):
    places = list(map(place, given))
    sources = find_sources(places)
    if parts:
        refuse_inside(place(parts), places, sources)
        folder_at(place(parts)).check()


def refusal(*given, parts=None):
    with pytest.raises(DeescError) as caught:
        check(given, parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("s3://nowhere/a.jsonl", "s3://nowhere/a.jsonl: nothing is there; check the bucket"),
        ("s3://bucket/nothing", "s3://bucket/nothing: nothing is there; check the bucket"),
        ("s3://bucket/in/*.nothing", "no file fits s3://bucket/in/*.nothing"),
        ("s3://bucket/in/.hidden/_*/", "no file fits"),
        ("s3:///in", "s3://… names no bucket"),
        ("ftp://host/a.jsonl", "ftp:// is no store that deesc knows; there are file://, s3://, gs"),
        ("s3://bucket/a.jsonl?colour=red", "Unexpected query parameter in S3 URI: 'colour'"),
        ("file://elsewhere/a.jsonl", "a file of this machine is file:///FOLDER/NAME"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(archive, given, said):
    assert said in refusal(given)


def test_what_cannot_be_written_is_said_before_the_work(archive):
    one = "s3://bucket/in/a/x.parquet"
    assert "s3://nowhere: there is no such bucket" in refusal(one, parts="s3://nowhere/out")
    assert "lie in one another" in refusal(one, parts="s3://bucket/in/a")
    assert "lie in one another" in refusal("s3://bucket/in", parts="s3://bucket/in/out")
    assert "is named twice" in refusal(one, "s3://bucket/in/a/*.parquet")


SECRETS = ("pass/word", "pass%2Fword", "KEY", "hush")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:pass%2Fword@bucket/nothing?{options}",
        "s3://KEY:pass%2Fword@nowhere/a?{options}",
        "s3://KEY:pass%2Fword@bucket/a?access_key=hush",
        "s3://KEY:pass%2Fword@bucket/a?hush",
        "s3://KEY:pass%2Fword@bucket/a?secret=[hush]&region=us-east-1",
        "s3://KEY:pass/word@bucket/a",
        "ftp://KEY:pass%2Fword@bucket/a?secret=hush",
        "abfs://container:pass%2Fword@account.dfs.core.windows.net/a?secret=hush",
    ],
)
def test_no_secret_is_in_a_refusal(bucket, uri):
    said = refusal(uri.format(options=bucket.options))
    assert not [secret for secret in SECRETS if secret in said], said
    assert len(said) > 30


def test_a_uri_may_say_who_asks_and_nobody_is_told(deesc, bucket, tiny_bundle, monkeypatch):
    bucket.put("mine-in/a.jsonl", b'{"text": "late"}\n{"text": ""}\n')
    for name in (*VARIABLES, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    ends = f"?{bucket.options}"
    given = f"s3://KEY:pass%2Fword@bucket/mine-in{ends}"
    options = ("--on-error", "skip", "--model", tiny_bundle)
    out = f"s3://KEY:pass%2Fword@bucket/mine-out{ends}"
    said = deesc("score", given, "--parts", out, *options)
    assert "1 row labelled, 1 skipped, see s3://bucket/mine-out/_skipped" in said
    found = bucket.contents("mine-out")
    assert json.loads(found["_deesc.json"])["inputs"][0]["file"] == "s3://bucket/mine-in/a.jsonl"
    told = said + b"".join(found.values()).decode()
    assert not [secret for secret in (*SECRETS, bucket.endpoint) if secret in told], told


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.parquet"])
def test_a_store_that_fails_amid_a_file_is_named(bucket, tmp_path, name):
    texts = [f"{n} {os.urandom(100).hex()}" for n in range(20_000)]  # more than is read ahead
    path = write_jsonl(tmp_path / "gone.jsonl", [{"text": text} for text in texts])
    if name.endswith("parquet"):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = tmp_path / name
        pq.write_table(pa.table({"text": texts}), path)
    (source,) = find_sources([place(bucket.put(f"amid/{name}", path.read_bytes()))])
    with source.open(0) as opened:
        next(opened.records)
        bucket.files.delete_file(f"bucket/amid/{name}")
        gone = "(NOT_FOUND|NO_SUCH_KEY)"  # as versions of the store say
        with pytest.raises(StoreError, match=rf"s3://bucket/amid/{name}: .*{gone}.*; check"):
            list(opened.records)


def test_a_store_that_does_not_answer_is_named(silence):
    said = silence.result(timeout=60)
    assert said.startswith("s3://bucket/a.jsonl: ")
    assert said.endswith("; check the endpoint and the connection")


def test_files_of_this_machine_may_be_uris(tmp_path):
    path = write_jsonl(tmp_path / "a b.jsonl", rows(2))
    assert place(f"file://{tmp_path}/a%20b.jsonl") == place(f"file://localhost{path}") == path
    (source,) = find_sources([place(f"file://{tmp_path}/*.jsonl")])
    assert source.file == path


def test_without_pyarrow_the_command_for_it_is_named(tiny_bundle, tmp_path):
    code = "import sys; sys.modules['pyarrow'] = None; from deesc_model.cli import main; main()"
    path = write_jsonl(tmp_path / "a.jsonl", rows(2))
    arguments = (f"file://{path}", "--parts", "s3://bucket/out", "--model", str(tiny_bundle))
    command = [sys.executable, "-c", code, "score", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "in the folder of deesc: pip install '.[parquet]'" in result.stderr
    assert "Traceback" not in result.stderr
