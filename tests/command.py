"""The command `deesc` as tests run it, and files of rows."""

import json
import subprocess
import sys


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
