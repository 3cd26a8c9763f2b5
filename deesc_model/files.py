"""Open what `deesc score` reads and writes, so that nothing is lost and nothing half is shown."""

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deesc_model.errors import InvalidInputError


def refuse_same_file(*paths: Path | None) -> None:
    """Refuse two names for one file, by whatever link.

    Raises:
        InvalidInputError: Two of the paths are the same file; None and ``-`` are passed over.
    """
    named = [path for path in paths if path is not None and str(path) != "-"]
    for index, path in enumerate(named):
        for other in named[:index]:
            same = os.path.realpath(path) == os.path.realpath(other)
            if same or (_is_regular(path) and _is_regular(other) and path.samefile(other)):
                raise InvalidInputError(
                    f"{path} is named twice; input, output (-o) and skipped rows (--skipped) need"
                    " three different files"
                )


def check_writable(path: Path) -> None:
    """Say before the work, not after it, that a file cannot be written.

    Raises:
        InvalidInputError: The path is a folder, or its folder is missing or read-only.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise InvalidInputError(f"{str(path)!r} is a folder; name a file in it")
    if not target.exists() and not os.access(target.parent, os.W_OK):
        raise InvalidInputError(f"cannot write {path}: {target.parent} is missing or read-only")


@contextlib.contextmanager
def open_input(file: Path) -> Iterator[TextIO]:
    """Open a file, or standard input for ``-``; bytes that are not UTF-8 become surrogates."""
    if str(file) == "-":
        if sys.stdin is None:
            raise InvalidInputError("standard input is closed")
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        yield stream


@contextlib.contextmanager
def open_output(out: Path | None) -> Iterator[TextIO]:
    """Open standard output, or a file that gets its name only once it is complete.

    Until then its rows are in a file of its own beside it, ``NAME.….partial``, which stays
    after an error or a kill. Devices and pipes are written to directly, links are followed.
    """
    if out is None:
        yield utf8_stdout()
        sys.stdout.flush()
        return
    target = Path(os.path.realpath(out))
    if target.exists() and not _is_regular(target):
        with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            yield stream
        return
    check_writable(target)
    descriptor, name = tempfile.mkstemp(".partial", f"{target.name}.", target.parent)
    partial = Path(name)
    with open(  # noqa: PTH123
        descriptor, "w", encoding="utf-8", errors="surrogateescape", newline=""
    ) as stream:
        try:
            yield stream
        except BaseException:
            stream.close()
            if partial.stat().st_size == 0:
                partial.unlink()
            elif sys.stderr is not None:
                print(f"rows done so far are in {partial}", file=sys.stderr)
            raise
    partial.chmod(0o666 & ~_umask())
    partial.replace(target)


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


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
