"""Object stores by URI, through the file systems of pyarrow; the only module that knows those.

A `StorePath` can do what the archive asks of a `Path`. What stands before the ``@`` or after the
``?`` of a URI may be secret and is never shown.
"""

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, Literal, cast
from urllib.parse import unquote

from deesc_model.errors import InvalidInputError, StoreError
from deesc_model.files import FileStat, open_binary

SCHEMES: Final = ("s3", "gs", "gcs", "abfs", "abfss")
"""How URIs of object stores begin."""

READ_AHEAD: Final = 2**20
"""Bytes that are asked for in one request at least."""

_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(?:([^/?]*)@)?([^/?@]*)/?([^?]*)(?:\?(.*))?")
_PLAIN_OPTIONS: Final = ("region", "scheme", "endpoint_override", "retry_limit_seconds")
# Else Google's is asked for a quarter of an hour, even where there is no network.
_GOOGLE_RETRIES: Final = "retry_limit_seconds=30"
_ENVIRONMENT: Final = ("AWS_", "AZURE_", "GOOGLE_")
_CODE: Final = re.compile(r"AWS Error \w+|Status\(\w+|OAuth2|AuthenticationException")
_HINTS: Final = (
    ("BUCKET", "the name of the bucket"),
    ("DENIED|INVALID_ACCESS|SIGNATURE|TOKEN|AUTH", "the credentials"),
    ("CONNECTION|TIMEOUT|UNAVAILABLE", "the endpoint and the connection"),
)
"""What to check, by what the codes of the stores hold."""


@dataclass(frozen=True, slots=True)
class Store:
    """A bucket, or what another store calls that.

    Attributes:
        uri: Its URI, with secrets.
        name: Its URI without.
        secrets: The parts of the URI that may be secret.
    """

    uri: str = field(repr=False)
    name: str
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def opened(self) -> tuple[Any, str]:
        """The file system of pyarrow and the path in it."""
        with self.named(self.name):
            return _open(self.uri, tuple(_credentials().items()))

    @contextlib.contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Say in one line what was asked, what the store answers, and what to check.

        Raises:
            StoreError: pyarrow raised an error.
        """
        from deesc_model.arrow import pa  # noqa: PLC0415 - an extra

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{name}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        for secret in sorted(self.secrets, key=len, reverse=True):
            reason = reason.replace(secret, "…")
        reason = re.sub(r"\(Request ID.*", "", reason)[:250].rstrip(" .:")
        codes = " ".join(_CODE.findall(reason)).upper()
        hints = [hint for known, hint in _HINTS if re.search(known, codes)]
        return f"{reason}; check {hints[0] if hints else 'URI, credentials and connection'}"

    def __reduce__(self) -> tuple[Callable[..., "Store"], tuple[Any, ...]]:
        """Take along how this process proves who it is: Ray's were started by somebody else."""
        return _arrived, (_credentials(), self.uri, self.name, self.secrets)


def _arrived(known: Mapping[str, str], uri: str, name: str, secrets: tuple[str, ...]) -> Store:
    os.environ.update(known)
    return Store(uri, name, secrets)


def _credentials() -> dict[str, str]:
    """Return the variables that say who asks, and where."""
    return {name: os.environ[name] for name in os.environ if name.startswith(_ENVIRONMENT)}


# One asks its store for the region, and keeps connections; who corrects a variable, as in a
# notebook, is not left with those of before.
@lru_cache(maxsize=64)
def _open(uri: str, _known: tuple[tuple[str, str], ...]) -> tuple[Any, str]:
    from deesc_model.arrow import fs  # noqa: PLC0415 - an extra

    filesystem, base = fs.FileSystem.from_uri(uri)
    return filesystem, base.strip("/")


@dataclass(frozen=True, slots=True)
class StorePath:
    """An object of a store, a folder of objects, or a pattern of names.

    Attributes:
        store: Where it is.
        parts: Its name there, cut at each ``/``.
        found: What is there; None if nothing is, or if nobody looked.
        is_folder: Whether that is a folder.
    """

    store: Store
    parts: tuple[str, ...]
    found: FileStat | None = None
    is_folder: bool = False

    def __str__(self) -> str:
        """Return the URI without secrets."""
        return "/".join((self.store.name, *self.parts))

    def __truediv__(self, name: str) -> "StorePath":
        """Return what is below it."""
        return StorePath(self.store, (*self.parts, *filter(None, name.split("/"))))

    def beside(self, end: str) -> "StorePath":
        """Return what has the same name but for more at its end."""
        return StorePath(self.store, (*self.parts[:-1], f"{self.name}{end}"))

    @property
    def name(self) -> str:
        """Its last part."""
        return self.parts[-1] if self.parts else self.store.name.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of its name, with the dot."""
        return PurePosixPath(self.name).suffix

    def is_file(self) -> bool:
        """Return whether an object was found."""
        return self.found is not None and not self.is_folder

    def is_dir(self) -> bool:
        """Return whether a folder was found."""
        return self.found is not None and self.is_folder

    def exists(self) -> bool:
        """Return whether something was found."""
        return self.found is not None

    def stat(self) -> FileStat:
        """Return what was found.

        Raises:
            InvalidInputError: There is nothing.
        """
        if self.found is None:
            raise InvalidInputError(f"{self}: nothing is there; check the bucket and the name")
        return self.found

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Open an object; it is read as it is asked for.

        Raises:
            StoreError: It cannot be opened; the stream raises the same.
        """
        filesystem, path = self._opened()
        with self.store.named(str(self)):
            raw = _Raw(self, filesystem.open_input_file(path))
        return cast("BinaryIO", io.BufferedReader(raw))

    @contextlib.contextmanager
    def replaced(self) -> Iterator[BinaryIO]:
        """Open a file on this disk, which is sent when it is complete, whole or not at all.

        Raises:
            StoreError: It cannot be sent.
        """
        from deesc_model.arrow import fs  # noqa: PLC0415 - an extra

        with tempfile.TemporaryDirectory(prefix="deesc-") as folder:
            staged = Path(folder, self.name)
            with open_binary(staged) as raw:
                yield raw
            filesystem, path = self._opened()
            # A stream that is given up shows what it has; this call is not interrupted by Ctrl-C.
            with self.store.named(str(self)):
                fs.copy_files(str(staged), path, fs.LocalFileSystem(), filesystem)

    def remove(self) -> None:
        """Remove an object, if there is one.

        Raises:
            StoreError: It cannot be removed.
        """
        filesystem, path = self._opened()
        if look([self])[0].is_file():
            with self.store.named(str(self)):
                filesystem.delete_file(path)

    def check_bucket(self) -> None:
        """Say before the work, not after it, that nothing can be written there.

        Raises:
            InvalidInputError: There is no such bucket.
            StoreError: The store does not answer.
        """
        bucket = StorePath(self.store, ())
        if bucket._opened()[1] and not look([bucket])[0].exists():
            raise InvalidInputError(f"{self.store.name}: there is no such bucket")

    def children(self) -> dict[str, "StorePath"]:
        """Return by name what is in a folder, and nothing of one that is not there."""
        return {child.name: child for child in self._list(recursive=False)}

    def within(self) -> list["StorePath"]:
        """Return the objects in a folder and below; a name in between with . or _ hides them."""
        depth = len(self.parts)
        return [item for item in self._objects() if _is_shown(item.parts[depth:])]

    def matching(self) -> list["StorePath"]:
        """Return the objects that fit a pattern, and those in folders that fit it, as `glob`."""
        magic = [index for index, part in enumerate(self.parts) if re.search(r"[*?[]", part)]
        plain = min(magic, default=len(self.parts))
        return [
            item
            for item in StorePath(self.store, self.parts[:plain])._objects()
            if any(
                is_fit(item.parts[:cut], self.parts) and _is_shown(item.parts[cut:])
                for cut in range(plain, len(item.parts) + 1)
            )
        ]

    def _objects(self) -> list["StorePath"]:
        return [item for item in self._list(recursive=True) if item.is_file()]

    def _list(self, *, recursive: bool) -> list["StorePath"]:
        from deesc_model.arrow import fs  # noqa: PLC0415 - an extra

        filesystem, path = self._opened()
        asked = fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        with self.store.named(str(self)):
            infos = filesystem.get_file_info(asked)
        begin = len(path) + 1 if path else 0
        return [_described(self / info.path[begin:], info) for info in infos]

    def _opened(self) -> tuple[Any, str]:
        filesystem, base = self.store.opened
        return filesystem, "/".join(filter(None, (base, *self.parts)))


def is_uri(text: str) -> bool:
    """Return whether a text is a URI, not the path of a file."""
    return _URI.fullmatch(text) is not None


def store_path(uri: str) -> StorePath:
    """Return what a URI of a store stands for. The name of an object is taken as it stands there.

    Raises:
        InvalidInputError: The URI is of no known store, names no bucket, or has a password that
            is not written as in URIs.
    """
    found = _URI.fullmatch(uri)
    scheme, user, host, key, options = found.groups() if found else ("", "", "", "", "")
    if scheme not in SCHEMES:
        raise InvalidInputError(
            f"{scheme}:// is no store that deesc knows; there are"
            f" {', '.join(f'{known}://' for known in ('file', *SCHEMES))}"
        )
    if not host or (":" in host and user is None):
        raise InvalidInputError(
            f"{scheme}://… names no bucket; it is {scheme}://BUCKET/NAME, and in a password"
            " / is %2F, ? is %3F and @ is %40"
        )
    # Of Azure what stands before the host is a container.
    shown, _, password = (user or "").partition(":")
    secrets = [password, unquote(password)]
    if not scheme.startswith("abfs"):
        secrets += [user or "", shown, unquote(shown)]
        shown = ""
    for option in (options or "").split("&"):
        name, _, value = option.partition("=")
        if name not in _PLAIN_OPTIONS:
            secrets += [value, unquote(value)] if value else [name]
    if scheme.startswith("g") and "retry_limit_seconds=" not in (options or ""):
        options = f"{options}&{_GOOGLE_RETRIES}" if options else _GOOGLE_RETRIES
    store = Store(
        f"{scheme}://{f'{user}@' if user else ''}{host}/{f'?{options}' if options else ''}",
        f"{scheme}://{f'{shown}@' if shown else ''}{host}",
        tuple(secret for secret in secrets if secret),
    )
    return StorePath(store, tuple(filter(None, key.split("/"))))


def look(paths: Sequence[StorePath]) -> list[StorePath]:
    """Return paths with what is there now, in the order given.

    Raises:
        StoreError: A store does not answer.
    """
    by_store: dict[Store, list[int]] = {}
    for index, path in enumerate(paths):
        by_store.setdefault(path.store, []).append(index)
    seen = list(paths)
    for store, indices in by_store.items():
        filesystem = store.opened[0]
        with store.named(str(paths[indices[0]])):
            infos = filesystem.get_file_info([paths[index]._opened()[1] for index in indices])
        for index, info in zip(indices, infos, strict=True):
            seen[index] = _described(paths[index], info)
    return seen


def _described(path: StorePath, info: Any) -> StorePath:
    kind = info.type.name
    # In whole seconds: a list may tell parts of them where the object itself does not.
    changed_ns = (info.mtime_ns or 0) // 10**9 * 10**9
    found = None if kind == "NotFound" else FileStat(info.size or 0, changed_ns)
    return StorePath(path.store, path.parts, found, kind == "Directory")


def _is_shown(parts: Sequence[str]) -> bool:
    return not any(part.startswith((".", "_")) for part in parts)


def is_fit(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a pattern fits a name, each cut at ``/``, as in `glob`."""
    if not pattern:
        return not parts
    first, rest = pattern[0], pattern[1:]
    hidden = bool(parts) and parts[0].startswith(".") and not first.startswith(".")
    if first == "**":
        return is_fit(parts, rest) or (bool(parts) and not hidden and is_fit(parts[1:], pattern))
    return bool(parts) and not hidden and fnmatchcase(parts[0], first) and is_fit(parts[1:], rest)


class _Raw(io.RawIOBase):
    """An object that is read in large pieces, with errors that name it."""

    def __init__(self, path: StorePath, stream: Any) -> None:
        self._path = path
        self._stream = stream
        self._size: int = stream.size()
        self._at = 0
        self._ahead = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at, self._ahead = begin + offset, memoryview(b"")
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer).cast("B")
        if not self._ahead:
            with self._path.store.named(str(self._path)):
                wanted = max(len(into), READ_AHEAD)
                self._ahead = memoryview(self._stream.read_at(wanted, self._at))
        count = min(len(into), len(self._ahead))
        into[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
