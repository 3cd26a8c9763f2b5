"""Transcripts through the command: found out, labelled, compared, written on."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import deesc, read_jsonl

pytest.importorskip("typer")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "transcripts"

CALL = {
    "Channel": "VOICE",
    "Participants": [],
    "Transcript": [
        {"ParticipantRole": "CUSTOMER", "Content": "the parcel is late", "Sentiment": "NEUTRAL"},
        {"ParticipantRole": "SYSTEM", "Content": "the"},
        {"ParticipantRole": "AGENT", "Content": "again", "Sentiment": "NEUTRAL"},
        {"ParticipantRole": "CUSTOMER", "Content": "furious", "Sentiment": "POSITIVE"},
        {"ParticipantRole": "CUSTOMER", "Content": "fine fine fine", "Sentiment": "NEGATIVE"},
    ],
}


@pytest.fixture
def call(tmp_path):
    path = tmp_path / "call.json"
    path.write_text(json.dumps(CALL))
    return path


def test_show_labels_a_transcript_beside_the_vendors_sentiment(tiny_bundle, call):
    result = deesc("show", call, "--model", tiny_bundle, check=0)
    rows, _, comparison = result.stdout.partition("\n\n")
    assert [row.split("\t")[0] for row in rows.splitlines()] == [
        *("customer", "agent", "customer", "customer")
    ]
    assert "left out: system messages (1)" in result.stderr
    table = {line.split()[0]: line.split()[1:] for line in comparison.splitlines()[2:5]}
    assert table["neutral"] == ["0", "1", "0", "0", "0"]
    assert sum(int(count) for counts in table.values() for count in counts) == 3
    assert "frustrated or worse, but not negative to the vendor: turn 3" in comparison
    assert "calm, but negative to the vendor: turn 4" in comparison


@pytest.mark.parametrize(
    ("name", "customers"),
    [
        ("contact_lens_voice.json", ()),
        ("contact_lens_chat.json", ()),
        ("transcribe_call_analytics.json", ()),
        ("google_conversation.json", ()),
        ("google_ingestion.json", ()),
        ("genesys.json", ()),
        ("zendesk_api.json", ()),
        ("zendesk_export.jsonl", ()),
        ("intercom.json", ()),
        ("call.vtt", ("--customer", "Robin")),
        ("call.srt", ()),
        ("thread.mbox", ("--customer", "robin@example.com")),
        ("message.eml", ("--customer", "robin@example.com")),
        ("chat.txt", ()),
    ],
)
def test_score_writes_rows_that_read_as_the_same_turns(tiny_bundle, tmp_path, name, customers):
    once, twice = tmp_path / "once.jsonl", tmp_path / "twice.jsonl"
    model = ("--model", tiny_bundle)
    deesc("score", FIXTURES / name, *customers, "-o", once, *model, check=0)
    deesc("score", once, "-o", twice, *model, check=0)
    assert twice.read_text("utf-8") == once.read_text("utf-8")
    rows = read_jsonl(once.read_text("utf-8"))
    assert all(row["deesc"]["level"] in range(5) for row in rows)
    assert rows[0]["turn"] == 0


def test_conversations_of_one_file_name_stay_apart(tiny_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    talk = "Customer: late\nAgent: again\n"
    for name in ("cc/1001/transcript.txt", "cc/1002/transcript.txt", "call.txt", "call.srt.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(talk)
    Path("cc/1002/transcript.log").write_text(talk)
    model = ("--model", tiny_bundle)
    once = deesc("score", "cc", "call.txt", "call.srt.txt", *model, check=0).stdout
    assert list(dict.fromkeys(row["conversation_id"] for row in read_jsonl(once))) == [
        *("cc/1001/transcript", "cc/1002/transcript.log", "cc/1002/transcript.txt"),
        *("call", "call.srt"),
    ]
    # So a second run takes no turn of one call for the context of another.
    Path("once.jsonl").write_text(once, "utf-8")
    assert deesc("score", "once.jsonl", *model, check=0).stdout == once
    for _ in range(2):  # the second time all is there
        deesc("score", "cc", "--parts", "out", *model, check=0)
    assert once.startswith(Path("out/part-000000.jsonl").read_text("utf-8"))


def test_the_vendors_sentiment_outlives_a_file_of_rows(tiny_bundle, tmp_path, call):
    rows = tmp_path / "rows.jsonl"
    deesc("score", call, "-o", rows, "--model", tiny_bundle, check=0)
    result = deesc("show", rows, "--model", tiny_bundle, check=0)
    assert "calm, but negative to the vendor: turn 4" in result.stdout


def test_a_transcript_can_become_a_table(tiny_bundle, call):
    result = deesc("score", call, "--format", "csv", "--model", tiny_bundle, check=0)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["deesc_level"] for row in rows] == ["1", "2", "3", "0"]
    assert json.loads(rows[0]["metadata"]) == {}


def test_a_named_format_is_read_from_standard_input(tiny_bundle):
    options = ("--input-format", "text", "--model", tiny_bundle)
    text = "Dana: late\nLee: fine\n"
    result = deesc("score", "-", "--customer", "dana", *options, text=text, check=0)
    first, second = read_jsonl(result.stdout)
    assert (first["speaker"], first["name"], second["speaker"]) == ("customer", "Dana", "agent")


def test_a_customer_of_several_speaks_in_some_file(tiny_bundle, tmp_path):
    first, second = tmp_path / "1.txt", tmp_path / "2.txt"
    first.write_text("Alice: late\nLee: fine\n")
    second.write_text("Lee: fine\nBob: late\n")
    model = ("--model", tiny_bundle)
    options = (first, second, "--customer", "alice", "--customer", "Bob")
    rows = read_jsonl(deesc("score", *options, *model, check=0).stdout)
    assert [row["name"] for row in rows if row["speaker"] == "customer"] == ["Alice", "Bob"]
    into_parts = ("score", *options, "--parts", tmp_path / "out", *model)
    for _ in range(2):  # the second time all is there
        deesc(*into_parts, check=0)
    for name in ("max", "more"):  # the rows are there nevertheless, and a part is not done twice
        into_parts = ("score", *options, "--customer", "Max", "--parts", tmp_path / name, *model)
        for kept in ("4 rows labelled", "0 rows labelled, 4 were there"):
            result = deesc(*into_parts, *(("--processes", 2) if name == "more" else ()), check=1)
            assert kept in result.stderr
            assert "error: no speaker of these files is called 'Max'" in result.stderr
        assert len(read_jsonl((tmp_path / name / "part-000000.jsonl").read_text())) == 4


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("a.xyz", "once upon a time", (), "zendesk   Zendesk tickets"),
        ("a.txt", "Dana: late\nLee: fine\n", (), "--customer NAME; its speakers are 'Dana', 'Lee'"),
        ("a.txt", "Dana: late\n", ("--customer", "Max"), "no speaker is called 'Max'"),
        ("a.jsonl", '{"text": "late"}\n', ("--customer", "Max"), "--customer is for transcripts"),
        ("a.json", '{"Transcript": [', (), "begins like JSON, but"),
        ("a.xyz", "once upon a time", (), "say which with --input-format NAME"),
        ("a.xyz", '{"text": "late"}\n', (), "begins like rows of JSON: --input-format jsonl"),
        ("a.jsonl", "Dana: late\n", (), "say which with --input-format NAME"),
        ("a.vtt", "", (), "a.vtt: it is empty"),
        ("a.eml", "\n\n", ("--input-format", "email"), "a.eml: it is empty"),
    ],
)
@pytest.mark.parametrize("command", ["show", "score"])
def test_what_cannot_be_read_is_said(tiny_bundle, tmp_path, command, name, content, options, said):
    (tmp_path / name).write_text(content)
    result = deesc(command, tmp_path / name, *options, "--model", tiny_bundle, check=1)
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl", "a.csv", "a.txt", "-"])
def test_what_gzip_made_is_said(tiny_bundle, tmp_path, name):
    packed = gzip.compress(b'{"text": "late"}\n')
    (tmp_path / name).write_bytes(packed)
    given = "-" if name == "-" else tmp_path / name
    command = [sys.executable, "-m", "deesc_model.cli", "score", given, "--model", tiny_bundle]
    result = subprocess.run([*map(str, command)], input=packed, capture_output=True)
    assert result.returncode == 1
    said = "it is compressed by gzip; gunzip it first, or: gunzip -c"
    assert said in result.stderr.decode()
    command += ["--on-error", "skip", "--skipped", tmp_path / "aside"]
    subprocess.run([*map(str, command)], input=packed, capture_output=True, check=True)
    [aside] = map(json.loads, (tmp_path / "aside").read_text().splitlines())
    assert said in aside["error"]


@pytest.mark.parametrize("command", ["show", "score"])
def test_standard_input_is_rows_unless_a_format_is_named(tiny_bundle, command):
    result = deesc(command, "-", "--model", tiny_bundle, text="Customer: late\n", check=1)
    assert "error: standard input: line 1: not JSON" in result.stderr
    assert "say which with --input-format NAME" in result.stderr


def test_standard_input_that_is_closed_is_said(tiny_bundle):
    options = f"--input-format text --model {tiny_bundle} <&-"
    command = f"{sys.executable} -m deesc_model.cli show - {options}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "error: standard input is closed\n"


def test_show_refuses_several_tickets(tiny_bundle):
    result = deesc("show", FIXTURES / "zendesk_export.jsonl", "--model", tiny_bundle, check=1)
    assert "more than one conversation, 2 of them" in result.stderr


def test_rows_still_stream_from_a_pipe_with_a_name(tiny_bundle, tmp_path):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with subprocess.Popen(["bash", "-c", f'echo \'{{"text": "late"}}\' > {pipe}']):
        result = deesc("score", pipe, "--model", tiny_bundle, check=0)
    assert len(read_jsonl(result.stdout)) == 1
