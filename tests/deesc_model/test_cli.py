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

import pytest

pytest.importorskip("typer")

ROWS = [
    {"conversation_id": "a", "speaker": "customer", "text": "the parcel is late", "order": 7},
    {"conversation_id": "a", "speaker": "agent", "text": "the parcel is fine"},
    {"conversation_id": "a", "speaker": "customer", "text": "again ?", "note": "naïve 😡"},
    {"conversation_id": "b", "speaker": "customer", "text": "the"},
]


def deesc(*arguments, text=None, check=None):
    command = [sys.executable, "-m", "deesc_model.cli", *map(str, arguments)]
    result = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    if check is not None:
        assert result.returncode == check, result.stderr
    return result


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def read_jsonl(text):
    return [json.loads(line) for line in text.splitlines()]


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


def test_a_terminal_gets_a_coloured_table(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "talk.jsonl", ROWS)
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
    assert [row["deesc"]["level"] for row in rows] == [1, 0, 2, 0]
    assert "delay" in rows[1]["deesc"]["triggers"]  # from the turn before
    assert rows[3]["deesc"]["triggers"] == []  # another conversation
    assert "4 rows labelled" in result.stderr
    assert not list(tmp_path.glob("*.partial"))


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
    assert "lone surrogate" in (tmp_path / "s").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.csv", "id,words\n1,fine\n", "no column named text among id, words"),
        ("in.csv", "text,id\nfine\n", "line 2: 1 cells where the header has 2"),
        ("in.parquet", "", "must end in .jsonl"),
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


def test_a_csv_table_has_no_room_for_new_fields(tiny_bundle, tmp_path):
    path = write_jsonl(tmp_path / "in.jsonl", ROWS)
    result = deesc("score", path, "--format", "csv", "--model", tiny_bundle, check=1)
    assert "line 3: the field note is not in the first row" in result.stderr


def test_an_empty_file_gives_an_empty_file(tiny_bundle, tmp_path):
    path, out = write_jsonl(tmp_path / "in.jsonl", []), tmp_path / "out.jsonl"
    result = deesc("score", path, "-o", out, "--model", tiny_bundle, check=0)
    assert "0 rows labelled" in result.stderr
    assert out.read_text() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("score",),
        ("classify", "x", "--threads", "0"),
        ("score", "-", "--format", "xml"),
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert deesc(*arguments).returncode == 2


def test_info_names_the_model(tiny_bundle):
    assert "tiny@" in deesc("info", "--model", tiny_bundle, check=0).stdout
    assert (
        json.loads(deesc("info", "--model", tiny_bundle, "--format", "json").stdout)["weights"]
        == "fp32"
    )


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
    partial = tmp_path / "out.jsonl.partial"
    line = b'{"text": "the parcel is late"}\n'
    for _ in range(600):
        process.stdin.write(line * 200)
        process.stdin.flush()
        if partial.exists() and partial.stat().st_size > 0:
            break
        time.sleep(0.01)
    assert partial.stat().st_size > 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert out.read_text() == "from before\n"


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
    assert "pip install 'deesc-model[cli]'" in result.stderr
