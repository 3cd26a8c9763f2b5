"""The wheel as users get it: its contents, its size, its work without network and checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deesc_model.bundle import default_bundle_path, read_bundle

ROOT = Path(__file__).parents[2]
BUNDLE = (
    "README.md",
    "config.json",
    "manifest.json",
    "metrics.json",
    "model.onnx",
    "tokenizer.json",
)
DATA = ("playbook.toml", "policy.toml", "py.typed", "risk.json")


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    return subprocess.run(
        [*command, str(ROOT)], env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    assert build(folder).returncode == 0
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_light_package_and_the_bundle_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {
        str(path.relative_to(ROOT))
        for kind in ("py", "pyi", "css", "js")
        for path in (ROOT / "deesc_model").rglob(f"*.{kind}")
    }
    bundle = {f"deesc_model/default_bundle/{name}" for name in BUNDLE}
    data = {f"deesc_model/{name}" for name in DATA}
    assert names == modules | bundle | data


def test_the_wheel_is_small_enough_for_a_package_index(wheel):
    assert wheel.stat().st_size <= 60_000_000


def test_a_wheel_can_carry_another_bundle(tmp_path):
    assert build(tmp_path, DEESC_BUNDLE="models/fast").returncode == 0
    (path,) = tmp_path.glob("*.whl")
    assert path.stat().st_size <= 15_000_000
    with zipfile.ZipFile(path) as archive:
        carried = archive.read("deesc_model/default_bundle/manifest.json")
    assert carried == (ROOT / "models/fast/manifest.json").read_bytes()


def test_a_wheel_of_no_bundle_is_not_built(tmp_path):
    built = build(tmp_path, DEESC_BUNDLE="models")
    assert built.returncode != 0
    assert "DEESC_BUNDLE names its folder" in built.stdout + built.stderr
    assert not [*tmp_path.iterdir()]


def test_the_wheel_asks_for_light_packages_only(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    assert [line.split()[1].split(">")[0] for line in required] == [
        "numpy",
        "onnxruntime",
        "tokenizers",
    ]


def test_the_unpacked_wheel_works_anywhere_without_network(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = """
import socket
def refuse(*_, **__): raise OSError("no network in this test")
socket.socket = socket.create_connection = refuse
import deesc_model
assert "site" in deesc_model.__file__, deesc_model.__file__
prediction = deesc_model.EscalationClassifier.from_pretrained().predict("You lied to me!")
print(prediction.level.label, prediction.model_version)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert read_bundle(default_bundle_path()).manifest.model_version in result.stdout
