"""Label windows in order, in this process or in several: the seam for other ways to do it.

A `Labeller` takes windows and gives each back with its predictions, in the order given. It may
take windows ahead, a bounded number of them. What else it is given is called at the first window.
"""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue

from deesc_model.archive.windows import Window
from deesc_model.classifier import EscalationClassifier
from deesc_model.errors import DeescError
from deesc_model.types import Prediction, Turn

Labelled = Iterator[tuple[Window, Sequence[Prediction]]]
Labeller = Callable[[Iterable[Window], Callable[[], None]], Labelled]


def in_this_process(classifier: EscalationClassifier, batch_size: int) -> Labeller:
    """Return a labeller that holds one window at a time.

    Args:
        classifier: The model.
        batch_size: Texts in one forward pass, 1 or more.
    """

    def label(windows: Iterable[Window], begin: Callable[[], None]) -> Labelled:
        for window in windows:
            begin()
            turns, contexts = asked(window)
            yield window, classifier.predict_batch(turns, contexts, batch_size=batch_size)

    return label


@contextlib.contextmanager
def in_processes(bundle: Path, processes: int, threads: int, batch_size: int) -> Iterator[Labeller]:
    """Start processes with a model each; give a labeller that takes two windows for each ahead.

    Args:
        bundle: The bundle's folder.
        processes: How many, 1 or more.
        threads: Threads of one forward pass in each, 1 or more.
        batch_size: Texts in one forward pass, 1 or more.

    Raises:
        DeescError: A process ended by itself, or cannot open the bundle; the message says how.
    """
    workers = [_start(bundle, threads, batch_size) for _ in range(processes)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def ask(window: Window) -> list[Prediction]:
        worker = idle.get()
        try:
            return worker.ask(window)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(processes) as pool:  # its threads only wait

        def label(windows: Iterable[Window], begin: Callable[[], None]) -> Labelled:
            def submit(window: Window) -> Future[list[Prediction]]:
                begin()
                return pool.submit(ask, window)

            return _in_order(windows, submit, 2 * processes)

        try:
            yield label
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.process.terminate()
                worker.process.join()


@dataclass(frozen=True, slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection

    def ask(self, window: Window) -> list[Prediction]:
        try:
            self.connection.send(asked(window))
            answer: list[Prediction] | DeescError = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise DeescError(
                f"a labelling process {how}; if memory ran out, take fewer --processes or a"
                " smaller --batch-size"
            ) from None
        if isinstance(answer, DeescError):
            raise answer
        return answer


def asked(window: Window) -> tuple[list[Turn], list[tuple[Turn, ...]]]:
    """Return the texts of a window and what was said before each."""
    records = window.records
    return [record.turn for record in records], [record.context for record in records]


def _start(bundle: Path, threads: int, batch_size: int) -> _Worker:
    # Not forked: onnxruntime's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (there, bundle, threads, batch_size)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    there.close()  # so that reading ends when the process does
    return _Worker(process, here)


def _serve(connection: Connection, bundle: Path, threads: int, batch_size: int) -> None:
    """Label what comes in until the other end closes, be it by a kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    opened: EscalationClassifier | DeescError
    try:
        opened = EscalationClassifier.from_pretrained(bundle, threads=threads)
    except DeescError as error:  # whoever asks is told
        opened = error
    with contextlib.suppress(EOFError, OSError):
        while True:
            turns, contexts = connection.recv()
            if isinstance(opened, DeescError):
                connection.send(opened)
            else:
                connection.send(opened.predict_batch(turns, contexts, batch_size=batch_size))


def _in_order(
    windows: Iterable[Window],
    submit: Callable[[Window], Future[list[Prediction]]],
    ahead: int,
) -> Labelled:
    """Keep so many windows submitted; yield them in order.

    What fails in reading ahead fails here when its turn comes, so that the rows before it are
    done whatever the number of processes.
    """
    waiting: deque[tuple[Window, Future[list[Prediction]]]] = deque()
    failure: Exception | None = None
    source = iter(windows)
    while True:
        while failure is None and len(waiting) < ahead:
            try:
                window = next(source)
            except StopIteration:
                break
            except Exception as error:  # raised again below
                failure = error
                break
            waiting.append((window, submit(window)))
        if not waiting:
            break
        window, answer = waiting.popleft()
        yield window, answer.result()
    if failure is not None:
        raise failure
