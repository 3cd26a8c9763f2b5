"""The command `deesc` as tests run it, and files of rows."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

STOP_AMID = """
import os, signal
from deesc_model.archive.outputs import _Parts
from deesc_model.cli import main

write = _Parts.write

def write_and_stop(self, part, *row):
    write(self, part, *row)
    if part == {part} and self._rows == 100:
        os.kill(os.getpid(), signal.SIGSTOP)

_Parts.write = write_and_stop
main()
"""


def deesc(*arguments, text=None, check=None):
    command = [sys.executable, "-m", "deesc_model.cli", *map(str, arguments)]
    result = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    if check is not None:
        assert result.returncode == check, result.stderr
    return result


@contextlib.contextmanager
def stopped_amid(part, *arguments, **environment):
    """A run that stopped itself after 100 rows of a part; at the end all of it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", STOP_AMID.format(part=part), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), process.stderr.read()
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def read_jsonl(text):
    return [json.loads(line) for line in text.splitlines()]
