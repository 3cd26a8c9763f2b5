"""Generate the stubs from `serve/proto`, and find changes that break old clients.

    python -m serve.protos             write the stubs
    python -m serve.protos --release   also make this API the one that later ones must keep

Needs grpcio-tools 1.81.1, of the extra `dev`: what it writes imports under protobuf 6 and 7.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorSet

ROOT: Final = Path(__file__).parents[1]
PROTOS: Final = ROOT / "serve" / "proto"
RELEASED: Final = PROTOS / "released.binpb"
"""Descriptors of the API that clients in use were built with."""

PACKAGES: Final = {
    "deesc/v1/escalation": "deesc_model._proto",  # in the wheel, the client needs it
    "open_inference": "serve.generated",
}


def generate(root: Path) -> None:
    """Write the stubs of every proto below `root`, laid out as in the checkout.

    Raises:
        ModuleNotFoundError: grpcio-tools is not installed.
        RuntimeError: A proto does not compile; protoc has printed why.
    """
    for name, package in PACKAGES.items():
        target = root.joinpath(*package.split("."))
        target.mkdir(parents=True, exist_ok=True)
        parent, _, module = name.rpartition("/")
        # protoc imports from the top of the path; these modules live in another package.
        written = f"from {parent.replace('/', '.')} import" if parent else "import"
        with tempfile.TemporaryDirectory() as folder:
            kinds = ("python", "pyi", "grpc_python")
            _protoc(*(f"--{kind}_out={folder}" for kind in kinds), name)
            for path in Path(folder, parent).iterdir():
                stub = path.read_text(encoding="utf-8")
                stub = stub.replace(
                    f"{written} {module}_pb2", f"from {package} import {module}_pb2"
                )
                (target / path.name).write_text(stub, encoding="utf-8")


def descriptors() -> FileDescriptorSet:
    """Compile the protos and return their descriptors."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.binpb"
        _protoc(f"--descriptor_set_out={path}", *PACKAGES)
        return FileDescriptorSet.FromString(path.read_bytes())


def _protoc(*arguments: str) -> None:
    from grpc_tools import protoc  # noqa: PLC0415 - only developers have it

    options = [item for item in arguments if item.startswith("--")]
    names = [f"{item}.proto" for item in arguments if not item.startswith("--")]
    if protoc.main(["protoc", f"--proto_path={PROTOS}", *options, *names]) != 0:
        raise RuntimeError(f"protoc failed on {', '.join(names)}")


def breaking_changes(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """Return what a client built with `old` would miss or misread in `new`, one line each."""
    before, now = dict(_facts(old)), dict(_facts(new))
    return [
        f"{name}: was {fact}, is {now.get(name, 'gone')}"
        for name, fact in before.items()
        if now.get(name) != fact
    ]


def _facts(files: FileDescriptorSet) -> Iterator[tuple[str, str]]:
    """Name everything that clients rely on: fields by number, enum values, methods."""
    for file in files.file:
        for message in file.message_type:
            yield from _message_facts(message, file.package)
        for enum in file.enum_type:
            yield from _enum_facts(enum, file.package)
        for service in file.service:
            for method in service.method:
                streams = f"{method.client_streaming:d}{method.server_streaming:d}"
                yield (
                    f"{file.package}.{service.name}/{method.name}",
                    f"{method.input_type} to {method.output_type}, streaming {streams}",
                )


def _message_facts(message: DescriptorProto, scope: str) -> Iterator[tuple[str, str]]:
    name = f"{scope}.{message.name}"
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "-"
        fact = f"{field.name} type {field.type}{field.type_name} label {field.label} oneof {oneof}"
        yield f"{name}.{field.number}", fact
    for nested in message.nested_type:
        yield from _message_facts(nested, name)
    for enum in message.enum_type:
        yield from _enum_facts(enum, name)


def _enum_facts(enum: EnumDescriptorProto, scope: str) -> Iterator[tuple[str, str]]:
    for value in enum.value:
        yield f"{scope}.{enum.name}.{value.number}", value.name


def main() -> None:
    """Write the stubs; refuse a breaking change unless it is released."""
    parser = argparse.ArgumentParser(description="Generate the gRPC stubs.")
    parser.add_argument("--release", action="store_true", help="later APIs must keep this one")
    release = parser.parse_args().release
    generate(ROOT)
    new = descriptors()
    if release:
        RELEASED.write_bytes(new.SerializeToString(deterministic=True))
    broken = breaking_changes(FileDescriptorSet.FromString(RELEASED.read_bytes()), new)
    if broken:
        sys.exit("\n".join(["this breaks clients in use; make a package deesc.v2:", *broken]))


if __name__ == "__main__":
    main()
