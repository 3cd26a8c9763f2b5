"""Who may call, over what: real certificates, real handshakes."""

import datetime
import errno
import os
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deesc_model import ServiceError
from deesc_model.client import EscalationClient
from serve import tls
from serve.auth import Tokens
from serve.config import Settings, parse
from serve.errors import ConfigError
from serve.generated import open_inference_pb2, open_inference_pb2_grpc
from serve.logs import LOGGER

pytest.importorskip("cryptography", reason="makes the certificates; extra dev")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448


class Authority:
    """Signs certificates of this test."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)

    def _sign(self, name, key, *, authority=False):
        now = datetime.datetime.now(datetime.UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(names, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, key=None, password=None):
        """Return a new certificate and its key, PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        return (
            self._sign(name, key.public_key()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password)
                if password
                else serialization.NoEncryption(),
            ),
        )


@pytest.fixture(scope="module")
def authority():
    return Authority("first authority")


@pytest.fixture
def files(tmp_path, authority):
    """Settings that name a certificate and a key of the test's own."""
    settings = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    write(settings, authority)
    return settings


def write(settings, authority, **changes):
    certificate, key = authority.issue(**changes)
    settings["tls_certificate"].write_bytes(certificate)
    settings["tls_key"].write_bytes(key)


SHORT_S = 1.5
"""Where no connection is made: such a call is tried again until its time is up."""


def predict(port, credentials=None, token=None, timeout_s=20.0):
    """Label one text over a new connection; return the triggers."""
    options = {"credentials": credentials, "token": token, "timeout_s": timeout_s}
    with EscalationClient(f"localhost:{port}", **options) as client:
        return client.predict("late").triggers


def trusting(*authorities, certificate=None, key=None):
    roots = b"".join(authority.pem for authority in authorities)
    return grpc.ssl_channel_credentials(roots, key, certificate)


def test_tls_serves_those_who_trust_it_and_nobody_else(start, files, authority):
    port = start(**files).port
    assert predict(port, trusting(authority)) == ("delay",)
    for credentials in (None, trusting(Authority("stranger"))):
        with pytest.raises(ServiceError):
            predict(port, credentials, timeout_s=SHORT_S)


def test_mutual_tls_asks_for_a_certificate_that_its_authority_signed(
    start, files, authority, tmp_path
):
    (tmp_path / "clients.pem").write_bytes(authority.pem)
    port = start(**files, tls_client_ca=tmp_path / "clients.pem").port
    certificate, key = authority.issue()
    assert predict(port, trusting(authority, certificate=certificate, key=key)) == ("delay",)
    with pytest.raises(ServiceError):
        predict(port, trusting(authority), timeout_s=SHORT_S)
    certificate, key = Authority("stranger").issue()
    credentials = trusting(authority, certificate=certificate, key=key)
    with pytest.raises(ServiceError):
        predict(port, credentials, timeout_s=SHORT_S)


def told(caplog, event, times=1):
    """Return once the log has an event so often."""
    for _ in range(2000):
        if refusals(caplog, event) >= times:
            return
        time.sleep(0.01)
    raise AssertionError(f"{event!r} was not logged {times} times: {caplog.messages}")


def test_certificates_change_without_a_restart_or_a_broken_connection(
    start, files, authority, caplog
):
    caplog.set_level("INFO", LOGGER.name)
    port = start(**files).port
    second = Authority("second authority")
    with EscalationClient(f"localhost:{port}", credentials=trusting(authority)) as before:
        assert before.predict("late").triggers == ("delay",)
        files["tls_certificate"].write_text("not a certificate")  # in the middle of the change
        told(caplog, "new certificates refused")
        assert predict(port, trusting(authority)) == ("delay",)
        write(files, second)
        told(caplog, "certificates read again")
        assert predict(port, trusting(second)) == ("delay",)
        with pytest.raises(ServiceError):
            predict(port, trusting(authority), timeout_s=SHORT_S)
        assert before.predict("late").triggers == ("delay",)


def test_the_authority_of_clients_changes_too(start, loop, files, authority, tmp_path):
    second, path = Authority("second authority"), tmp_path / "clients.pem"
    path.write_bytes(authority.pem)
    service = start(**files, tls_client_ca=path)
    port = service.port
    certificate, key = second.issue()
    credentials = trusting(authority, certificate=certificate, key=key)
    with pytest.raises(ServiceError):
        predict(port, credentials, timeout_s=SHORT_S)
    path.write_bytes(authority.pem + second.pem)
    loop.run(service.reload())
    assert predict(port, trusting(authority, certificate=certificate, key=key)) == ("delay",)


def test_a_token_is_asked_for_and_can_be_changed(start, loop, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("\ufefffirst-token\n  # of team A\n", encoding="utf-8")
    service = start(token_file=path)
    assert predict(service.port, token="first-token") == ("delay",)
    for token in (None, "", "first", "first-token2", "# of team A"):
        with pytest.raises(ServiceError, match="UNAUTHENTICATED: send an accepted token"):
            predict(service.port, token=token)
    path.write_text("first-token\nsecond-token\n")
    loop.run(service.reload())
    assert predict(service.port, token="first-token") == ("delay",)
    path.write_text("")  # refused: the tokens before stay
    loop.run(service.reload())
    assert predict(service.port, token="second-token") == ("delay",)
    path.write_text("second-token\n")
    loop.run(service.reload())
    assert predict(service.port, token="second-token") == ("delay",)
    with pytest.raises(ServiceError, match="UNAUTHENTICATED"):
        predict(service.port, token="first-token")


def rewrite(path, text):
    """Write a file of the same length so that it does not look changed."""
    before = path.stat()
    assert before.st_size == len(text)
    path.write_bytes(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def refusals(caplog, event):
    return [record.getMessage() for record in caplog.records].count(event)


def test_tokens_that_could_not_be_read_once_are_read_later(start, tmp_path, caplog):
    path = tmp_path / "tokens"
    path.write_text("first\n")
    service = start(token_file=path)
    path.write_bytes(b"\xff" * 7)
    time.sleep(3.5)  # it is looked at every second
    assert refusals(caplog, "new tokens refused") == 1
    assert predict(service.port, token="first") == ("delay",)
    rewrite(path, b"second\n")
    for _ in range(50):
        try:
            assert predict(service.port, token="second") == ("delay",)
            break
        except ServiceError:
            time.sleep(0.1)
    else:
        raise AssertionError("the new token was never accepted")
    assert refusals(caplog, "new tokens refused") == 1


def test_tokens_that_cannot_be_looked_at_are_read_all_the_same(tmp_path, monkeypatch):
    path = tmp_path / "tokens"
    path.write_text("first\n")
    tokens = Tokens(path)
    path.write_text("second\n")
    # What Python 3.11 raises of a folder that may not be entered; root may enter any.
    monkeypatch.setattr(Path, "stat", Mock(side_effect=PermissionError(errno.EACCES, "no")))
    assert tokens.refresh()
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=PermissionError(errno.EACCES, "no")))
    with pytest.raises(ConfigError, match="cannot be read"):
        tokens.refresh(force=True)
    tokens.check("/deesc.v1.EscalationService/Predict", [("authorization", "Bearer second")])


def test_a_reload_reads_tokens_that_do_not_look_changed(start, loop, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("first\n")
    service = start(token_file=path)
    rewrite(path, b"other\n")
    loop.run(service.reload())
    assert predict(service.port, token="other") == ("delay",)
    with pytest.raises(ServiceError, match="UNAUTHENTICATED"):
        predict(service.port, token="first")


def test_tokens_of_a_pipe_are_read_once(start, loop, tmp_path):
    path = tmp_path / "tokens"
    os.mkfifo(path)
    threading.Thread(target=path.write_text, args=("first\n",), daemon=True).start()
    service = start(token_file=path)
    loop.run(service.reload(), timeout_s=20)
    time.sleep(1.5)  # it is looked at every second
    assert predict(service.port, token="first") == ("delay",)


def test_certificates_that_could_not_be_loaded_once_are_loaded_later(
    start, files, authority, monkeypatch, caplog
):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    caplog.set_level("INFO", LOGGER.name)
    port = start(**files).port
    second = Authority("second authority")
    with monkeypatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
        write(files, second)
        time.sleep(3.5)  # they are looked at every second
        assert predict(port, trusting(authority)) == ("delay",)
    assert refusals(caplog, "new certificates refused") == 1
    told(caplog, "certificates read again")
    assert predict(port, trusting(second)) == ("delay",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": b"secret"}, "the key not encrypted"),  # or the server would ask for it
        # What Python's OpenSSL takes, and gRPC does not:
        ({"key": ec.generate_private_key(ec.BrainpoolP256R1())}, "gRPC does not take"),
        ({"key": ed448.Ed448PrivateKey.generate()}, "gRPC does not take"),
    ],
)
def test_certificates_that_cannot_be_served_leave_the_old_ones_in_use(
    start, loop, files, authority, caplog, change, said
):
    caplog.set_level("INFO", LOGGER.name)
    service = start(**files)
    write(files, authority, **change)
    loop.run(service.reload())
    assert predict(service.port, trusting(authority)) == ("delay",)
    (record,) = [each for each in caplog.records if "certificates" in each.getMessage()]
    assert record.getMessage() == "new certificates refused"
    assert said in record.fields["reason"]
    with pytest.raises(ConfigError, match=f"TLS files cannot be used: .*{said}"):
        start(**files)
    second = Authority("second authority")
    write(files, second)
    told(caplog, "certificates read again")
    assert predict(service.port, trusting(second)) == ("delay",)


def test_what_grpc_refused_is_tried_again_later(start, files, authority, monkeypatch, caplog):
    caplog.set_level("INFO", LOGGER.name)
    monkeypatch.setattr(tls, "AGAIN_S", 3.0)
    port = start(**files).port
    tried = Mock(side_effect=RuntimeError("Failed to bind"))
    with monkeypatch.context() as patch:
        patch.setattr(tls, "_try", tried)
        second = Authority("second authority")
        write(files, second)
        told(caplog, "new certificates refused")
        time.sleep(2.2)  # they are looked at every second
        assert tried.call_count <= 2  # twice if between certificate and key
    told(caplog, "certificates read again")
    assert predict(port, trusting(second)) == ("delay",)


def test_many_handshakes_at_a_change_are_all_served(start, files, authority):
    port = start(**files).port
    ends = time.monotonic() + 3
    with ThreadPoolExecutor(8) as threads:
        while time.monotonic() < ends:
            write(files, authority)
            calls = [threads.submit(predict, port, trusting(authority)) for _ in range(8)]
            assert [call.result(30) for call in calls] == [("delay",)] * 8


def test_health_needs_no_token_but_everything_else_does(start, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("a-token\n")
    with grpc.insecure_channel(f"127.0.0.1:{start(token_file=path).port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        inference = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        for call in (
            lambda: inference.ServerLive(open_inference_pb2.ServerLiveRequest()),
            lambda: next(reflection.ServerReflectionInfo(iter([listing]))),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "deesc.example"])  # noqa: S104
def test_a_public_address_needs_tls_and_a_token(host, files, tmp_path):
    token = {"token_file": tmp_path / "tokens"}
    for given, said in (({}, "--tls-certificate and --token-file"), (token, "--tls-certificate")):
        with pytest.raises(ConfigError, match=f"so {said} must be given; --insecure"):
            Settings(host=host, **given)
    with pytest.raises(ConfigError, match="so --token-file must be given"):
        Settings(host=host, **files)
    assert Settings(host=host, **files, **token).host == host
    assert Settings(host=host, insecure=True).insecure


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_this_machine_needs_neither(host):
    assert Settings(host=host).tls_key is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tls_certificate": "x"}, "come together"),
        ({"tls_client_ca": "x"}, "needs --tls-certificate"),
        ({"max_batch": 0}, "--max-batch must be from 1 to 2,147,483,647, not 0"),
        ({"port": -1}, "--port must be from 0 to 65,535, not -1"),
        ({"port": 70_000}, "--port must be from 0 to 65,535, not 70000"),
        ({"metrics_port": 65_530, "workers": 8}, "--metrics-port must leave a port"),
        ({"drain_s": float("nan")}, "--drain-s must be from 0 to 2,147,483, not nan"),
        ({"drain_s": float("inf")}, "--drain-s must be from 0 to 2,147,483, not inf"),
        ({"keepalive_s": 2_592_000}, "--keepalive-s must be from 1 to 2,147,483"),
        ({"max_characters": 100_001}, "--max-characters must be from 1 to 100,000"),
        ({"max_message_bytes": 2**31}, "--max-message-bytes must be from 1,024 to 2,147,483,647"),
        ({"max_connection_age_s": 31_536_000}, "--max-connection-age-s must be from 0 to"),
        ({"log_level": "loud"}, "--log-level"),
    ],
)
def test_impossible_settings_are_refused_by_flag(changes, said):
    with pytest.raises(ConfigError, match=said):
        Settings(**changes)


def test_the_largest_settings_are_ones_that_a_server_starts_with(start):
    numbers = {
        each.name: type(each.default)(each.metadata["most"])
        for each in fields(Settings)
        if type(each.default) in (int, float)
        and each.name not in ("port", "metrics_port", "workers")
    }
    assert predict(start(**{**numbers, "drain_s": 2.0}).port) == ("delay",)


def test_wrong_usage_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--host", "0.0.0.0"])  # noqa: S104
    assert caught.value.code == 2
    assert "--insecure" in capsys.readouterr().err


def test_files_that_cannot_be_used_are_named_at_the_start(start, files, authority, tmp_path):
    other_key = authority.issue()[1]
    files["tls_key"].write_bytes(other_key)
    with pytest.raises(ConfigError, match=r"TLS files cannot be used: .*MISMATCH"):
        start(**files)
    with pytest.raises(ConfigError, match=r"tokens cannot be read: .*No such file"):
        start(token_file=tmp_path / "tokens")
    (tmp_path / "tokens").write_text(f"{os.linesep}# nothing{os.linesep}")
    with pytest.raises(ConfigError, match="holds no token"):
        start(token_file=tmp_path / "tokens")
