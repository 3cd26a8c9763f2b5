"""Where files are: on this disk, a `Path`, or in a store, a `StorePath`. Only here they differ."""

import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from deesc_model.archive.stores import StorePath, is_fit, is_uri, look, store_path
from deesc_model.bundle import file_sha256
from deesc_model.errors import InvalidInputError
from deesc_model.files import check_writable, is_regular, open_binary

Place = Path | StorePath


def place(text: str) -> Place:
    """Return what a path or URI stands for; ``file://`` is this disk.

    Raises:
        InvalidInputError: The URI is of no known store, or wrong.
    """
    if not is_uri(text):
        return Path(text)
    if not text.startswith("file://"):
        return store_path(text)
    host, _, path = text.removeprefix("file://").partition("/")
    if host not in ("", "localhost"):
        raise InvalidInputError(f"{text}: a file of this machine is file:///FOLDER/NAME")
    return Path("/", unquote(path))


def seen(places: Sequence[Place]) -> list[Place]:
    """Return places of which those in stores know what is there now.

    Raises:
        StoreError: A store does not answer.
    """
    found = iter(look([item for item in places if isinstance(item, StorePath)]))
    return [next(found) if isinstance(item, StorePath) else item for item in places]


def within(folder: Place) -> list[Place]:
    """Return the files in a folder and below; what begins with ``.`` or ``_`` is passed over."""
    return list(folder.within() if isinstance(folder, StorePath) else _within(folder))


def matching(pattern: Place) -> list[Place]:
    """Return what fits a pattern; the files of folders in a store instead of these."""
    if isinstance(pattern, StorePath):
        return list(pattern.matching())
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - a pattern from the root too
    return list(map(Path, found))


def identity(file: Place) -> dict[str, object]:
    """Return what tells a file from a changed one: its sha256, or what its store says of it."""
    if isinstance(file, StorePath):
        found = file.stat()
        changed = datetime.fromtimestamp(found.st_mtime_ns / 1e9, UTC)
        return {"size": found.st_size, "modified": changed.isoformat()}
    return {"sha256": file_sha256(file)}


def lie_in_one_another(one: Place, other: Place) -> bool:
    """Return whether two places are the same, or one is in the other."""
    first, second = _whole_name(one), _whole_name(other)
    length = min(len(first), len(second))
    return first[:length] == second[:length]


def beside(file: Place, end: str) -> Place:
    """Return the place of a file whose name has more at its end."""
    return file.beside(end) if isinstance(file, StorePath) else Path(f"{file}{end}")


def check_place(file: Place) -> None:
    """Say before the work, not after it, that a file cannot be written.

    Raises:
        InvalidInputError: As `files.check_writable`, or there is no such bucket.
        StoreError: A store does not answer.
    """
    if isinstance(file, StorePath):
        file.check_bucket()
        if look([file])[0].is_dir():
            raise InvalidInputError(f"{str(file)!r} is a folder; name a file in it")
    else:
        check_writable(file)


def open_bytes(file: Place, *, keep: bool = False) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a file that gets its name, on the disk or in a store, only once it is complete.

    Args:
        file: The file.
        keep: As in `files.open_binary`; of one for a store nothing is kept.
    """
    return file.replaced() if isinstance(file, StorePath) else open_binary(file, keep=keep)


def remove(file: Place) -> None:
    """Remove an ordinary file, if there is one; of a link what it leads to."""
    if isinstance(file, StorePath):
        file.remove()
    elif is_regular(file):
        Path(os.path.realpath(file)).unlink()


def fits(file: Place, pattern: Place) -> bool:
    """Return whether a pattern fits a file that may be there later, or a folder that it is in."""
    if not glob.has_magic(str(pattern)) or pattern.exists():
        return False
    name = _whole_name(file)
    return any(is_fit(name[:cut], _whole_name(pattern)) for cut in range(1, len(name) + 1))


def _within(folder: Path) -> Iterator[Path]:
    """Yield what `within` returns; links are followed last, and no folder is walked twice."""

    def refuse(error: OSError) -> None:  # a folder that may not be read is not an empty one
        raise error

    walked: set[str] = set()
    ways = [folder]
    for way in ways:
        for parent, folders, files in os.walk(way, onerror=refuse):
            if (real := os.path.realpath(parent)) in walked:
                folders.clear()
                continue
            walked.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
            ways += (link for name in folders if (link := Path(parent, name)).is_symlink())
            yield from (Path(parent, name) for name in files if not name.startswith((".", "_")))


def _whole_name(file: Place) -> tuple[str, ...]:
    if isinstance(file, StorePath):
        return (file.store.name, *file.parts)
    return file.resolve().parts
