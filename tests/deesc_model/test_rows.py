"""Rows as other tools export them: columns of other names, conversations mixed by time."""

import csv
import io
import json

import pytest
from command import deesc, read_jsonl, write_jsonl

from deesc_model.records import REMEMBERED, read_records

pytest.importorskip("typer")

TALKS = [
    {"call": "a", "from": "Customer", "body": "the parcel is late", "medium": "Voice", "n": 1},
    {"call": "b", "from": "Caller", "body": "again", "medium": "", "n": 2},
    {"call": "a", "from": "bot", "body": "the parcel", "medium": "Voice", "n": 3},
    {"call": "b", "from": "Agent (Dana)", "body": "the", "medium": "fax", "n": 4},
    {"call": "a", "from": "", "body": "the", "medium": "Voice", "n": 5},
]
"""Two conversations, row by row in turns."""

OURS = {"call": "conversation_id", "from": "speaker", "body": "text", "medium": "channel"}
OPTIONS = [option for name in OURS for option in ("--column", f"{OURS[name]}={name}")]


def renamed(row, names=OURS):
    return {names.get(name, name): value for name, value in row.items()}


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path, rows):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS = {"jsonl": write_jsonl, "csv": write_csv, "parquet": write_parquet}
each_format = pytest.mark.parametrize("file_format", WRITERS)
each_table = pytest.mark.parametrize("file_format", ["csv", "parquet"])


def without_labels(row):
    return {name: value for name, value in row.items() if name != "deesc"}


@each_format
@pytest.mark.parametrize("target", ["jsonl", "csv", "parquet"])
def test_columns_of_other_names_are_as_if_they_had_ours(tiny_bundle, tmp_path, file_format, target):
    write = WRITERS[file_format]
    theirs = write(tmp_path / f"theirs.{file_format}", TALKS)
    ours = write(tmp_path / f"ours.{file_format}", [renamed(row) for row in TALKS])
    model = ("--model", tiny_bundle)
    deesc("score", theirs, *OPTIONS, "-o", tmp_path / f"1.{target}", *model, check=0)
    deesc("score", ours, "-o", tmp_path / f"2.{target}", *model, check=0)
    assert (tmp_path / f"1.{target}").read_bytes() == (tmp_path / f"2.{target}").read_bytes()
    scored = read_jsonl(deesc("score", theirs, *OPTIONS, "--format", "jsonl", *model).stdout)
    if file_format != "csv":  # which has text only
        assert [without_labels(row) for row in scored] == [renamed(row) for row in TALKS]


@each_format
def test_every_command_for_conversations_takes_columns(tiny_bundle, tmp_path, file_format):
    path = WRITERS[file_format](tmp_path / f"in.{file_format}", TALKS[::2])
    options = (*OPTIONS, "--model", tiny_bundle)
    shown = read_jsonl(deesc("show", path, "--format", "json", *options, check=0).stdout)
    assert [(row["speaker"], row["text"]) for row in shown] == [
        ("customer", "the parcel is late"),
        ("agent", "the parcel"),
        ("customer", "the"),
    ]
    assert len(read_jsonl(deesc("watch", path, "--format", "json", *options, check=0).stdout)) == 3
    page = tmp_path / "page.html"
    deesc("report", path, "-o", page, "--no-evidence", *options, check=0)
    assert "channel: Voice" in page.read_text("utf-8")


@each_table
def test_a_name_that_differs_in_case_or_blanks_is_found(tiny_bundle, tmp_path, file_format):
    names = {"call": "Conversation_ID", "from": " Speaker ", "body": "TEXT", "medium": "Channel"}
    rows = [{**renamed(row, names), "Body": "fine"} for row in TALKS]
    path = WRITERS[file_format](tmp_path / f"in.{file_format}", rows)
    scored = deesc("score", path, "--format", "jsonl", "--model", tiny_bundle, check=0).stdout
    assert [list(without_labels(row)) for row in read_jsonl(scored)] == [
        ["conversation_id", "speaker", "text", "channel", "n", "Body"]
    ] * len(rows)
    levels = [row["deesc"]["level_scores"] for row in read_jsonl(scored)]
    ours = write_jsonl(tmp_path / "ours.jsonl", [renamed(row) for row in TALKS])
    expected = read_jsonl(deesc("score", ours, "--model", tiny_bundle, check=0).stdout)
    assert levels == [row["deesc"]["level_scores"] for row in expected]


@each_table
def test_our_own_name_and_a_named_column_win_over_alike_ones(tiny_bundle, tmp_path, file_format):
    rows = [{"text": "late", "Text": "fine", "Speaker": "agent", "SPEAKER": "bot", "who": "agent"}]
    path = WRITERS[file_format](tmp_path / f"in.{file_format}", rows)
    options = ("--format", "jsonl", "--model", tiny_bundle)
    (row,) = read_jsonl(deesc("score", path, *options, check=0).stdout)
    assert without_labels(row) == rows[0]
    named = ("--column", "speaker=who")
    (row,) = read_jsonl(deesc("score", path, *named, *options, check=0).stdout)
    assert without_labels(row) == renamed(rows[0], {"who": "speaker"})


def test_two_columns_may_change_places(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "agent", "speaker": "late"}])
    options = ("--column", "text=speaker", "--column", "speaker=text", "--model", tiny_bundle)
    (row,) = read_jsonl(deesc("score", path, *options, check=0).stdout)
    assert without_labels(row) == {"speaker": "agent", "text": "late"}


@each_table
@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (
            [{"body": "late", "Größe": "1"}],
            (),
            "no column named text among body, Größe; say which it is: --column text=COLUMN (",
        ),
        ([{"Text": "late", "TEXT": "late"}], (), "no column named text among Text, TEXT; say"),
        ([{"text": "late"}], ("text=body",), "no column named body among text; say which it is"),
        (
            [{"text": "late"}],
            ("speaker=who",),
            "no column named who among text; say which it is: --column speaker=COLUMN",
        ),
        (
            [{"text": "late", "body": "late"}],
            ("text=body",),
            "'body' is to be text, but there is a 'text' too; take one of them out",
        ),
    ],
)
def test_a_column_that_cannot_be_is_said_at_once(
    tiny_bundle, tmp_path, file_format, rows, options, said
):
    path, out = WRITERS[file_format](tmp_path / f"in.{file_format}", rows), tmp_path / "out.jsonl"
    given = [part for option in options for part in ("--column", option)]
    result = deesc("score", path, *given, "-o", out, "--model", tiny_bundle, check=1)
    assert f"in.{file_format}" in result.stderr
    assert said in result.stderr
    assert not out.exists()


def test_a_row_of_json_without_a_named_column_is_bad(tiny_bundle, tmp_path):
    rows = [
        {"body": "late", "who": None},
        {"text": "late", "who": "agent"},
        {"body": "late"},
        {"body": "late", "text": "late", "who": "agent"},
    ]
    path, aside = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "aside.jsonl"
    options = ("--column", "text=body", "--column", "speaker=who", "--model", tiny_bundle)
    skip = ("--on-error", "skip", "--skipped", aside)
    (row,) = read_jsonl(deesc("score", path, *options, *skip, check=0).stdout)
    assert without_labels(row) == {"text": "late", "speaker": None}
    bad = read_jsonl(aside.read_text())
    assert [(item["line"], item["error"]) for item in bad] == [
        (2, "the field body, which is to be text, is missing"),
        (3, "the field who, which is to be speaker, is missing"),
        (4, "'body' is to be text, but there is a 'text' too; take one of them out"),
    ]
    assert "line 2: the field body" in deesc("score", path, *options, check=1).stderr


TICKET = {"id": 1, "comments": [{"author_id": 1, "body": "late"}], "requester_id": 1}


def test_json_lines_whose_text_is_named_are_no_transcript(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", [{**TICKET, "body": "late"}])
    options = ("--model", tiny_bundle)
    rows = read_jsonl(deesc("score", path, *options, "--column", "text=body", check=0).stdout)
    assert [without_labels(row) for row in rows] == [{**TICKET, "text": "late"}]
    said = "--column says which field of rows is what, and transcripts have none"
    for command in ("score", "show"):
        result = deesc(command, path, *options, "--column", "channel=via", check=1)
        assert said in result.stderr
    # Beside rows a transcript is read as ever.
    more = write_csv(tmp_path / "more.csv", [{"body": "fine"}])
    chat = tmp_path / "chat.txt"
    chat.write_text("Customer: late\nAgent: fine\n")
    scored = deesc("score", more, chat, "--column", "text=body", *options, check=0).stdout
    assert [row["text"] for row in read_jsonl(scored)] == ["fine", "late", "fine"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("body",), "--column takes NAME=VALUE, not 'body'"),
        (("text=",), "--column takes NAME=VALUE, not 'text='"),
        (
            ("turn=n",),
            "--column takes one of text, speaker, conversation_id, channel, not 'turn'",
        ),
        (("text=a", "text=b"), "--column says twice which column is text"),
        (("text=a", "speaker=a"), "--column takes the column 'a' for two fields"),
    ],
)
@pytest.mark.parametrize("command", ["score", "show", "watch", "report"])
def test_a_wrong_pair_is_wrong_usage(tmp_path, command, options, said):
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "late"}])
    given = [part for option in options for part in ("--column", option)]
    result = deesc(command, path, *given, check=2)
    assert said in " ".join(result.stderr.replace("│", " ").split())


@each_format
def test_parts_with_named_columns_are_resumed(tiny_bundle, tmp_path, file_format):
    rows = [{"body": f"late {'the ' * (n % 7)}", "words": "fine", "n": n} for n in range(40)]
    path = WRITERS[file_format](tmp_path / f"in.{file_format}", rows)
    out = tmp_path / "out"
    command = ("score", path, "--parts", out, "--part-rows", 10, "--model", tiny_bundle)
    named = ("--column", "text=body")
    deesc(*command, *named, check=0)
    whole = {item.name: item.read_bytes() for item in out.glob("[p_]*")}
    (lost,) = out.glob("part-000002.*")
    lost.unlink()
    assert "30 were there" in deesc(*command, *named, check=0).stderr
    assert {item.name: item.read_bytes() for item in out.glob("[p_]*")} == whole
    result = deesc(*command, "--column", "text=words", check=1)
    assert "column was {'text': 'body'}, now {'text': 'words'}" in result.stderr


def test_a_run_without_named_columns_says_nothing_of_them(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", [{"text": "late", "who": "bot"}]), tmp_path / "o"
    command = ("score", path, "--parts", out, "--model", tiny_bundle)
    deesc(*command, check=0)
    assert "column" not in json.loads((out / "_deesc.json").read_text())
    named = ("--column", "speaker=who")
    assert "column was None, now" in deesc(*command, *named, check=1).stderr
    other = ("score", path, "--parts", tmp_path / "p", "--model", tiny_bundle)
    deesc(*other, *named, check=0)
    assert "column was {'speaker': 'who'}, now None" in deesc(*other, check=1).stderr


def turns_of(count):
    """Conversations of three to five turns, one after another."""
    words = ("late", "again", "fine", "furious", "the")
    return [
        {
            "conversation_id": talk,
            "speaker": "agent" if turn % 2 else "customer",
            "text": f"the {words[(talk + turn) % 5]}",
            "turn": turn,
        }
        for talk in range(count)
        for turn in range(3 + talk % 3)
    ]


@each_format
def test_conversations_sorted_by_time_have_the_labels_of_whole_ones(
    tiny_bundle, tmp_path, file_format
):
    write, grouped = WRITERS[file_format], turns_of(30)
    mixed = sorted(grouped, key=lambda row: row["turn"])
    options = ("--format", "jsonl", "--model", tiny_bundle)
    one = write(tmp_path / f"one.{file_format}", grouped)
    two = write(tmp_path / f"two.{file_format}", mixed)
    parts = tmp_path / "parts"
    expected = read_jsonl(deesc("score", one, *options, check=0).stdout)
    found = deesc("score", two, *options, check=0).stdout
    assert sorted(read_jsonl(found), key=lambda row: int(row["conversation_id"])) == expected
    # The context counts: alone the turns have other labels.
    alone = write_jsonl(
        tmp_path / "alone.jsonl", [{**row, "conversation_id": None} for row in grouped]
    )
    other = read_jsonl(deesc("score", alone, *options, check=0).stdout)
    assert [row["deesc"] for row in other] != [row["deesc"] for row in expected]
    # Nor does it matter where parts are cut, nor what is done again.
    command = ("score", two, "--parts", parts, "--part-rows", 7, *options)
    deesc(*command, check=0)
    files = sorted(parts.glob("part-*"))
    assert len(files) > 3
    files[-1].unlink()
    deesc(*command, check=0)
    assert "".join(path.read_text("utf-8") for path in files) == found


def test_a_report_gathers_conversations_that_stand_mixed(tiny_bundle, tmp_path):
    path, page = tmp_path / "in.jsonl", tmp_path / "page.html"
    write_jsonl(path, [*map(renamed, TALKS), {"text": "late"}, {"text": "fine"}])
    deesc("report", path, "-o", page, "--no-evidence", "--model", tiny_bundle, check=0)
    source = page.read_text("utf-8")
    places = [source.index(f">{name}</h2>") for name in ("a", "b", "in, line 6", "in, line 7")]
    assert places == sorted(places)
    assert source.count(">a</h2>") == 1


def test_conversations_that_were_silent_for_long_are_forgotten():
    order = [*range(REMEMBERED), 0, REMEMBERED, 1, 0, "0", None, 0]
    lines = "".join(json.dumps({"text": "x", "conversation_id": name}) + "\n" for name in order)
    records = list(read_records(io.StringIO(lines), "jsonl", context_turns=2))[REMEMBERED:]
    assert [(record.starts, len(record.context)) for record in records] == [
        (False, 1),  # 0 speaks once more,
        (True, 0),  # so that the next one takes the place of 1
        (True, 0),
        (False, 2),
        (False, 2),  # a number and its text are one id
        (True, 0),
        (False, 2),
    ]


@pytest.mark.parametrize(
    ("words", "slow"),
    [
        ((None, " ", "Voice", "email"), True),
        (("phone", None, None, None), True),
        (("fax", "phone", None, None), False),  # unknown words are chat
        ((7, None, None, None), False),
        ((None, None, None, None), False),
    ],
)
def test_rows_name_the_channel_that_advice_is_for(tiny_bundle, tmp_path, words, slow):
    texts = ("late", "the", "furious idiot manager", "the")
    rows = [{"text": text, "channel": word} for text, word in zip(texts, words, strict=True)]
    path = write_jsonl(tmp_path / "in.jsonl", rows)
    options = ("--format", "json", "--model", tiny_bundle)
    steps = read_jsonl(deesc("watch", path, *options, check=0).stdout)
    assert ("Speak a little slower" in steps[2]["advice"]["channel"]) == slow
    told = read_jsonl(deesc("watch", path, *options, "--channel", "email", check=0).stdout)
    assert "slower" not in told[2]["advice"]["channel"]


ROLES = "customer, agent, or a word such as caller, user, advisor, bot"


@each_format
def test_who_may_speak_is_said(tiny_bundle, tmp_path, file_format):
    path = WRITERS[file_format](tmp_path / f"in.{file_format}", [{"text": "x", "speaker": "Kunde"}])
    model = ("--model", tiny_bundle)
    result = deesc("score", path, *model, check=1)
    assert (
        f"line {2 if file_format == 'csv' else 1}: speaker must be one of {ROLES}, not 'Kunde'"
        in (result.stderr)
    )
    result = deesc("score", path, "--customer", "Kunde", *model, check=1)
    assert f"--customer is for transcripts; rows say in a field speaker who it is: {ROLES}" in (
        result.stderr
    )
