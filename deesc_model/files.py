"""Open what `deesc score` reads and writes, so that nothing is lost and nothing half is shown."""

import contextlib
import errno
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol, TextIO

from deesc_model.errors import InvalidInputError

_GZIP: Final = b"\x1f\x8b"
_LONGEST_BEGIN: Final = 255 - len(".12345678.partial")
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OF_FOLDERS: Final = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)
"""What `fsync` says where it is for files only, as over some networks."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """What of `os.stat_result` is asked of a file.

    Attributes:
        st_size: Bytes.
        st_mtime_ns: When it was last changed, in nanoseconds since 1970.
        st_ino: What another file on the same disk has not.
    """

    st_size: int
    st_mtime_ns: int
    st_ino: int = 0


class InputFile(Protocol):
    """A file that is read: a `Path`, or what can as much."""

    @property
    def stem(self) -> str:
        """Its name without the suffix."""

    @property
    def suffix(self) -> str:
        """The end of its name, with the dot."""

    def exists(self) -> bool:
        """Return whether anything is there."""

    def is_file(self) -> bool:
        """Return whether an ordinary file is there."""

    def stat(self) -> FileStat | os.stat_result:
        """Return size and time."""

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open it; it can be read anywhere."""


def shown_name(file: InputFile) -> str:
    """Return what messages call a file."""
    return "standard input" if str(file) == "-" else str(file)


def refuse_compressed(head: bytes) -> None:
    """Refuse what begins as a file of gzip does.

    Raises:
        InvalidInputError: It does; the message says what to do.
    """
    if head.startswith(_GZIP):
        raise InvalidInputError(
            "it is compressed by gzip; gunzip it first, or: gunzip -c FILE | deesc score -, with"
            " --input-format NAME unless it is JSON Lines"
        )


def refuse_same_file(*paths: InputFile | None) -> None:
    """Refuse two names for one file, by whatever link.

    Raises:
        InvalidInputError: Two of the paths are the same file; None and ``-`` are passed over.
    """
    seen: set[object] = set()
    for path in paths:
        if path is None or str(path) == "-":
            continue
        names: set[object] = {os.path.realpath(path) if isinstance(path, Path) else str(path)}
        if isinstance(path, Path) and is_regular(path):
            found = path.stat()
            names.add((found.st_dev, found.st_ino))
        if names & seen:
            raise InvalidInputError(
                f"{path} is named twice; inputs, output (-o) and skipped rows (--skipped) need"
                " different files"
            )
        seen |= names


def check_writable(path: Path) -> None:
    """Say before the work, not after it, that a file cannot be written.

    Raises:
        InvalidInputError: The path is a folder, or its folder is missing or read-only.
    """
    target = _target(path)
    if target.is_dir():
        raise InvalidInputError(f"{str(path)!r} is a folder; name a file in it")
    if _is_device(target):
        return
    if not os.access(target.parent, os.W_OK):  # also if the file is there: it is replaced
        raise InvalidInputError(f"cannot write {path}: {target.parent} is missing or read-only")


@contextlib.contextmanager
def open_input(file: InputFile) -> Iterator[TextIO]:
    """Open a file, or standard input for ``-``; bytes that are not UTF-8 become surrogates."""
    if str(file) == "-":
        stream = _stdin()
        stream.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[attr-defined]
        yield stream
        return
    with (
        file.open("rb") as raw,
        io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as stream,
    ):
        yield stream


def read_input(file: InputFile) -> bytes:
    """Read a file whole, or standard input for ``-``."""
    if str(file) == "-":
        return _stdin().buffer.read()
    with file.open("rb") as stream:
        return stream.read()


def _stdin() -> TextIO:
    if sys.stdin is None:
        raise InvalidInputError("standard input is closed")
    return sys.stdin


@contextlib.contextmanager
def open_output(out: Path | None, *, keep: bool = True) -> Iterator[TextIO]:
    """Open standard output, or a text file as `open_binary` does.

    Args:
        out: The file; None is standard output.
        keep: As in `open_binary`.
    """
    if out is None:
        yield utf8_stdout()
        sys.stdout.flush()
        return
    with open_binary(out, keep=keep) as raw, as_text(raw) as stream:
        yield stream


@contextlib.contextmanager
def as_text(raw: BinaryIO) -> Iterator[TextIO]:
    """Write text to a stream of bytes, which stays open."""
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield stream
    finally:
        stream.detach()  # after writing what it still holds


@contextlib.contextmanager
def open_binary(out: Path, *, keep: bool = False) -> Iterator[BinaryIO]:
    """Open a file that gets its name only once it is complete and on the disk.

    Until then its content is in a file of its own beside it, ``NAME.….partial``, which stays
    after a kill. Devices and pipes are written to directly, links are followed. A file that is
    replaced leaves its mode to the new one.

    Args:
        out: The file.
        keep: Whether what was written also stays after an error, and is named.

    Raises:
        OSError: The disk is full or the like; the error names the file.
    """
    target = _target(out)
    with _named_when_full(out):
        if _is_device(target):
            with target.open("wb") as device:
                yield device
            return
        check_writable(target)
        begin = os.fsencode(target.name)[:_LONGEST_BEGIN].decode("utf-8", "ignore")
        descriptor, name = tempfile.mkstemp(".partial", f"{begin}.", target.parent)
        partial = Path(name)
        try:
            with open(descriptor, "wb") as stream:  # noqa: PTH123
                yield stream
                stream.flush()
                os.fsync(descriptor)
            partial.chmod(
                stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
            )
            partial.replace(target)
        except BaseException:
            if not (keep and partial.exists() and partial.stat().st_size):
                partial.unlink(missing_ok=True)
            elif sys.stderr is not None:
                print(f"rows done so far are in {partial}", file=sys.stderr)
            raise
        _sync_folder(target.parent)


def _target(out: Path) -> Path:
    """Return the file that a path leads to by links; a pipe as /dev/stdout has no other name."""
    return out if _is_device(out) else Path(os.path.realpath(out))


def _is_device(path: Path) -> bool:
    """Return whether something is there, but neither an ordinary file nor a folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextlib.contextmanager
def _named_when_full(out: Path) -> Iterator[None]:
    """Name the file in an error that only writing can raise; the system does not."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            raise OSError(error.errno, error.strerror, str(out)) from None
        raise


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder outlive a power cut, where the system lets folders be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows, and folders that may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:  # some file systems do so of files only
        if error.errno not in _NOT_OF_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def utf8_stdout() -> TextIO:
    """Return standard output, made to write UTF-8 whatever the terminal is set to.

    Raises:
        InvalidInputError: Standard output is closed.
    """
    if sys.stdout is None:
        raise InvalidInputError("standard output is closed; name a file with -o")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    return sys.stdout


def is_regular(path: InputFile) -> bool:
    """Return whether a path leads to an ordinary file, not to a folder, pipe or device."""
    try:
        return path.is_file()
    except OSError:
        return False


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
