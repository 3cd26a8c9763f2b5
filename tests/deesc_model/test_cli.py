"""The command as users run it: a process, real files, real pipes, a real SIGKILL."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import deesc, read_jsonl, write_jsonl
from tiny_bundle import write_tiny_bundle

import deesc_model
from deesc_model import InvalidInputError, records
from deesc_model.files import check_writable
from deesc_model.policy import POLICY_FILE
from deesc_model.risk import RISK_FILE
from deesc_model.scored_rows import PREDICTION_COLUMNS

pytest.importorskip("typer")

ROWS = [
    {"conversation_id": "a", "speaker": "customer", "text": "the parcel is late", "order": 7},
    {"conversation_id": "a", "speaker": "agent", "text": "the parcel is fine"},
    {"conversation_id": "a", "speaker": "customer", "text": "again ?", "note": "naïve 😡"},
    {"conversation_id": "b", "speaker": "customer", "text": "the"},
]


def test_classify_prints_plain_lines_in_a_pipe(tiny_bundle):
    result = deesc("classify", "the parcel is late", "fine", "--model", tiny_bundle, check=0)
    first, second = result.stdout.splitlines()
    assert first.split("\t") == ["customer", "1 concerned 1.11", "delay=0.99", "the parcel is late"]
    assert second.split("\t")[1].startswith("0 calm")
    assert "\x1b" not in result.stdout


def test_classify_reads_a_conversation(tiny_bundle):
    arguments = ("--conversation", "agent: again", "the parcel", "--format", "json")
    result = deesc("classify", *arguments, "--model", tiny_bundle, check=0)
    first, second = read_jsonl(result.stdout)
    assert (first["speaker"], second["speaker"]) == ("agent", "customer")
    assert "unresolved" in second["triggers"]


def test_classify_takes_one_word_before_a_colon_for_a_role(tiny_bundle):
    said = ["Advisor: fine", "Agent (Dana): fine", "CALLER: late", "Dana (agent) : fine"]
    said += ["Still no answer from support: late", "order: late"]
    arguments = ("--conversation", *said, "--format", "json", "--model", tiny_bundle)
    rows = read_jsonl(deesc("classify", *arguments, check=0).stdout)
    assert [(row["speaker"], row["text"]) for row in rows] == [
        ("agent", "fine"),
        ("agent", "fine"),
        ("customer", "late"),
        ("agent", "fine"),
        *(("customer", text) for text in said[4:]),
    ]
    apart = deesc("classify", "Agent: fine", "--model", tiny_bundle, check=0).stdout
    assert apart.startswith("customer\t")


def test_classify_reads_standard_input(tiny_bundle):
    options = ("--format", "json", "--model", tiny_bundle)
    text = "\ufeffagent: again\n\nnaïve: the parcel\r\n \n"
    rows = read_jsonl(deesc("classify", "-", *options, text=text, check=0).stdout)
    assert [(row["speaker"], row["text"]) for row in rows] == [
        ("customer", "agent: again"),
        ("customer", "naïve: the parcel"),
    ]
    talk = deesc("classify", "--conversation", "-", *options, text=text, check=0).stdout
    first, second = read_jsonl(talk)
    assert (first["speaker"], second["speaker"]) == ("agent", "customer")
    assert "unresolved" in second["triggers"]
    assert deesc("classify", "-", *options, text="", check=0).stdout == ""
    wrong = deesc("classify", "-", *options, text="fine\n\nx\x00\n", check=1)
    assert "line 3: text holds a control character" in wrong.stderr
    assert "it stands alone" in deesc("classify", "-", "fine", *options, text="", check=2).stderr


def test_the_version_is_said_without_a_command():
    assert deesc("--version", check=0).stdout == f"{deesc_model.__version__}\n"


def test_one_row_is_one_row(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", ROWS[:1])
    assert "1 row labelled" in deesc("score", path, "--model", tiny_bundle, check=0).stderr


def test_a_terminal_gets_a_coloured_table(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "talk.jsonl", ROWS[:3])
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "deesc_model.cli", "show", path, "--model", tiny_bundle],
        stdout=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # Linux reports the closed end as an input/output error
        pass
    os.close(leader)
    assert process.wait() == 0
    assert b"\x1b[" in shown
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert "frustration" in text
    assert "█" in text
    assert "delay 0.99" in text


def test_score_keeps_every_field_and_uses_the_conversation(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    result = deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    rows = read_jsonl(out.read_text("utf-8"))
    assert [{k: v for k, v in row.items() if k != "deesc"} for row in rows] == ROWS
    # Of the last the tiny model knows nothing: all levels are as likely, two of five are heated.
    assert [row["deesc"]["level"] for row in rows] == [1, 0, 2, 3]
    assert "delay" in rows[1]["deesc"]["triggers"]  # from the turn before
    assert rows[3]["deesc"]["triggers"] == []  # another conversation
    assert "4 rows labelled" in result.stderr
    assert not list(tmp_path.glob("*.partial"))


def test_a_row_without_an_id_stands_alone(tiny_bundle, tmp_path):
    rows = [{"text": "again"}, {"text": "the", "conversation_id": ""}, {"text": "late"}]
    path, page = write_jsonl(tmp_path / "in.jsonl", rows), tmp_path / "in.html"
    model = ("--model", tiny_bundle)
    scored = read_jsonl(deesc("score", path, *model, check=0).stdout)
    assert [row["deesc"]["triggers"] for row in scored] == [["unresolved"], [], ["delay"]]
    deesc("report", path, "-o", page, "--no-evidence", *model, check=0)
    for number in (1, 2, 3):
        assert f">in, line {number}</h2>" in page.read_text("utf-8")
    # What draws one conversation takes them for one.
    shown = read_jsonl(deesc("show", path, "--format", "json", *model, check=0).stdout)
    assert [row["triggers"] for row in shown][:2] == [["unresolved"], ["unresolved"]]


def test_the_speaker_of_a_row_is_read_in_any_case(tiny_bundle, tmp_path):
    agents = ["agent", "Agent", " AGENT ", "bot", "Advisor"]
    customers = ["customer", "Customer", "CALLER\t", " ", "", None]
    rows = [{"text": "fine", "speaker": speaker} for speaker in agents + customers]
    path = write_jsonl(tmp_path / "in.jsonl", rows)
    scored = read_jsonl(deesc("score", path, "--model", tiny_bundle, check=0).stdout)
    assert [row["speaker"] for row in scored] == agents + customers  # what was given is kept
    shown = read_jsonl(
        deesc("show", path, "--format", "json", "--model", tiny_bundle, check=0).stdout
    )
    assert [row["speaker"] for row in shown] == ["agent"] * 5 + ["customer"] * 6


def test_the_shipped_example_has_the_same_labels_by_every_command(tiny_bundle):
    example = Path(__file__).parents[2] / "examples" / "late_parcel.jsonl"
    scored = deesc("score", example, "--model", tiny_bundle, check=0).stdout
    shown = deesc("show", example, "--format", "json", "--model", tiny_bundle, check=0).stdout
    levels = [row["deesc"]["level_scores"] for row in read_jsonl(scored)]
    assert levels == [row["level_scores"] for row in read_jsonl(shown)]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tiny_bundle, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('\ufeff{"text": "late"}\n', "utf-8")
    (row,) = read_jsonl(deesc("score", path, "--model", tiny_bundle, check=0).stdout)
    assert row["text"] == "late"


def test_score_reads_stdin_and_writes_stdout(tiny_bundle, tmp_path):
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    result = deesc("score", "-", "--model", tiny_bundle, text=text, check=0)
    assert len(read_jsonl(result.stdout)) == 4
    result = deesc(
        "score",
        "-",
        "--format",
        "csv",
        "--input-format",
        "csv",
        "--model",
        tiny_bundle,
        text="text\nlate\n",
        check=0,
    )
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["text"], row["deesc_level"], row["deesc_triggers"]) == ("late", "1", "delay")


def test_score_reads_and_writes_csv_with_line_breaks_in_cells(tiny_bundle, tmp_path):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text(
        '\ufeffid,text,speaker\n1,"late,\nagain ""the""",customer\n2,fine,agent\n', "utf-8"
    )
    deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == ['late,\nagain "the"', "fine"]
    assert rows[0]["deesc_triggers"] == "delay unresolved"
    assert 0 <= float(rows[0]["deesc_delay"]) <= 1


BAD_LINES = [
    ("{not json", "not JSON"),
    ('["a list"]', "not a JSON object"),
    ('{"speaker": "customer"}', "the field text is missing"),
    ('{"text": ""}', "text is empty"),
    ('{"text": 5}', "text must be a string, not int"),
    ('{"text": "x", "speaker": "robot"}', "'robot'"),
    ('{"text": "\\ud800"}', "lone surrogate"),
    ('{"text": "\\u0000"}', "control character"),
    ('{"text": "x\\u001f"}', "control character"),
    ('{"text": "x", "n": ' + "1" * 5000 + "}", "not JSON"),
    (json.dumps({"text": "x" * 1_000_000}), "the limit is 100,000"),
]


@pytest.mark.parametrize(("bad", "said"), BAD_LINES)
def test_a_bad_line_fails_by_number_and_leaves_no_output(tiny_bundle, tmp_path, bad, said):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{bad}\n')
    out.write_text("from before\n")
    result = deesc("score", path, "-o", out, "--model", tiny_bundle, check=1)
    assert "line 2: " in result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert out.read_text() == "from before\n"


def test_skipped_lines_are_counted_and_written_aside(tiny_bundle, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = ['{"text": "fine"}', *(bad for bad, _ in BAD_LINES), '{"text": "late"}']
    path.write_text("\n".join(lines))
    result = deesc("score", path, "-o", out, "--on-error", "skip", "--model", tiny_bundle, check=0)
    assert f"2 rows labelled, {len(BAD_LINES)} skipped" in result.stderr
    assert [row["text"] for row in read_jsonl(out.read_text())] == ["fine", "late"]
    aside = read_jsonl((tmp_path / "out.jsonl.skipped.jsonl").read_text())
    assert [row["line"] for row in aside] == list(range(2, 2 + len(BAD_LINES)))
    assert all(said in row["error"] for row, (_, said) in zip(aside, BAD_LINES, strict=True))
    assert aside[0]["row"] == "{not json"


def test_a_run_that_skips_nothing_leaves_no_file_of_skipped_rows(tiny_bundle, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    options = ("-o", out, "--on-error", "skip", "--model", tiny_bundle)
    path.write_text('{"text": ""}\n')
    deesc("score", path, *options, check=0)
    assert (tmp_path / "out.jsonl.skipped.jsonl").exists()
    path.write_text('{"text": "late"}\n')
    deesc("score", path, *options, check=0)
    deesc("score", path, *options, "--skipped", "/dev/null", check=0)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_bytes_that_are_not_utf8_spoil_their_row_only(tiny_bundle, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "caf\xe9"}\n{"text": "late", "note": "caf\xe9"}\n')
    result = deesc(
        "score",
        path,
        "--on-error",
        "skip",
        "--skipped",
        tmp_path / "s",
        "--model",
        tiny_bundle,
        check=0,
    )
    (row,) = read_jsonl(result.stdout)
    assert row["text"] == "late"
    assert "the byte 0xE9 at character 3: not UTF-8" in (tmp_path / "s").read_text()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.csv"])
def test_utf16_spoils_the_whole_file(tiny_bundle, tmp_path, name, encoding):
    path, out = tmp_path / name, tmp_path / f"out-{name}"
    content = "text\nlate\n" if name == "in.csv" else '{"text": "late"}\n'
    path.write_bytes(f"\ufeff{content}".encode(encoding))
    options = ("-o", out, "--model", tiny_bundle)
    result = deesc("score", path, *options, check=1)
    said = "it is UTF-16, and rows are read as UTF-8; save it"
    assert f"error: {path}: {said}" in result.stderr
    assert [item.name for item in tmp_path.iterdir()] == [name]
    deesc("score", path, *options, "--on-error", "skip")
    [aside] = map(json.loads, Path(f"{out}.skipped.jsonl").read_text().splitlines())
    assert aside["error"].startswith(said)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.csv", "id,words\n1,fine\n", "no column named text among id, words"),
        ("in.csv", "text,id\nfine\n", "line 2: 1 cells where the header has 2"),
        ("in.csv", "id,text,id\n1,fine,2\n", "the column 'id' stands twice"),
        ("in.csv", 'id,text\n1,fine\n2,"it is late\n3,again\n', "line 3: unexpected end of data"),
        ("missing.jsonl", None, "No such file"),
    ],
)
def test_a_bad_file_is_named(tiny_bundle, tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    result = deesc("score", path, "--model", tiny_bundle, check=1)
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_empty_lines_before_a_csv_header_do_no_harm(tiny_bundle, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("\n\ntext\nlate\n")
    result = deesc("score", path, "--model", tiny_bundle, check=0)
    assert [row["text"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["late"]


def test_scoring_twice_replaces_what_the_first_run_added(tiny_bundle, tmp_path):
    path, once = tmp_path / "in.csv", tmp_path / "once.csv"
    path.write_text("text,id\nlate,1\n")
    deesc("score", path, "-o", once, "--model", tiny_bundle, check=0)
    twice = deesc("score", once, "--model", tiny_bundle, check=0).stdout
    assert twice == once.read_text()
    (row,) = read_jsonl(
        deesc("score", once, "--format", "jsonl", "--model", tiny_bundle, check=0).stdout
    )
    assert list(row) == ["text", "id", "deesc"]


def test_a_conversation_may_be_numbered_from_zero(tiny_bundle, tmp_path):
    rows = [{"conversation_id": 0, "text": "again"}, {"conversation_id": 0, "text": "the"}]
    path = write_jsonl(tmp_path / "in.jsonl", rows)
    found = read_jsonl(deesc("score", path, "--model", tiny_bundle, check=0).stdout)
    assert "unresolved" in found[1]["deesc"]["triggers"]


@pytest.mark.parametrize(
    "options", [("-o", "a.jsonl"), ("--on-error", "skip", "--skipped", "a.jsonl")]
)
def test_the_input_is_never_overwritten(tiny_bundle, tmp_path, options):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    before = path.read_text("utf-8")
    options = [tmp_path / part if part == "a.jsonl" else part for part in options]
    result = deesc("score", path, *options, "--model", tiny_bundle, check=1)
    assert "need different files" in result.stderr
    assert path.read_text("utf-8") == before


def test_a_terminal_without_unicode_loses_no_prediction(tiny_bundle):
    command = [
        sys.executable,
        "-m",
        "deesc_model.cli",
        "classify",
        "late 😡",
        "--model",
        tiny_bundle,
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run([*map(str, command)], env=environment, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert b"delay" in result.stdout


def test_a_csv_table_has_no_room_for_new_fields(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", ROWS)
    result = deesc("score", path, "--format", "csv", "--model", tiny_bundle, check=1)
    assert "line 3: the field note is not in the first row" in result.stderr


@pytest.mark.parametrize(
    ("content", "columns", "target"),
    [
        ("id,text\n", "id,text", "-o"),
        ('id,text\n1,""\n', "id,text", "--parts"),
        ('id,text\n1,""\n', "id,text", "-"),
        ("", "text", "-o"),
    ],
)
def test_a_table_without_rows_has_its_header(tiny_bundle, tmp_path, content, columns, target):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text(content)
    options = ("--on-error", "skip", "--model", tiny_bundle)
    if target == "-":
        options = (*options, "--input-format", "csv", "--skipped", tmp_path / "skipped")
        header = deesc("score", "-", *options, "--format", "csv", text=content, check=0).stdout
    else:
        deesc("score", path, target, out, *options, check=0)
        header = (out / "part-000000.csv" if target == "--parts" else out).read_text()
    assert header.splitlines() == [",".join([columns, *PREDICTION_COLUMNS])]


def test_names_of_fields_need_not_be_unicode(tiny_bundle, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "late", "\\ud800": 1}\n')
    header = deesc("score", path, "--format", "csv", "--model", tiny_bundle, check=0).stdout
    assert header.startswith("text,\\ud800,deesc_level,")


def test_an_empty_file_gives_an_empty_file(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl"
    result = deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    assert "0 rows labelled" in result.stderr
    assert out.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("score",), "Missing argument 'FILE...'"),
        (("classify", "x", "--threads", "0"), "Invalid value for '--threads'"),
        (("score", "-", "--format", "xml"), "--format must be one of jsonl, csv, parquet"),
    ],
)
def test_wrong_usage_is_said_and_exits_with_2(arguments, said):
    assert said in deesc(*arguments, check=2).stderr


def test_info_names_the_model(tiny_bundle):
    assert "tiny@" in deesc("info", "--model", tiny_bundle, check=0).stdout
    assert (
        json.loads(deesc("info", "--model", tiny_bundle, "--format", "json").stdout)["weights"]
        == "fp32"
    )


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ([], 0),
        (
            {
                "level_macro_f1": {"value": 0.5, "low": 0.4, "high": 0.6},
                "level_qwk": 0.5,
                "trigger_macro_f1": {"value": "high", "low": None},
                "signal_macro_f1": {"value": 10**400, "low": 0, "high": 1},
            },
            1,
        ),
    ],
)
def test_info_passes_over_figures_that_are_none(tmp_path, metrics, shown):
    bundle = write_tiny_bundle(tmp_path / "bundle", metrics=json.dumps({"metrics": metrics}))
    said = deesc("info", "--model", bundle, check=0).stdout
    assert said.count(" on its test split") == shown
    assert said.count("level_macro_f1   0.500 (0.400 to 0.600) on its test split") == shown


def test_a_damaged_bundle_is_one_line(bundle_dir):
    (bundle_dir / "model.onnx").write_bytes(b"")
    result = deesc("classify", "x", "--model", bundle_dir, check=1)
    assert result.stderr.count("\n") == 1
    assert "model.onnx was changed or damaged" in result.stderr


def test_a_kill_leaves_the_old_output_whole(tiny_bundle, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("from before\n")
    command = [
        sys.executable,
        "-m",
        "deesc_model.cli",
        "score",
        "-",
        "-o",
        out,
        "--model",
        tiny_bundle,
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    line = b'{"text": "the parcel is late"}\n'
    for _ in range(600):
        process.stdin.write(line * 200)
        process.stdin.flush()
        written = sum(path.stat().st_size for path in tmp_path.glob("out.jsonl.*.partial"))
        if written:
            break
        time.sleep(0.01)
    assert written > 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert out.read_text() == "from before\n"


def test_devices_and_links_are_written_through(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "real.jsonl").write_text("from before\n")
    link, pipe = tmp_path / "link.jsonl", tmp_path / "pipe.jsonl"
    link.symlink_to("real.jsonl")
    deesc("score", path, "-o", link, "--model", tiny_bundle, check=0)
    assert link.is_symlink()
    assert len(read_jsonl((tmp_path / "real.jsonl").read_text())) == len(ROWS)
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        deesc("score", path, "-o", pipe, "--model", tiny_bundle, check=0)
        assert len(read_jsonl(reader.communicate(timeout=20)[0])) == len(ROWS)
    assert pipe.is_fifo()


def test_pipes_without_a_name_of_their_own_are_written_to(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    score = f"{sys.executable} -m deesc_model.cli score {path} --format jsonl --model {tiny_bundle}"
    for way in ("-o /dev/stdout | cat", f"-o >(cat > {out}; echo done)"):  # echo ends the wait
        command = ["bash", "-c", f"set -o pipefail; {score} {way}"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        rows = out.read_text() if "done" in result.stdout else result.stdout
        assert len(read_jsonl(rows)) == len(ROWS)


def test_a_file_that_is_replaced_leaves_its_mode(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", ROWS), tmp_path / "out.jsonl"
    out.touch(mode=0o600)
    deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    assert len(read_jsonl(out.read_text())) == len(ROWS)
    assert out.stat().st_mode & 0o777 == 0o600


def test_the_longest_names_can_be_written(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", ROWS), tmp_path / f"{'é' * 124}o.jsonl"
    assert len(os.fsencode(out.name)) == 255
    deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    assert len(read_jsonl(out.read_text())) == len(ROWS)


def test_runs_into_one_file_do_not_mix(tiny_bundle, tmp_path):
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "deesc_model.cli", "score", "-", "-o", out, "--model"]
    slow = subprocess.Popen([*command, tiny_bundle], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    slow.stdin.write(b'{"text": "late", "run": 1}\n' * 3000)
    slow.stdin.flush()
    other = write_jsonl(tmp_path / "in.jsonl", [{"text": "late", "run": 2}])
    deesc("score", other, "-o", out, "--model", tiny_bundle, check=0)
    assert [row["run"] for row in read_jsonl(out.read_text())] == [2]
    slow.communicate(timeout=60)
    assert slow.returncode == 0
    assert [row["run"] for row in read_jsonl(out.read_text())] == [1] * 3000


@pytest.mark.parametrize(
    ("out", "said"), [("folder", "is a folder"), ("missing/o.jsonl", "is missing or read-only")]
)
def test_an_output_that_cannot_be_is_said_before_the_work(tiny_bundle, tmp_path, out, said):
    path = write_jsonl(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "folder").mkdir()
    options = ("-o", tmp_path / out, "--format", "jsonl", "--model", tiny_bundle)
    assert said in deesc("score", path, *options, check=1).stderr
    assert sorted(item.name for item in tmp_path.iterdir()) == ["folder", "in.jsonl"]


def test_a_file_in_a_folder_that_is_read_only_is_refused_before_the_work(tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    out.touch()
    check_writable(out)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may all
    with pytest.raises(InvalidInputError, match="is missing or read-only"):
        check_writable(out)


def test_every_byte_of_a_csv_field_is_kept(tiny_bundle, tmp_path):
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_bytes(b'note,text\ncaf\xe9,"late\ragain"\nok,fine\n')
    deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    assert out.read_bytes().count(b"caf\xe9") == 1
    again = deesc("score", out, "-o", tmp_path / "b.csv", "--model", tiny_bundle, check=0)
    assert "2 rows labelled" in again.stderr


def test_what_is_no_json_value_is_not_written_on(tiny_bundle, tmp_path):
    path, aside = tmp_path / "in.jsonl", tmp_path / "aside"
    path.write_text('{"text": "late", "n": NaN}\n{"text": "late", "n": 1e999}\n')
    options = ("--on-error", "skip", "--skipped", aside, "--model", tiny_bundle)
    assert deesc("score", path, *options, check=0).stdout == ""
    assert [row["error"] for row in read_jsonl(aside.read_text())] == [
        "not JSON: NaN is not a JSON value",
        "not JSON: 1e999 is too large a number",
    ]


def test_a_line_that_is_too_long_is_not_held(monkeypatch):
    monkeypatch.setattr(records, "LONGEST_LINE", 20)
    lines = io.StringIO(f'{{"text": "a"}}\n{{"text": "{"x" * 50}"}}\r\n{{"text": "b"}}')
    first, long, last = records.read_records(lines, "jsonl", context_turns=0)
    assert [item.line for item in (first, long, last)] == [1, 2, 3]
    assert (first.turn.text, last.turn.text) == ("a", "b")
    assert str(long) == "line 2: 20 characters or more in one line"
    table = io.StringIO(f"text\n{'x' * 50}\n")
    with pytest.raises(InvalidInputError, match="line 2: 20 characters or more in one line"):
        list(records.read_records(table, "csv", context_turns=0))


def test_show_refuses_a_file_of_several_conversations(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", ROWS)
    assert (
        "more than one conversation" in deesc("show", path, "--model", tiny_bundle, check=1).stderr
    )


def test_a_bad_text_among_arguments_is_numbered(tiny_bundle):
    result = deesc("classify", "fine", " ", "--model", tiny_bundle, check=1)
    assert "text 2: text is empty" in result.stderr


def test_a_closed_standard_output_is_said(tiny_bundle):
    command = f"{sys.executable} -m deesc_model.cli classify fine --model {tiny_bundle} >&-"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.returncode == 1
    assert "standard output is closed" in result.stderr


def test_a_closed_pipe_is_no_crash(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", [{"text": "the parcel is late"}] * 5000)
    command = f"{sys.executable} -m deesc_model.cli score {path} --model {tiny_bundle} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(result.stdout.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_without_the_extra_the_pip_command_is_named(tmp_path):
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no typer', name='typer')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "deesc_model.cli"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "pip install '.[cli]'" in result.stderr


UPSET = [
    {"speaker": "customer", "text": "the parcel is late"},
    {"speaker": "agent", "text": "the parcel is the parcel"},
    {"speaker": "customer", "text": "furious idiot manager"},
    {"speaker": "agent", "text": "the parcel is fine"},
]


def test_watch_prints_risk_action_and_advice(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "talk.jsonl", UPSET)
    lines = deesc("watch", path, "--model", tiny_bundle, check=0).stdout.splitlines()
    turns = [line for line in lines if line[:3].strip()]
    assert [line.split()[0] for line in turns] == ["0", "1", "2", "3"]
    assert "!hand over" in turns[2]
    assert any("[ ] Facts" in line for line in lines)
    assert any("does not acknowledge" in line for line in lines)


def test_watch_prints_json_and_follows_policy_and_channel(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "talk.jsonl", UPSET)
    policy = tmp_path / "policy.toml"
    text = POLICY_FILE.read_text().replace("hand_over_on", "hand_over_on = [] # ")
    policy.write_text(re.sub("(watch_at|hand_over_at|de_escalate_at) = .*", r"\1 = 1.0", text))
    arguments = (
        "--policy",
        policy,
        "--channel",
        "phone",
        "--format",
        "json",
        "--model",
        tiny_bundle,
    )
    rows = read_jsonl(deesc("watch", path, *arguments, check=0).stdout)
    assert [row["action"] for row in rows] == ["none", "none", "de-escalate", "de-escalate"]
    assert [row["alert"] for row in rows] == [False, False, True, False]
    assert "slower" in rows[2]["advice"]["channel"]


def test_watch_weighs_the_risk_as_it_is_told(tiny_bundle, tmp_path):
    path, risk = write_jsonl(tmp_path / "talk.jsonl", UPSET), tmp_path / "risk.json"
    weights = dict.fromkeys(json.loads(RISK_FILE.read_text())["weights"], 0.0)
    even = {"horizon": 6, "fitted_to": "mine", "intercept": 0.0, "weights": weights}
    risk.write_text(json.dumps(even))
    arguments = ("--risk", risk, "--format", "json", "--model", tiny_bundle)
    result = deesc("watch", path, *arguments, check=0)
    rows = read_jsonl(result.stdout)
    assert [row["state"]["risk"] for row in rows] == [0.5] * len(rows)
    version = rows[0]["deesc"]["model_version"]
    said = f"the risk was fitted to mine, not to {version}"
    assert said in result.stderr
    page = ("-o", tmp_path / "r.html", "--no-evidence", "--model", tiny_bundle, "--risk", risk)
    assert said in deesc("report", path, *page, check=0).stderr
    risk.write_text(json.dumps(even | {"fitted_to": version}))
    for command in (("watch", path, *arguments), ("report", path, *page)):
        assert "was fitted to" not in deesc(*command, check=0).stderr


@pytest.mark.parametrize(
    ("option", "content", "said"),
    [
        ("--policy", "watch_at = 0.1", "the key 'de_escalate_at' is missing"),
        ("--playbook", "[techniques]", "the key 'entries' is missing"),
        ("--risk", "{}", "holds no risk weights"),
    ],
)
def test_watch_refuses_wrong_settings_before_any_work(tiny_bundle, tmp_path, option, content, said):
    path = write_jsonl(tmp_path / "talk.jsonl", UPSET)
    settings = tmp_path / "settings.toml"
    settings.write_text(content)
    result = deesc("watch", path, option, settings, "--model", tiny_bundle, check=1)
    assert said in result.stderr
    assert result.stdout == ""
    result = deesc("watch", path, "--channel", "fax", "--model", tiny_bundle, check=1)
    assert "channel must be one of phone" in result.stderr


def test_why_names_the_words(tiny_bundle):
    lines = deesc("why", "the parcel is late", "--model", tiny_bundle, check=0).stdout.splitlines()
    assert lines[1].startswith("delay 0.99\tlate +0.9")
