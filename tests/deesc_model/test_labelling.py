"""Labelling in other processes: what goes wrong there is said here, in a line."""

import json

import pytest
from command import deesc, write_jsonl

from deesc_model.bundle import MANIFEST_FILE, MODEL_FILE, file_sha256

pytest.importorskip("typer")


def test_a_network_that_no_process_can_open_is_named(bundle_dir, tmp_path):
    (bundle_dir / MODEL_FILE).write_bytes(b"of a later format")
    manifest = json.loads((bundle_dir / MANIFEST_FILE).read_text())
    manifest["files"][MODEL_FILE] = file_sha256(bundle_dir / MODEL_FILE)
    (bundle_dir / MANIFEST_FILE).write_text(json.dumps(manifest))
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "late"}])
    options = ("--processes", 2, "--model", bundle_dir)
    (said,) = deesc("score", path, *options, check=1).stderr.splitlines()
    assert said.startswith(f"error: {bundle_dir / MODEL_FILE} cannot be opened by onnxruntime: ")
