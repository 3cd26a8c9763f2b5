"""The examples of docs/server.md run against a server."""

import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from serve.config import Settings, flag_name

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/server.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```py\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_there_are_examples():
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_runs(shared, code):
    if "tritonclient" in code and importlib.util.find_spec("tritonclient") is None:
        pytest.skip("tritonclient is not installed: pip install 'tritonclient[grpc]'")
    code = code.replace("50051", str(shared.port)).replace("timeout_s=2", "timeout_s=20")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_every_flag_named_is_one_that_the_server_has():
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCUMENT)) - {"--help"}
    assert named <= {flag_name(each.name) for each in fields(Settings)}
