"""Bearer tokens from a file."""

import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from serve.errors import ConfigError, UnauthenticatedError

EXEMPT: Final = "/grpc.health.v1.Health/"
"""Orchestrators ask for health without a token; the answer tells nothing."""

Metadata = Sequence[tuple[str, str | bytes]]


class Tokens:
    """The tokens that a file lists, one a line; lines that begin with # are comments.

    The file is looked at again when it changes, so a new token can be added, clients moved
    over, and the old one removed. A file that became unusable changes nothing.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: It cannot be read or holds no token.
        """
        self._path = path
        self._seen = self._signature()
        self._digests = self._read()

    def refresh(self, *, force: bool = False) -> bool:
        """Read the file again if it changed since it was read; return whether it was.

        Args:
            force: Read it whether it changed or not.

        Raises:
            ConfigError: It cannot be read or holds no token; the tokens before stay.
        """
        with contextlib.suppress(OSError):  # whatever it is, reading says it
            if self._path.is_fifo():  # it has said all, and who reads would wait for more
                return False
        signature = self._signature()
        if not force and signature == self._seen:
            return False
        self._digests = self._read()
        self._seen = signature
        return True

    def check(self, method: str, metadata: Metadata) -> None:
        """Let a call pass that brings a token, or that needs none.

        Raises:
            UnauthenticatedError: There is no accepted token.
        """
        if method.startswith(EXEMPT):
            return
        value = next((value for key, value in metadata if key == "authorization"), "")
        scheme, _, token = str(value).partition(" ")
        digest = _digest(token.strip())
        # Digests have one length, and every token is compared, so the time tells nothing.
        accepted = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(accepted):
            raise UnauthenticatedError(
                "send an accepted token as metadata: authorization: Bearer TOKEN"
            )

    def _read(self) -> list[bytes]:
        try:
            text = self._path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--token-file {self._path} cannot be read: {error}") from None
        lines = map(str.strip, text.splitlines())
        tokens = [line for line in lines if line and not line.startswith("#")]
        if not tokens:
            raise ConfigError(f"--token-file {self._path} holds no token")
        return [_digest(token) for token in tokens]

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
