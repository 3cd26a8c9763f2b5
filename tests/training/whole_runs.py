"""What tests of whole runs need: a real MLflow server, a configuration file."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

from training.tracking import METRICS_FILE


@contextmanager
def mlflow_server(folder: Path):
    """A real MLflow server on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    try:
        _wait_for(process, port, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(process: subprocess.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + 300
    while True:
        # Also if another took the port: its answers are not the server's.
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, f"no answer on port {port} in 5 minutes"
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1),
        ):
            return
        time.sleep(0.5)


def described(client, run_id, folder):
    """What the run's own table says that each of its figures means."""
    table = json.loads(Path(client.download_artifacts(run_id, METRICS_FILE, folder)).read_text())
    assert table["columns"][:2] == ["metric", "in plain words"]
    return {row[0]: row[1] for row in table["data"]}


def config_file(config, path: Path) -> Path:
    lines = (f"{key} = {json.dumps(value)}" for key, value in dataclasses.asdict(config).items())
    path.write_text("\n".join(lines))
    return path
