"""What a folder of parts says of itself, so that only the same run goes on with it."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from deesc_model.archive.folders import Folder
from deesc_model.archive.ledger import Ledger
from deesc_model.archive.places import identity, seen
from deesc_model.archive.sources import Source, refuse_streams, stamp_of
from deesc_model.errors import InvalidInputError
from deesc_model.files import as_text

MANIFEST_FILE: Final = "_deesc.json"

_NO_OPTIONS: Final = ("inputs", "columns", "done")


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
            # Another input of the same name changes how a transcript's conversations are called.
            **({"called": source.called} if source.file_format is None else {}),
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
def claimed(folder: Folder, file_format: str, plan: Mapping[str, Any]) -> Iterator[Ledger]:
    """Make the folder this run's own, or go on with it; nobody else writes there meanwhile.

    When the context ends without an error, the manifest says that all parts are there.

    Args:
        folder: The folder; it is made.
        file_format: One of `records.FORMATS`.
        plan: What `plan_of` returned.

    Yields:
        The parts that are there.

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
            before = _read(folder)
            _refuse_another(folder, _changed_options(before, plan))
            ledger = Ledger(folder, file_format)
            _refuse_another(folder, _changed_sources(before, plan, ledger))
            if any(before.get(name) != value for name, value in plan.items()):
                ledger.reopen()
                _write(folder, plan, done=False)
        else:
            _write(folder, plan, done=False)
            ledger = Ledger(folder, file_format)
        yield ledger
        _write(folder, plan, done=True)


def _write(folder: Folder, plan: Mapping[str, Any], *, done: bool) -> None:
    with folder.open(MANIFEST_FILE) as raw, as_text(raw) as stream:
        stream.write(json.dumps({**plan, "done": done}, indent=1) + "\n")


def _refuse_another(folder: Folder, differences: Sequence[str]) -> None:
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


def _changed_options(before: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} was {before.get(name)!r}, now {plan.get(name)!r}"
        for name in {**plan, **before}
        if name not in _NO_OPTIONS and before.get(name) != plan.get(name)
    ]


def _changed_sources(
    before: Mapping[str, Any], plan: Mapping[str, Any], ledger: Ledger
) -> list[str]:
    """Say what of the inputs has changed of which there are parts."""
    used = ledger.inputs
    changed = _changed_inputs(before["inputs"][:used], plan["inputs"][:used])
    if ledger.parts and before.get("columns") != plan.get("columns"):
        changed.append("the columns of all inputs together are others")
    return changed


def _changed_inputs(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> list[str]:
    if [item["file"] for item in before] != [item["file"] for item in now]:
        return [f"the inputs were {_named(before)}, now {_named(now)}"]
    return [_change(old, new) for old, new in zip(before, now, strict=True) if old != new]


def _change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if {**before, "called": now.get("called")} != now:
        return f"{now['file']} has changed"
    return (
        f"a conversation without an id in {now['file']} was called {before.get('called')!r}, among"
        f" the inputs of now it is {now['called']!r}"
    )


def _named(inputs: Sequence[Mapping[str, Any]]) -> str:
    shown = ", ".join(str(item["file"]) for item in inputs[:3])
    return f"{shown} and {len(inputs) - 3:,} more" if len(inputs) > 3 else shown
