"""What a folder of parts says of itself, so that only the same run goes on with it."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from deesc_model.archive.sources import Source, refuse_streams
from deesc_model.bundle import file_sha256
from deesc_model.errors import InvalidInputError
from deesc_model.files import open_output

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where two runs into one folder are not told apart
    fcntl = None  # type: ignore[assignment]

MANIFEST_FILE: Final = "_deesc.json"
LOCK_FILE: Final = "_deesc.lock"


def plan_of(sources: Sequence[Source], **options: object) -> dict[str, Any]:
    """Return everything that the parts depend on, in plain JSON types.

    Args:
        sources: What is read; each file's sha256 is taken.
        **options: The rest.

    Raises:
        InvalidInputError: A source can be read only once.
    """
    refuse_streams(sources, "parts of it are resumed by reading it again")
    inputs = [
        {
            "file": source.name,
            "fields": dict(source.fields),
            "sha256": file_sha256(source.file),
        }
        for source in sources
    ]
    return {**options, "inputs": inputs}


def guard(sources: Sequence[Source]) -> Callable[[], None]:
    """Return what refuses, when it is called, files that were changed in between."""
    before = [source.stamp for source in sources]

    def check() -> None:
        for source, stamp in zip(sources, before, strict=True):
            if source.stamp != stamp:
                raise InvalidInputError(
                    f"{source.name} was changed while it was read, so the rows are of neither"
                    " version; label it anew"
                )

    return check


@contextlib.contextmanager
def claimed(folder: Path, plan: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder this run's own, or go on with it; nobody else writes there meanwhile.

    When the context ends without an error, the manifest says that all parts are there.

    Args:
        folder: The folder; it is made.
        plan: What `plan_of` returned.

    Raises:
        InvalidInputError: The folder holds something else, parts of a run with another plan, or
            is being written by another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST_FILE
    strange = [item.name for item in folder.iterdir() if item.name != LOCK_FILE]
    if strange and not manifest.exists():
        raise InvalidInputError(
            f"{folder} holds {min(strange)!r}, which is not of a run of deesc score; name a folder"
            " that is empty or new"
        )
    with (folder / LOCK_FILE).open("a") as lock:
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidInputError(
                    f"{folder} is being written by another deesc score; wait for it or stop it"
                ) from None
        if manifest.exists():
            _check_same(manifest, plan)
        else:
            _write(manifest, plan, done=False)
        yield
        _write(manifest, plan, done=True)


def _write(file: Path, plan: Mapping[str, Any], *, done: bool) -> None:
    with open_output(file, keep=False) as stream:
        stream.write(json.dumps({**plan, "done": done}, indent=1) + "\n")


def _check_same(file: Path, plan: Mapping[str, Any]) -> None:
    before = _read(file)
    differences = [
        f"{name} was {before.get(name)!r}, now {value!r}"
        for name, value in plan.items()
        if name != "inputs" and before.get(name) != value
    ]
    differences += _changed_inputs(before["inputs"], plan["inputs"])
    if differences:
        raise InvalidInputError(
            f"{file.parent} holds parts of another run ({'; '.join(differences[:3])}); name"
            " another folder, or run with what was given then"
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all("file" in item for item in found["inputs"]):
            return found
    except (ValueError, TypeError, KeyError):
        pass
    raise InvalidInputError(
        f"{file} is damaged or not of a run of deesc score; name a folder that is empty or new"
    )


def _changed_inputs(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[str]:
    if [item["file"] for item in before] != [item["file"] for item in now]:
        return [f"the inputs were {_named(before)}, now {_named(now)}"]
    return [
        f"{new['file']} has changed" for old, new in zip(before, now, strict=True) if old != new
    ]


def _named(inputs: Sequence[Mapping[str, Any]]) -> str:
    shown = ", ".join(str(item["file"]) for item in inputs[:3])
    return f"{shown} and {len(inputs) - 3:,} more" if len(inputs) > 3 else shown
