"""TLS and mutual TLS; certificates that change on disk are used within a second."""

import logging
import math
import ssl
import time
from pathlib import Path
from typing import Final

import grpc

from serve.config import Settings
from serve.errors import ConfigError
from serve.logs import log

AGAIN_S: Final = 60.0
"""Time before files that gRPC refused are tried again unchanged: it writes lines of its own."""

Contents = tuple[bytes, bytes, bytes | None]


def certificate_files(settings: Settings) -> "CertificateFiles | None":
    """Return the files that the settings name; None is plain text."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


class CertificateFiles:
    """The PEM files of a server.

    Args:
        certificate: The server's chain.
        key: Its private key.
        client_ca: Signs the certificates that clients must show; None asks for none.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self.certificate, self.key, self.client_ca = certificate, key, client_ca
        self._used: Contents | None = None
        self._next: grpc.ServerCertificateConfiguration | None = None
        self._refused = ""
        self._untaken: Contents | None = None
        self._again = math.inf

    def credentials(self) -> grpc.ServerCredentials:
        """Read the files; connections use from then on what `refresh` found last.

        Raises:
            ConfigError: A file cannot be read, or they cannot be used.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._checked(), self._changed, require_client_authentication=self.client_ca is not None
        )

    def refresh(self, *, told: bool = False) -> None:
        """Read the files again if they changed, for connections to come.

        Files that cannot be used, as in the middle of a change, leave the old ones in use.

        Args:
            told: Try, and tell of it, whatever was tried before.
        """
        try:
            found = self._contents()
            if found == self._used:
                self._refused = ""
                return
            if found == self._untaken and time.monotonic() < self._again and not told:
                return
            self._next = self._checked()
        except (ConfigError, OSError) as error:  # names files and reasons, no contents
            if told or str(error) != self._refused:  # not every second
                log(logging.ERROR, "new certificates refused", reason=str(error))
            self._refused = str(error)
            return
        self._refused = ""
        log(logging.INFO, "certificates read again")

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new; gRPC asks at every handshake, and holds up others meanwhile."""
        found, self._next = self._next, None
        return found

    def _checked(self) -> grpc.ServerCertificateConfiguration:
        """Read the files and check that they fit each other, and that gRPC takes them.

        Raises:
            ConfigError: They do not, it does not, or one cannot be read.
        """
        try:
            chain, key, client_ca = found = self._contents()
            # Without a password it would ask for that of an encrypted key, and wait.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.certificate, self.key, password=lambda: ""
            )
            if self.client_ca is not None:
                ssl.create_default_context(cafile=self.client_ca)
        except OSError as error:  # ssl's errors are OSErrors too
            raise ConfigError(
                f"the TLS files cannot be used: {error}; give a certificate with its own key,"
                " PEM, the key not encrypted"
            ) from None
        try:
            _try(chain, key, client_ca)
        except RuntimeError:  # it says no more than that an address could not be listened on
            self._untaken, self._again = found, time.monotonic() + AGAIN_S
            raise ConfigError(
                f"the TLS files cannot be used: gRPC does not take {self.certificate} and"
                f" {self.key}; use RSA, P-256 or P-384"
            ) from None
        self._used = found
        return grpc.ssl_server_certificate_configuration([(key, chain)], client_ca)

    def _contents(self) -> Contents:
        client_ca = None if self.client_ca is None else self.client_ca.read_bytes()
        return self.certificate.read_bytes(), self.key.read_bytes(), client_ca


def _try(chain: bytes, key: bytes, client_ca: bytes | None) -> None:
    """Use certificates for a moment: gRPC knows fewer kinds of keys than Python's OpenSSL.

    Never within gRPC's callbacks: with many handshakes at once, none would ever end.

    Raises:
        RuntimeError: gRPC does not take them.
    """
    server = grpc.server(None)
    credentials = grpc.ssl_server_credentials([(key, chain)], client_ca, client_ca is not None)
    server.add_secure_port("127.0.0.1:0", credentials)
    server.start()  # or its port would stay open
    server.stop(None).wait()
