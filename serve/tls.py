"""TLS and mutual TLS; certificates that change on disk are used by the next connection."""

import logging
import ssl
from pathlib import Path

import grpc

from serve.config import Settings
from serve.errors import ConfigError
from serve.logs import log


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return the credentials that the settings ask for; None is plain text.

    Raises:
        ConfigError: A file cannot be read, or certificate and key are no pair.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    files = CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.changed, require_client_authentication=files.client_ca is not None
    )


class CertificateFiles:
    """The PEM files of a server.

    Args:
        certificate: The server's chain.
        key: Its private key.
        client_ca: Signs the certificates that clients must show; None asks for none.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self.certificate, self.key, self.client_ca = certificate, key, client_ca
        self._used: tuple[bytes, bytes, bytes | None] | None = None
        self._refused = ""

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read the files and check that they fit each other.

        Raises:
            ConfigError: They do not, or one cannot be read.
        """
        try:
            found = self._contents()
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.certificate, self.key
            )
            if self.client_ca is not None:
                ssl.create_default_context(cafile=self.client_ca)
        except OSError as error:  # ssl's errors are OSErrors too
            raise ConfigError(f"the TLS files cannot be used: {error}") from None
        self._used = chain, key, client_ca = found
        return grpc.ssl_server_certificate_configuration([(key, chain)], client_ca)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration if the files changed; gRPC asks at every handshake.

        Files that cannot be used, as in the middle of a change, leave the old ones in use.
        """
        try:
            configuration = None if self._contents() == self._used else self.read()
        except (ConfigError, OSError) as error:  # names files and reasons, no contents
            if str(error) != self._refused:  # not at every handshake
                log(logging.ERROR, "new certificates refused", reason=str(error))
            self._refused = str(error)
            return None
        self._refused = ""
        if configuration is not None:
            log(logging.INFO, "certificates read again")
        return configuration

    def _contents(self) -> tuple[bytes, bytes, bytes | None]:
        client_ca = None if self.client_ca is None else self.client_ca.read_bytes()
        return self.certificate.read_bytes(), self.key.read_bytes(), client_ca
