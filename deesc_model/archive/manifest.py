"""What a folder of parts says of itself, so that only the same run goes on with it."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from deesc_model.archive.folders import Folder
from deesc_model.archive.places import identity, seen
from deesc_model.archive.sources import Source, refuse_streams, stamp_of
from deesc_model.errors import InvalidInputError
from deesc_model.files import as_text

MANIFEST_FILE: Final = "_deesc.json"


def plan_of(sources: Sequence[Source], **options: object) -> dict[str, Any]:
    """Return everything that the parts depend on, in plain JSON types.

    Args:
        sources: What is read; each file's sha256 is taken, or what its store says of it.
        **options: The rest.

    Raises:
        InvalidInputError: A source can be read only once.
    """
    refuse_streams(sources, "parts of it are resumed by reading it again")
    inputs = [
        {
            "file": source.name,
            "fields": dict(source.fields),
            **identity(source.file),
        }
        for source in sources
    ]
    return {**options, "inputs": inputs}


def guard(sources: Sequence[Source]) -> Callable[[], None]:
    """Return what refuses, when it is called, files that were changed in between."""
    before = [source.stamp for source in sources]

    def check() -> None:
        now = map(stamp_of, seen([source.file for source in sources]))
        for source, old, new in zip(sources, before, now, strict=True):
            if new != old:
                raise InvalidInputError(
                    f"{source.name} was changed while it was read, so the rows are of neither"
                    " version; label it anew"
                )

    return check


@contextlib.contextmanager
def claimed(folder: Folder, plan: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder this run's own, or go on with it; nobody else writes there meanwhile.

    When the context ends without an error, the manifest says that all parts are there.

    Args:
        folder: The folder; it is made.
        plan: What `plan_of` returned.

    Raises:
        InvalidInputError: The folder holds something else, parts of a run with another plan, or
            is being written by another run.
    """
    names = folder.names()
    # A kill amid the first manifest leaves a piece of it, which is removed below.
    others = [name for name in names if not fnmatchcase(name, f"{MANIFEST_FILE}.*.partial")]
    if others and MANIFEST_FILE not in others:
        raise InvalidInputError(
            f"{folder.place} holds {min(others)!r}, which is not of a run of deesc score; name a"
            " folder that is empty or new"
        )
    with folder.claimed():
        if folder.size(MANIFEST_FILE) is not None:
            _check_same(folder, plan)
        else:
            _write(folder, plan, done=False)
        yield
        _write(folder, plan, done=True)


def _write(folder: Folder, plan: Mapping[str, Any], *, done: bool) -> None:
    with folder.open(MANIFEST_FILE) as raw, as_text(raw) as stream:
        stream.write(json.dumps({**plan, "done": done}, indent=1) + "\n")


def _check_same(folder: Folder, plan: Mapping[str, Any]) -> None:
    before = _read(folder)
    differences = [
        f"{name} was {before.get(name)!r}, now {value!r}"
        for name, value in plan.items()
        if name != "inputs" and before.get(name) != value
    ]
    differences += _changed_inputs(before["inputs"], plan["inputs"])
    if differences:
        raise InvalidInputError(
            f"{folder.place} holds parts of another run ({'; '.join(differences[:3])}); name"
            " another folder, or run with what was given then"
        )


def _read(folder: Folder) -> dict[str, Any]:
    try:
        found = json.loads(folder.read(MANIFEST_FILE))
        if isinstance(found, dict) and all("file" in item for item in found["inputs"]):
            return found
    except (ValueError, TypeError, KeyError):
        pass
    raise InvalidInputError(
        f"{folder.place / MANIFEST_FILE} is damaged or not of a run of deesc score; name a folder"
        " that is empty or new"
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
