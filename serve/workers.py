"""Several server processes that share one port, and the parent that looks after them.

Workers are programs of their own, never forks: neither gRPC nor onnxruntime survives a fork.
The kernel spreads connections over them (SO_REUSEPORT).
"""

import contextlib
import logging
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from serve import standard_input
from serve.config import Settings
from serve.errors import ConfigError
from serve.logs import log

PAUSE_S = 1.0
"""Time before a worker that ended by itself is started again."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker.

    Attributes:
        process: It.
        line: The other end of its standard input.
    """

    process: subprocess.Popen[bytes]
    line: socket.socket

    def has_served(self) -> bool:
        """Return whether one that has ended said before that it serves."""
        return bool(self.line.recv(1, socket.MSG_PEEK))


def run_workers(settings: Settings, arguments: Sequence[str]) -> int:
    """Run workers until SIGTERM, SIGINT or, if so set, the end of input; pass SIGHUP on.

    A worker that crashes or is killed is started again, as soon as the machine can. One of the
    first that cannot start ends the others too, for what is wrong is wrong for each. Workers follow
    their parent by standard input: were it killed, they would see the end of it, and drain.

    Args:
        settings: What `arguments` say.
        arguments: The command line, handed on to every worker.

    Returns:
        The exit code: 0 if told to stop and every worker answered all that it had accepted.

    Raises:
        ConfigError: The port is taken, or the machine can start no process.
    """
    workers: list[Worker] = []
    told: list[int] = []

    def tell(number: int, frame: FrameType | None = None) -> None:
        if number != signal.SIGHUP:
            told.append(number)
        for worker in workers:
            worker.process.send_signal(number)

    with _reserved_port(settings) as port, selectors.DefaultSelector() as stdin:
        if settings.stop_with_stdin:
            stdin.register(sys.stdin, selectors.EVENT_READ)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, tell)
        try:
            workers += [_begin(settings, arguments, port, n) for n in range(settings.workers)]
        except OSError as error:
            raise ConfigError(f"--workers {settings.workers}: cannot start them: {error}") from None
        first = list(workers)
        while not told and not (stdin.select(0.1) and standard_input.is_over()):
            for index, worker in enumerate(workers):
                code = worker.process.poll()
                if told or code is None:
                    continue
                if worker in first and code == 1 and not worker.has_served():
                    tell(signal.SIGTERM)
                    break
                log(logging.WARNING, "a worker ended", worker=index, code=code)
                time.sleep(PAUSE_S)
                try:
                    workers[index] = _begin(settings, arguments, port, index)
                except OSError as error:  # too little memory, say; the next round tries again
                    log(logging.ERROR, "a worker could not be started", reason=str(error))
                else:
                    worker.line.close()
        tell(signal.SIGTERM)  # one that began while the signal came has not heard of it
        codes = [worker.process.wait() for worker in workers]
        for worker in workers:
            worker.line.close()
        # One that was told before it listened to signals ended by the signal, as it should.
        return int(any(code not in (0, -signal.SIGTERM, -signal.SIGINT) for code in codes))


def _begin(settings: Settings, arguments: Sequence[str], port: int, index: int) -> Worker:
    metrics_port = settings.metrics_port and settings.metrics_port + index
    command = [sys.executable, "-m", "serve.server", *arguments, "--workers", "1", "--reuse-port"]
    command += ["--port", str(port), "--metrics-port", str(metrics_port), "--stop-with-stdin"]
    line, stdin = socket.socketpair()
    # Blocked from its first moment on, as this is inherited: it waits until the worker listens to
    # it, instead of ending one that starts. What comes here meanwhile waits as well.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    try:
        with stdin:
            return Worker(subprocess.Popen(command, stdin=stdin.fileno()), line)
    except OSError:
        line.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))


@contextlib.contextmanager
def _reserved_port(settings: Settings) -> Iterator[int]:
    """Hold the port without listening: any free one becomes the same for every worker."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(f"--port {settings.port}: {error.strerror}") from None
        yield holder.getsockname()[1]
