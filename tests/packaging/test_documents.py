"""Every command and every Python example of the documents is run, in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.report_tables import summary_table

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
DOCUMENTS += ["data/README.md", "benchmarks/README.md", "benchmarks/with_amx/README.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The tracked files in a fresh folder, and this environment's commands in front."""
    folder = tmp_path_factory.mktemp("copy")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (document, code)
        for document in DOCUMENTS
        for found, code in FENCE.findall((ROOT / document).read_text(encoding="utf-8"))
        if found == language
    ]


def run(command: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), **changes}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("document", "code"), blocks("bash"))
def test_commands_run(document, code, copy):
    lines = [line.split(" #")[0].rstrip() for line in code.replace("\\\n", "").splitlines()]
    for line in filter(None, lines):
        # CI runs `make demo` and `make test` themselves; training for half an hour and servers
        # that never end are checked as far as make and pip can without doing them.
        if line.startswith("make "):
            line = line.replace("make ", "make -n ", 1)  # noqa: PLW2901
        elif line.startswith("pip install "):
            line = line.replace("install ", "install --dry-run --no-deps --no-build-isolation -q ")  # noqa: PLW2901
        elif line.startswith(("git clone", "cd ")):
            continue
        result = run(line, copy)
        assert result.returncode == 0, f"{document}: {line}\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize(("document", "code"), blocks("python"))
def test_python_examples_run(document, code, copy):
    result = run(
        'exec "$DEESC_PYTHON" -W error -c "$DEESC_CODE"',
        copy,
        DEESC_PYTHON=sys.executable,
        DEESC_CODE=code,
    )
    assert result.returncode == 0, f"{document}:\n{result.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_inside_the_project_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


def test_the_first_screen_of_the_readme_has_both_commands_and_an_example():
    screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:45])
    for needed in ("make demo", "make test", "from deesc_model import EscalationClassifier"):
        assert needed in screen


@pytest.mark.parametrize(
    "command",
    [
        "data describe",
        "agreement data/corpus data/agreement/corpus-second.jsonl",
        "agreement data/corpus data/agreement/corpus-49-56-second.jsonl",
        "agreement data/corpus data/agreement/corpus-57-60-second.jsonl",
        "agreement data/agreement/real-first.jsonl data/agreement/real-second.jsonl",
        "agreement data/agreement/validation-first.jsonl data/agreement/validation-second.jsonl",
    ],
)
def test_the_data_card_shows_what_the_commands_print(command):
    shown = subprocess.run(
        [sys.executable, "-m", *f"training.{command}".split()],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert shown in (ROOT / "data/README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_figures_that_ship_with_the_bundle():
    report = json.loads((ROOT / "models/default/metrics.json").read_text(encoding="utf-8"))
    assert summary_table(report) in (ROOT / "README.md").read_text(encoding="utf-8")
