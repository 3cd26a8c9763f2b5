"""The committed stubs are those of the protos, and the protos keep what clients rely on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from serve import protos

pytest.importorskip("grpc_tools", reason="the stubs are written with grpcio-tools, extra dev")

ROOT = Path(__file__).parents[2]


def test_make_proto_would_change_nothing(tmp_path):
    protos.generate(tmp_path)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 6
    for path in written:
        committed = ROOT / path.relative_to(tmp_path)
        assert path.read_text() == committed.read_text(), f"{committed}: run make proto"


def released():
    return FileDescriptorSet.FromString(protos.RELEASED.read_bytes())


def test_the_api_keeps_what_released_clients_rely_on():
    assert protos.breaking_changes(released(), protos.descriptors()) == []


def escalation(files):
    return next(file for file in files.file if file.package == "deesc.v1")


def rename_field(file):
    file.message_type[0].field[0].name = "who"


def change_type(file):
    file.message_type[0].field[1].type = 3


def remove_field(file):
    del file.message_type[0].field[1]


def rename_level(file):
    file.enum_type[1].value[4].name = "LEVEL_RUDE"


def remove_method(file):
    del file.service[0].method[0]


def stop_streaming(file):
    next(m for m in file.service[0].method if m.client_streaming).client_streaming = False


@pytest.mark.parametrize(
    "breaking",
    [rename_field, change_type, remove_field, rename_level, remove_method, stop_streaming],
)
def test_a_breaking_change_is_found(breaking):
    changed = released()
    breaking(escalation(changed))
    assert len(protos.breaking_changes(released(), changed)) == 1


def test_an_addition_breaks_nothing():
    added = released()
    file = escalation(added)
    file.message_type[0].field.add(name="language", number=3, type=9, label=1)
    file.message_type.add(name="New")
    assert protos.breaking_changes(released(), added) == []


def test_the_stubs_import_under_this_protobuf_with_warnings_as_errors():
    code = "import deesc_model._proto.escalation_pb2_grpc, serve.generated.open_inference_pb2_grpc"
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
