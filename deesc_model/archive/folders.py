"""A folder of parts as manifest and ledger see it: names and their content, on disk or in a store.

A file in it appears when it is whole.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from deesc_model.archive.places import Place, remove
from deesc_model.archive.stores import StorePath
from deesc_model.errors import InvalidInputError
from deesc_model.files import open_binary

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where two runs into one folder are not told apart
    fcntl = None  # type: ignore[assignment]

LOCK_FILE: Final = "_deesc.lock"

_NO_LOCKS: Final = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""What a file system without locks says, as Lustre or NFS may: as on Windows then."""


class Folder(Protocol):
    """Where parts go; names of what is deeper have a ``/``."""

    @property
    def place(self) -> Place:
        """Where it is."""

    def check(self) -> None:
        """Say before the work that it cannot be; what only making it can tell is said then."""

    def names(self) -> list[str]:
        """Return what is in it, by name; it is made if need be."""

    def below(self, name: str) -> list[str]:
        """Return what is in a folder in it, each with the name of that."""

    def claimed(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs out, and remove what a run that was killed left behind."""

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, or None if there is none."""

    def read(self, name: str) -> str:
        """Return the text of a file; what is no UTF-8 is replaced."""

    def append(self, name: str, text: str) -> None:
        """Add to a file, so that it outlives a kill and a power cut."""

    def open(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file to be written anew."""

    def remove(self, name: str) -> None:
        """Remove a file."""


def folder_at(place: Place) -> Folder:
    """Return the folder at a place; nothing is made or asked yet."""
    return StoreFolder(place) if isinstance(place, StorePath) else DiskFolder(place)


class DiskFolder:
    """As `Folder`, on this disk."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def check(self) -> None:
        """As in `Folder`.

        Raises:
            InvalidInputError: It is a file.
        """
        if self.place.exists() and not self.place.is_dir():
            raise InvalidInputError(
                f"{self.place} is a file, and --parts needs a folder; name one, it may be new"
            )

    def names(self) -> list[str]:
        """As in `Folder`."""
        self.place.mkdir(parents=True, exist_ok=True)
        return sorted(item.name for item in self.place.iterdir() if item.name != LOCK_FILE)

    def below(self, name: str) -> list[str]:
        """As in `Folder`."""
        folder = self.place / name
        return [f"{name}/{item.name}" for item in folder.iterdir()] if folder.is_dir() else []

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """As in `Folder`.

        Raises:
            InvalidInputError: Another run is writing there.
        """
        with (self.place / LOCK_FILE).open("a") as lock:
            if fcntl:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InvalidInputError(
                        f"{self.place} is being written by another deesc score; wait for it or"
                        " stop it"
                    ) from None
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
            for rest in (*self.place.glob("*.partial"), *self.place.glob("*/*.partial")):
                rest.unlink()
            yield

    def size(self, name: str) -> int | None:
        """As in `Folder`."""
        file = self.place / name
        return file.stat().st_size if file.exists() else None

    def read(self, name: str) -> str:
        """As in `Folder`."""
        return (self.place / name).read_text("utf-8", "replace")

    def append(self, name: str, text: str) -> None:
        """As in `Folder`."""
        with (self.place / name).open("a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """As in `Folder`."""
        file = self.place / name
        file.parent.mkdir(exist_ok=True)
        with open_binary(file) as stream:
            yield stream

    def remove(self, name: str) -> None:
        """As in `Folder`."""
        remove(self.place / name)


class StoreFolder:
    """As `Folder`, in a store, which has no lock: two runs into one folder are not told apart.

    What is there is asked once; then nobody but this run writes.
    """

    def __init__(self, place: StorePath) -> None:
        self.place = place
        self._sizes: dict[str, dict[str, int]] = {}

    def check(self) -> None:
        """As in `Folder`; see `StorePath.check_bucket`."""
        self.place.check_bucket()

    def names(self) -> list[str]:
        """As in `Folder`."""
        return sorted(self.place.children())

    def below(self, name: str) -> list[str]:
        """As in `Folder`."""
        return [f"{name}/{child}" for child in (self.place / name).children()]

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """As in `Folder`: nothing can be done."""
        yield

    def size(self, name: str) -> int | None:
        """As in `Folder`."""
        return self._beside(name).get(name)

    def read(self, name: str) -> str:
        """As in `Folder`."""
        with (self.place / name).open() as stream:
            return stream.read().decode("utf-8", "replace")

    def append(self, name: str, text: str) -> None:
        """As in `Folder`: it is sent whole."""
        before = self.read(name) if self.size(name) is not None else ""
        with self.open(name) as stream:
            stream.write(f"{before}{text}".encode())

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """As in `Folder`."""
        with (self.place / name).replaced() as stream:
            yield stream
            size = stream.tell()
        self._beside(name)[name] = size

    def remove(self, name: str) -> None:
        """As in `Folder`."""
        remove(self.place / name)
        self._beside(name).pop(name, None)

    def _beside(self, name: str) -> dict[str, int]:
        """Return the sizes of all that is where a file is."""
        parent, slash, _ = name.rpartition("/")
        if parent not in self._sizes:
            self._sizes[parent] = {
                f"{parent}{slash}{child}": found.stat().st_size
                for child, found in (self.place / parent).children().items()
                if found.is_file()
            }
        return self._sizes[parent]
