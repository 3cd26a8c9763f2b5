import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversations import turn, write_rows
from datasets import load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from deesc_model.transcripts import read_transcript
from training import ingest
from training.identifiers import iban_length, is_iban, passes_luhn
from training.ingested import load_ingested
from training.masking import Masker, mask

ROOT = Path(__file__).parents[2]
CARD, IBAN, EMAIL = "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "dana.roe@example.com"


def with_check_digit(digits: str) -> str:
    return next(f"{digits}{last}" for last in range(10) if passes_luhn(f"{digits}{last}"))


def with_check_digits(country: str, account: str) -> str:
    account = (account * 30)[: iban_length(country) - 4]
    return next(
        iban for number in range(2, 99) if is_iban(iban := f"{country}{number:02}{account}")
    )


def grouped(text: str, gap: str, size: int = 4) -> str:
    return gap.join(text[start : start + size] for start in range(0, len(text), size))


plain = st.text("abcdefghij ,;!?éß\n’", max_size=30)
cards = st.builds(
    grouped,
    st.from_regex(r"[1-9][0-9]{11,17}", fullmatch=True).map(with_check_digit),
    st.sampled_from(["", " ", "-", ".", "\u00a0"]),
)
ibans = st.builds(
    grouped,
    st.builds(
        with_check_digits,
        st.sampled_from(["GB", "DE", "FR", "NO", "MT"]),
        st.from_regex(r"[A-Z0-9]{4,12}", fullmatch=True),
    ),
    st.sampled_from(["", " ", "-"]),
)
found = st.one_of(
    cards.map(lambda text: (text, "card")),
    ibans.map(lambda text: (text, "iban")),
    st.emails().map(lambda text: (text, "email")),
)


@given(plain, found, plain)
def test_what_is_planted_goes_and_all_around_it_stays(before, planted, after):
    secret, kind = planted
    masked, counts = mask(f"{before} {secret} {after}")
    assert masked == f"{before} [{kind}] {after}"
    assert counts == {kind: 1}


@given(st.one_of(st.text(), st.text("0123456789 -.@:/[]?aAG+()x", max_size=60)))
def test_a_masked_text_is_masked_and_holds_no_card(text):
    masked, _ = mask(text)
    assert mask(masked) == (masked, {})
    for digits in re.findall(r"(?<!\d)\d{13,19}(?!\d)", masked):
        assert not passes_luhn(digits)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("in 12 4111111111111111", "in 12 [card]"),
        ("card4111-1111-1111-1111.", "card[card]."),
        ("call 555-123-4567 or +44 20 7946 0958", "call [phone] or [phone]"),
        ("(020) 7946 0958, mobile is 5551234567", "[phone], mobile is [phone]"),
        ("0170/1234567 since 01/02/2023", "[phone] since 01/02/2023"),
        ("from 192.168.0.1. and fe80::1, 2001:db8::8a2e:370:7334", "from [ip]. and [ip], [ip]"),
        ("078-05-1120, AB 12 34 56 C", "[national id], [national id]"),
        ("12345678Z 529.982.247-25", "[national id] [national id]"),
        ("046-454-286, RSSMRA85T10A562S", "[national id], [national id]"),
        ("1 84 12 76 451 089 46", "[national id]"),
        ("https://u:p@a.b/x", "https://[token]"),
        ("see https://a.b/r?code=x1.", "see https://a.b/r?[token]."),
        ("https://a.b/reset/abcDEF1234567890abcdefgh/", "https://a.b/reset/[token]"),
        ("www.a.b/u/dana%40example.com", "www.a.b/u/[token]"),
        ("dana%40example.com, dana.roe＠example．com", "[email], [email]"),
        ("4111_1111_1111_1111 4111/1111/1111/1111", "[card] [card]"),
        ("4111,1111,1111,1111 or 4111\u200b1111\u200b1111\u200b1111", "[card] or [card]"),
        ("4111  -  1111  -  1111  -  1111", "[card]"),
        ("GB82_WEST_1234_5698_7654_32, ４１１１ １１１１ １１１１ １１１１", "[iban], [card]"),
        ("at 192.168.000.001, 203.0.113.٧", "at [ip], [ip]"),
        ("078.05.1120, my SSN is 219099999", "[national id], my SSN is [national id]"),
    ],
)
def test_each_kind_is_found(text, masked):
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567, $1,234.56, 50% since 2026-11-26 12:30",
        "on 01.02.2023 10:30 at 10:20:30, std::vector :: https://a.b/help/contact",
        "4111 1111 1111 1112",
        "GB82 WEST 1234 5698 7654 33",
        "12345678A, 529.982.247-26, 900-05-1120",
        "@acme help! version 4.2, room 0815",
    ],
)
def test_ordinary_numbers_stay(text):
    assert mask(text) == (text, {})


@pytest.fixture
def corpus(tmp_path) -> Path:
    text = "I have been waiting for my new router since Monday and nobody calls."
    return write_rows(tmp_path / "corpus", [turn(text=text)])


@pytest.fixture
def run(tmp_path, corpus):
    """The command, with sets in a folder of their own."""

    def command(*arguments, out="one"):
        folder = tmp_path / "sets" / out
        options = ["--corpus", corpus, "--sources", tmp_path / "none", "--out", folder]
        return ingest.main([str(item) for item in (*arguments, *options)]), folder

    return command


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def table(rows) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def test_every_format_comes_in_masked(run, tmp_path, capsys):
    rows = [
        {"body": f"my card is {CARD}", "who": "Inbound", "ticket": "t1"},
        {"body": "Thank you, one moment.", "who": "outbound", "ticket": "t1"},
        {"body": f"write to {EMAIL}", "who": "inbound", "ticket": EMAIL},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    mapping = write(
        tmp_path / "m.toml",
        'domain = "telecom"\n[columns]\ntext = "body"\nspeaker = "who"\n'
        'conversation_id = "ticket"\n[speakers]\ninbound = "customer"\noutbound = "agent"\n',
    )
    code, folder = run(tmp_path / "a.parquet", "--mapping", mapping)
    assert code == 0
    dataset = load_from_disk(str(folder)).to_list()
    assert [(row["turn"], row["speaker"], row["text"]) for row in dataset] == [
        (0, "customer", "my card is [card]"),
        (1, "agent", "Thank you, one moment."),
        (0, "customer", "write to [email]"),
    ]
    assert {row["domain"] for row in dataset} == {"telecom"}
    files = [
        write(tmp_path / "b.csv", table([["text", "speaker"], [f"IBAN {IBAN}", ""]])),
        write(tmp_path / "c.jsonl", json.dumps({"text": "Call +1 202 555 0147", "turn": 3}) + "\n"),
        *sorted(path for path in (ROOT / "tests/fixtures/transcripts").iterdir() if path.is_file()),
    ]
    code, folder = run(*files, out="two")
    assert code == 0
    turns = load_ingested(folder)
    assert {"b.csv", "c.jsonl"} < {row.file for row in turns}
    assert {"IBAN [iban]", "Call [phone]"} <= {row.text for row in turns}
    # The other transcripts tell the same conversation.
    assert {"call.srt", "zendesk_export.jsonl"} < {row.file for row in turns}
    assert json.loads((folder / "report.json").read_text())["files"] == len(files)
    assert "masked: " in capsys.readouterr().out


TRANSCRIPTS = sorted((ROOT / "tests/fixtures/transcripts").iterdir())
CUSTOMERS = {"call.vtt": "Robin", "message.eml": "robin@example.com"}
CUSTOMERS["thread.mbox"] = CUSTOMERS["message.eml"]


@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: file.name)
def test_of_each_kind_of_transcript_what_is_said_is_masked(run, tmp_path, file):
    customer = CUSTOMERS.get(file.name)
    (first, *_) = read_transcript(file, customers=[customer] if customer else [])
    raw = file.read_text(encoding="utf-8")
    begins = [turn.text[:14] for turn in first.turns if turn.text[:14] in raw]
    changed = write(tmp_path / file.name, raw.replace(begins[0], f"{CARD} {begins[0]}"))
    code, folder = run(changed, *(("--customer", customer) if customer else ()))
    assert code == 0
    assert sum("[card]" in row.text for row in load_ingested(folder)) == 1
    for made in folder.iterdir():
        assert CARD.encode() not in made.read_bytes()


@pytest.mark.parametrize(
    ("options", "call", "rows"), [((), "phone", "chat"), (("--channel", "email"), "email", "email")]
)
def test_the_channel_is_told_or_a_transcripts_own_or_chat(run, tmp_path, options, call, rows):
    spoken = ROOT / "tests/fixtures/transcripts/contact_lens_voice.json"
    code, folder = run(spoken, write(tmp_path / "b.csv", table([["text"], ["late"]])), *options)
    assert code == 0
    channels = {row.file: row.channel for row in load_ingested(folder)}
    assert channels == {spoken.name: call, "b.csv": rows}


def test_rows_that_cannot_be_used_are_set_aside_with_reason_and_line(run, tmp_path):
    escaped = EMAIL.replace("@", "\\u0040")
    lines = [
        '{"text": "All is well here."}',
        '{"text": " ", "note": "Dana Roe", "channel": "' + CARD + '", "turn": 4111111111111111}',
        '{"text": "hello", "speaker": "' + EMAIL + '"}',
        '{"text": "broken ' + escaped + " " + IBAN,
        '{"text": "hello", "channel": "fax"}',
        '{"text": "hello", "turn": "first"}',
        '{"text": 4111111111111111}',
    ]
    code, folder = run(write(tmp_path / f"{EMAIL}.jsonl", "\n".join(lines)))
    assert code == 0
    rows = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [(row["line"], row["field"]) for row in rows] == [
        (2, "channel"),
        (3, "speaker"),
        (4, "line"),
        (5, "channel"),
        (6, "turn"),
        (7, "text"),
    ]
    assert rows[0]["file"] == "[email]"
    assert rows[0]["cells"] == {
        "text": " ",
        "speaker": None,
        "conversation_id": None,
        "turn": "[card]",
        "channel": "[card]",
        "domain": None,
    }
    assert "speaker must be customer or agent, not '[email]'" in rows[1]["reason"]
    report = json.loads((folder / "report.json").read_text())
    assert report["rows"] == 7
    assert report["turns"] == 1
    assert report["rejected"] == {"channel": 2, "speaker": 1, "line": 1, "turn": 1, "text": 1}
    for file in folder.iterdir():
        held = file.read_bytes().decode("utf-8", "replace")
        for secret in (CARD, "4111111111111111", IBAN, EMAIL, escaped, "Dana Roe"):
            assert secret not in held, file


def test_a_mapping_may_name_an_address_that_is_masked(run, tmp_path):
    lines = [f'{{"text": "All is well here.", "speaker": "{EMAIL}"}}', '{"text": "Hello there."}']
    code, folder = run(
        write(tmp_path / "a.jsonl", "\n".join(lines)), "--speaker", f"{EMAIL.upper()}=agent"
    )
    assert code == 0
    assert [turn.speaker for turn in load_ingested(folder)] == ["agent", "customer"]


def test_a_file_that_cannot_be_used_is_set_aside(run, tmp_path, capsys):
    good = write(tmp_path / "a.jsonl", '{"text": "All is well here."}')
    other = write(tmp_path / "b.csv", table([["words", f"card {CARD}"], ["hello", "x"]]))
    code, folder = run(good, other)
    assert code == 0
    [row] = map(json.loads, (folder / "rejected.jsonl").read_text().splitlines())
    assert row["line"] is None
    assert row["reason"] == (
        "no column named text among words, card [card]; say which it is: --column text=COLUMN"
    )
    assert f"b.csv: {row['reason']}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ('{"text": " "}', (), "a.jsonl:1: text is empty"),
        ('{"body": "hello"}', (), "a.jsonl: no row has a column 'text' for text"),
        ('{"text": "hi", "who": "x"}', ("--column", "speaker=by"), "no row has a column 'by'"),
        ("", (), "0 rows in 1 files"),
    ],
)
def test_nothing_to_keep_is_an_error_that_says_why(run, tmp_path, capsys, rows, options, said):
    code, folder = run(write(tmp_path / "a.jsonl", rows), *options)
    assert code == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.endswith("nothing was written\n")
    assert not folder.exists()


def test_rows_of_a_conversation_are_put_in_order(run, tmp_path):
    """By a time that looks like a card, of two callers whose numbers look alike when masked."""
    first, second = "+1 202 555 0147", "+1 202 555 0148"
    rows = [
        ["text", "conversation_id", "turn", "channel", "domain"],
        ["then this", first, "4111111111111111", "E-mail", "Food delivery"],
        ["and that", second, "4111111111111112", "", ""],
        ["first this", first, "4111111111111110", "email ", "food_delivery"],
    ]
    code, folder = run(write(tmp_path / "a.csv", table(rows)))
    assert code == 0
    turns = load_ingested(folder)
    assert [(t.conversation_id, t.turn, t.text, t.channel, t.domain) for t in turns] == [
        ("one-000001", 0, "first this", "email", "food_delivery"),
        ("one-000001", 1, "then this", "email", "food_delivery"),
        ("one-000002", 0, "and that", "chat", "general"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,speaker\nhello,\n".encode("utf-16"), "save it as UTF-8"),
        ("a.jsonl", '{"text": "hello"}'.encode("utf-16"), "save it as UTF-8"),
        ("a.jsonl", gzip.compress(b'{"text": "hello"}', mtime=0), "compressed by gzip"),
        ("a.csv", b"text;speaker\nhello;x\n", "commas must separate columns"),
        ("a.csv", b'text\nhello\n"open\nhello\n', "line 3: unexpected end of data"),
        ("a.csv", b"text,text\nhello,hello\n", "the column 'text' stands twice"),
        ("a.csv", bytes(range(256)) * 4, "no column named text"),
        ("a.csv", b"text,turn\nhello,2024-01-01\n", "turn must be a number; without"),
        ("a.parquet", b"", "file size is 0"),
        ("a.parquet", b"PAR1 no PAR1", "Parquet file"),
    ],
)
def test_a_broken_file_is_refused_with_what_is_wrong(run, tmp_path, capsys, name, content, said):
    (tmp_path / name).write_bytes(content)
    code, folder = run(tmp_path / name)
    assert code == 1
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_bytes_that_are_no_text_spoil_their_row_only(run, tmp_path):
    """A mark of the order of bytes, two encodings in one file and in its name, an open row."""
    file = tmp_path / os.fsdecode(b"odd\xff.csv")
    content = "\ufefftext,speaker\ncafé,\nCAFÉ ,\nnul\0,\ntoo,many,cells\nlast,\n"
    file.write_bytes(content.encode().replace("É".encode(), b"\xc9"))
    code, folder = run(file)
    assert code == 0
    assert [(turn.text, turn.line) for turn in load_ingested(folder)] == [("café", 2), ("last", 6)]
    assert {turn.file for turn in load_ingested(folder)} == {"odd\\udcff.csv"}
    rows = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [(row["line"], row["field"]) for row in rows] == [(3, "text"), (4, "text"), (5, "line")]


def test_a_turn_that_an_export_holds_twice_comes_in_once(run, tmp_path):
    rows = [
        ["text", "conversation_id", "turn"],
        ["hello?", "a", "1"],
        ["hello?", "a", "2"],
        ["hello?", "a", "1"],
        ["and now", "a", "2"],
        ["hello?", "b", ""],
        ["hello?", "b", ""],
    ]
    code, folder = run(write(tmp_path / "a.csv", table(rows)))
    assert code == 0
    assert [(t.conversation_id, t.text, t.line) for t in load_ingested(folder)] == [
        ("one-000001", "hello?", 2),
        ("one-000001", "hello?", 3),
        ("one-000001", "and now", 5),
        ("one-000002", "hello?", 6),
        ("one-000002", "hello?", 7),
    ]
    [row] = map(json.loads, (folder / "rejected.jsonl").read_text().splitlines())
    assert (row["line"], row["reason"]) == (4, "turn is the one of line 2 again")


@given(found)
def test_no_file_holds_what_was_planted(tmp_path_factory, planted):
    secret, kind = planted
    folder = tmp_path_factory.mktemp("set")
    row = {"text": f"it is {secret} ok", "conversation_id": secret}
    bad = {"text": f"it is {secret} ok", "speaker": secret, secret: [secret], "turn": secret}
    worse = {"text": [secret], "channel": secret}
    lines = [*map(json.dumps, (row, bad, worse)), secret]
    known = ingest.KnownConversations()
    intake, mask = ingest.Intake("set", known), Masker()
    for name, content in (
        ("a.jsonl", "\n".join(lines)),
        ("b.csv", table([[secret], [secret]])),
        ("c.txt", f"{secret}: it is {secret} ok\nagent: yes\n"),
    ):
        file = write(folder / name, content)
        intake.take(*ingest.read_file(file, ingest.read_mapping(None), mask))
    intake.sift()
    assert intake.rejected
    ingest.write(intake, folder / "out")
    assert load_ingested(folder / "out")[0].text == f"it is [{kind}] ok"
    for path in (folder / "out").iterdir():
        held = path.read_bytes().decode("utf-8", "replace")
        assert secret not in held
        assert repr(secret)[1:-1] not in held


def test_what_is_known_is_dropped(run, tmp_path):
    near = "I have been waiting for my new router since Monday, and nobody calls back."
    rows = [
        {"text": near},
        {"text": "It is fine."},
        {"text": "it is  fine."},
        {"text": "The engineer came twice and left without a word about the cable."},
    ]
    file = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    code, folder = run(file)
    assert code == 0
    assert json.loads((folder / "report.json").read_text())["duplicates"] == {"exact": 1, "near": 1}
    assert len(load_ingested(folder)) == 2
    code, folder = run(file, out="two")
    assert code == 1  # nothing is new
    assert not folder.exists()


def test_of_exports_that_overlap_the_longer_conversation_is_kept(run, tmp_path):
    said = [
        "My parcel with the lamp has not come since Monday.",
        "Which parcel number do you have, please?",
        "It is the one that I wrote to you about twice already.",
        "You lost it? Get me your manager at once.",
    ]
    rows = [
        {"conversation_id": "a", "turn": turn, "text": text, "speaker": speaker}
        for turn, (text, speaker) in enumerate(
            zip(said, ("customer", "agent", "customer", "customer"), strict=True)
        )
    ]
    early = write(tmp_path / "early.jsonl", "\n".join(map(json.dumps, rows[:3])))
    late = write(tmp_path / "late.jsonl", "\n".join(map(json.dumps, rows)))
    code, folder = run(early, late)
    assert code == 0
    assert [turn.text for turn in load_ingested(folder)] == said
    assert {turn.file for turn in load_ingested(folder)} == {"late.jsonl"}
    [row] = map(json.loads, (folder / "rejected.jsonl").read_text().splitlines())
    assert (row["file"], row["line"], row["field"]) == ("early.jsonl", 1, "conversation")
    assert "near" in row["reason"]


def test_agents_may_greet_all_alike(run, tmp_path):
    greeting = "Welcome to the support of the company, how may I help you today?"
    rows = [
        {"conversation_id": name, "speaker": speaker, "text": text}
        for name, said in (("a", "The new router is dead."), ("b", "You charged me twice."))
        for speaker, text in (("agent", greeting), ("customer", said))
    ]
    code, folder = run(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert code == 0
    assert len(load_ingested(folder)) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--column", "body=text"], "no column is 'body'"),
        (["--column", "text"], "takes NAME=VALUE"),
        (["--speaker", "bot=machine"], "must be customer or agent"),
        (["--channel", "fax"], "channel must be one of"),
        (["--domain", "24/7"], "domain must be a word"),
        (["--against", "nowhere"], "not a set that training.ingest wrote"),
        (["nowhere.csv"], "there is no file nowhere.csv"),
    ],
)
def test_wrong_options_are_named(run, tmp_path, capsys, options, said):
    code, folder = run(write(tmp_path / "a.jsonl", '{"text": "hello"}'), *options)
    assert code == 1
    assert said in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("after", ["save_ingested", "json.dumps", "shutil.rmtree"])
def test_a_kill_leaves_nothing_half_written(run, tmp_path, corpus, after):
    """Killed for good while the set is written: before, between and after its files."""
    file = write(tmp_path / "a.jsonl", '{"text": "hello"}')
    folder = tmp_path / "sets" / "one"
    (folder.parent / "one.partial").mkdir(parents=True)  # of an earlier one
    dies = (
        "import os, signal, sys\nfrom training import ingest\n"
        f"does = ingest.{after}\n"
        "def die(*given, **named):\n    does(*given, **named)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"ingest.{after} = die\ningest.main(sys.argv[1:])\n"
    )
    options = [file, "--out", folder, "--corpus", corpus, "--sources", tmp_path / "none"]
    killed = subprocess.run(
        [sys.executable, "-c", dies, *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in folder.parent.iterdir()} <= {"one.partial"}
    code, folder = run(file)
    assert code == 0
    assert [path.name for path in folder.parent.iterdir()] == ["one"]
    assert [turn.text for turn in load_ingested(folder)] == ["hello"]


def test_a_set_is_not_overwritten(run, tmp_path, capsys):
    file = write(tmp_path / "a.jsonl", '{"text": "hello"}')
    _, folder = run(file)
    before = (folder / "report.json").read_bytes()
    assert run(file)[0] == 1
    assert "is there already" in capsys.readouterr().err
    assert (folder / "report.json").read_bytes() == before


def test_names_need_the_extra(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)  # as where it is not installed
    file = write(tmp_path / "a.jsonl", '{"text": "hello"}')
    assert run(file, "--names", "en_core_web_sm")[0] == 1
    assert "pip install '.[pii]'" in capsys.readouterr().err


def test_names_are_masked_by_presidio(run, tmp_path, capsys):
    """On a pipeline of rules, which any spaCy has; a trained model differs in what it finds."""
    pytest.importorskip("presidio_analyzer", reason="needs the extra pii")
    import spacy  # noqa: PLC0415

    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns(
        [{"label": "PERSON", "pattern": "Dana Roe"}, {"label": "ORG", "pattern": "Roe Ltd"}]
    )
    pipeline.to_disk(tmp_path / "model")
    text = f"Dana Roe of Roe Ltd here, {EMAIL}. My name is Quill Vantongeren, dear Team."
    file = write(tmp_path / "a.jsonl", json.dumps({"text": text}))
    code, folder = run(file, "--names", tmp_path / "model")
    assert code == 0
    [row] = load_ingested(folder)
    assert row.text == "[name] of Roe Ltd here, [email]. My name is [name], dear Team."
    assert run(file, "--names", "no_such_model", out="two")[0] == 1
    assert "no spaCy model 'no_such_model'" in capsys.readouterr().err
