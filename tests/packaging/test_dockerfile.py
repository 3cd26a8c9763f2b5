"""What can be checked of the Dockerfile without building it."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.footprint import closure

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
JOINED = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
STEPS = [tuple(line.split(maxsplit=1)) for line in JOINED.splitlines() if line.strip()]
STAGES = JOINED.split("FROM ")[1:]


IMPORTED = """
import json, sys
for optional in ("opentelemetry", "grpc_tools"):  # used where they are; the image has neither
    sys.modules[optional] = None
before = set(sys.modules)  # what this environment loads at every start
import deesc_model, serve.server
new = {name: sys.modules[name] for name in sys.modules.keys() - before}
found = [name for name in new if getattr(new[name], "__spec__", None)]  # Cython's have none
print(json.dumps(sorted({name.split(".")[0] for name in found})))
"""


def values(instruction):
    return [value for name, value in STEPS if name == instruction]


def test_known_instructions_only():
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert {name for name, _ in STEPS} <= known


def test_what_is_copied_is_in_the_repository_and_nothing_else_is():
    copied = [
        source
        for value in values("COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    ]
    assert {"deesc_model", "models/default", "serve"} <= set(copied)
    tracked = subprocess.run(
        ["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for source in copied:
        assert any(name == source or name.startswith(f"{source}/") for name in tracked), source


def test_the_image_is_pinned_and_runs_without_root():
    for stage in STAGES:
        assert re.match(r"python:\d+\.\d+-slim\b", stage)
    (user,) = re.findall(r"^USER (\S+)", STAGES[-1], flags=re.MULTILINE)
    assert int(user) > 0  # a number, so that Kubernetes can see that it is not root
    after_user = STAGES[-1].split(f"USER {user}")[1]
    assert "RUN" not in after_user


def test_packages_are_the_tested_ones_and_torch_is_not_among_them():
    (install,) = [value for value in values("RUN") if "pip install" in value]
    assert "--no-cache-dir -c constraints.txt" in install
    assert '".[serve]"' in install
    assert "torch" not in install


def test_commands_get_signals_themselves():
    (entry,) = values("ENTRYPOINT")
    assert json.loads(entry) == ["python", "-m", "serve.server"]  # no shell in between
    assert json.loads(values("HEALTHCHECK")[0].split("CMD", 1)[1])[0] == "python"


def test_the_server_imports_no_more_than_the_image_has():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    needed = closure(tuple(Requirement(line).name for line in lines))
    packages = importlib.metadata.packages_distributions()
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    allowed = {"serve", "deesc_model", *sys.stdlib_module_names}
    too_many = [
        name
        for name in json.loads(result.stdout)
        if name not in allowed
        and needed.isdisjoint(map(canonicalize_name, packages.get(name, [name])))
    ]
    assert too_many == []


def test_the_server_starts_with_no_more_than_the_image_has(tmp_path):
    shutil.copytree(ROOT / "serve", tmp_path / "serve", ignore=shutil.ignore_patterns("*.pyc"))
    shown = subprocess.run(
        [sys.executable, "-m", "serve.server", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for flag in re.findall(r"--[a-z-]+(?= \S)", TEXT.split("FROM", 1)[0]):
        if flag not in ("--rm",):
            assert flag in shown
