"""What the server can be told on the command line; each field of `Settings` is a flag."""

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from deesc_model.types import MAX_CHARACTERS
from serve.errors import ConfigError

MOST: Final = 2**31 - 1
"""The largest number that gRPC can be told."""

LONGEST_S: Final = MOST // 1000
"""The longest time, some 24 days: gRPC counts milliseconds."""


def _flag(
    default: Any,
    text: str,
    *,
    least: float = 0,
    most: float = MOST,
    kind: type | None = None,
) -> Any:
    """Declare a setting: its default, its help, the numbers allowed and its type."""
    return field(
        default=default,
        metadata={"help": text, "least": least, "most": most, "kind": kind or type(default)},
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; times end in ``_s`` and are seconds.

    Raises:
        ConfigError: A value is out of range, or values do not fit each other.
    """

    host: str = _flag("127.0.0.1", "address to listen on")
    port: int = _flag(50051, "port to listen on; 0 takes any free one", most=65_535)
    model: Path | None = _flag(None, "folder of the bundle; default: the shipped one", kind=Path)
    threads: int | None = _flag(
        None, "threads of one forward pass; default: the CPUs allowed", least=1, most=1024, kind=int
    )
    workers: int = _flag(1, "processes that share the port", least=1, most=1024)
    reuse_port: bool = _flag(False, "let another server share the port, to hand over without a gap")

    max_batch: int = _flag(16, "utterances in one forward pass; 1 turns batching off", least=1)
    max_load: int = _flag(
        5_000,
        "characters that wait or are computed, 100 more for each utterance and one for 32 of its"
        " context, from which on others are refused at once; calls of more than one batch take"
        " turns beside them",
        least=1,
    )
    max_characters: int = _flag(10_000, "characters of one text", least=1, most=MAX_CHARACTERS)
    max_turns: int = _flag(200, "turns of one conversation or context", least=1)
    max_requests: int = _flag(500, "utterances in one PredictBatch", least=1)
    max_message_bytes: int = _flag(4 * 2**20, "bytes of one message", least=1024)
    max_streams: int = _flag(256, "calls at a time on one connection", least=1)
    max_connection_age_s: int = _flag(
        3600, "age from which a connection is renewed; 0 keeps it", most=LONGEST_S
    )
    connection_grace_s: float = _flag(
        3600.0, "longest that calls go on over a connection of that age", most=LONGEST_S
    )
    keepalive_s: int = _flag(
        60, "quiet time after which a connection is probed", least=1, most=LONGEST_S
    )

    tls_certificate: Path | None = _flag(None, "PEM file with the server's chain", kind=Path)
    tls_key: Path | None = _flag(None, "PEM file with its private key", kind=Path)
    tls_client_ca: Path | None = _flag(
        None, "PEM file; clients must show a certificate that it signed", kind=Path
    )
    token_file: Path | None = _flag(
        None, "file of accepted bearer tokens, one a line; several while they change", kind=Path
    )
    insecure: bool = _flag(False, "listen on a public address without TLS or without a token")

    metrics_host: str = _flag("127.0.0.1", "address of the Prometheus metrics")
    metrics_port: int = _flag(
        9464, "their port, counted up by worker; 0 takes any free one", most=65_535
    )
    log_level: str = _flag("info", "debug, info, warning or error")
    watch_s: float = _flag(
        0.0, "seconds between looks for a new bundle; 0 waits for SIGHUP", most=LONGEST_S
    )
    stop_with_stdin: bool = _flag(False, "stop too when standard input ends, as workers do")
    drain_s: float = _flag(
        20.0, "longest wait for accepted calls when told to stop", most=LONGEST_S
    )

    def __post_init__(self) -> None:
        """Check every value, so that settings in hand are good ones."""
        for each in fields(self):
            value = getattr(self, each.name)
            least, most = each.metadata["least"], each.metadata["most"]
            if isinstance(value, int | float) and not least <= value <= most:
                raise ConfigError(
                    f"{flag_name(each.name)} must be from {least:,} to {most:,}, not {value}"
                )
        if self.metrics_port and self.metrics_port + self.workers - 1 > 65_535:
            raise ConfigError("--metrics-port must leave a port below 65,536 for each worker")
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError("--log-level must be debug, info, warning or error")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("--tls-certificate and --tls-key come together; give both")
        if self.tls_client_ca is not None and self.tls_key is None:
            raise ConfigError("--tls-client-ca needs --tls-certificate and --tls-key")
        self._refuse_open_doors()

    def _refuse_open_doors(self) -> None:
        if self.insecure or is_loopback(self.host):
            return
        lacking = [
            flag
            for flag, value in (
                ("--tls-certificate", self.tls_key),
                ("--token-file", self.token_file),
            )
            if value is None
        ]
        if lacking:
            raise ConfigError(
                f"{self.host} can be reached from other machines, so {' and '.join(lacking)} must"
                " be given; --insecure listens without, where something else protects the port"
            )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def flag_name(name: str) -> str:
    """Return the flag of a field of `Settings`."""
    return "--" + name.replace("_", "-")


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; wrong usage ends the process with exit code 2."""
    parser = argparse.ArgumentParser(
        prog="python -m serve.server", description="Serve the escalation classifier over gRPC."
    )
    for each in fields(Settings):
        kind, shown = each.metadata["kind"], each.metadata["help"]
        if kind is bool:
            parser.add_argument(flag_name(each.name), action="store_true", help=shown)
            continue
        if each.default is not None:
            shown += f" (default: {each.default})"
        parser.add_argument(flag_name(each.name), type=kind, default=each.default, help=shown)
    chosen = vars(parser.parse_args(arguments))
    try:
        return Settings(**chosen)
    except ConfigError as error:
        parser.error(str(error))
