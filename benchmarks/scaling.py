"""How the default bundle scales: batch size, text length, threads, processes, memory.

    python -m benchmarks.scaling FOLDER THREADS

Each answer comes from a process that holds nothing else.
"""

import itertools
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.contenders import Settings, Text
from benchmarks.processes import Worker
from benchmarks.worker import peak_mb, private_output, serve, text_of
from deesc_model import EscalationClassifier, Turn
from deesc_model.network import available_cpus

Points = list[dict[str, float]]

WORD: Final = "parcel "
"""One token of the shipped tokenizer."""


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """What is measured.

    Attributes:
        batch_sizes: Most texts in a pass; those of the mix that are larger are cut.
        words: Words of a text; one that the network cannot read at once fills several windows.
        memory_texts: Texts in one call.
        memory_words: Words of one text.
        texts: Texts of the mix in a call that measures throughput.
        repeats: Calls of each kind; the median counts.
        seconds: How long processes run side by side.
    """

    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    words: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 248, 500, 1000)
    memory_texts: tuple[int, ...] = (1, 10, 100, 1000, 5000)
    memory_words: tuple[int, ...] = (10, 100, 1000, 10_000)
    texts: int = 256
    repeats: int = 3
    seconds: float = 2.0


class Scaling:
    """The questions of this module, about one classifier.

    Args:
        settings: Where the bundle is.
        threads: Threads of a pass.
    """

    def __init__(self, settings: Settings, threads: int) -> None:
        self._classifier = EscalationClassifier.from_pretrained(settings.default, threads=threads)
        self._turns: list[Turn] = []
        self._contexts: list[list[Turn]] = []

    def keep(self, texts: Sequence[dict[str, Any]]) -> int:
        """Keep the mix, and return how many texts it is."""
        found = [text_of(each) for each in texts]
        self._turns = [Turn(each.speaker, each.text) for each in found]
        self._contexts = [[Turn(*turn) for turn in each.context] for each in found]
        return len(found)

    def per_s(self, batch_size: int, repeats: int) -> float:
        """Return texts a second of the mix."""
        seconds = self._seconds(self._turns, self._contexts, batch_size, repeats)
        return len(self._turns) / seconds

    def one_ms(self, words: int, repeats: int) -> float:
        """Return milliseconds of one text of so many words."""
        return 1000 * self._seconds([_long(words)], [[]], 32, repeats)

    def per_s_for(self, seconds: float, callers: int = 1) -> float:
        """Return single texts a second, asked for by so many threads that share the classifier."""
        started = time.perf_counter()
        ends = started + seconds
        counts = [0] * callers

        def call(number: int) -> None:
            pairs = itertools.cycle(zip(self._turns, self._contexts, strict=True))
            while time.perf_counter() < ends:
                self._classifier.predict(*next(pairs))
                counts[number] += 1

        callers_ = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
        for each in callers_:
            each.start()
        for each in callers_:
            each.join()
        return sum(counts) / (time.perf_counter() - started)

    def memory_of_texts(self, count: int) -> float:
        """Return the most memory held so far, in MiB, after a call with so many texts."""
        turns = list(itertools.islice(itertools.cycle(self._turns), count))
        self._classifier.predict_batch(turns)
        return peak_mb()

    def memory_of_words(self, count: int) -> float:
        """Return the same after a text of so many words."""
        self._classifier.predict(_long(count))
        return peak_mb()

    def _seconds(
        self, turns: Sequence[Turn], contexts: Sequence[Sequence[Turn]], batch: int, repeats: int
    ) -> float:
        spent = []
        for _ in range(repeats + 1):  # the first call takes its memory
            before = time.perf_counter()
            self._classifier.predict_batch(turns, contexts, batch_size=batch)
            spent.append(time.perf_counter() - before)
        return statistics.median(spent[1:])


def _long(words: int) -> Turn:
    return Turn("customer", (WORD * words).strip())


def measure(settings: Settings, texts: Sequence[Text], plan: ScalingPlan) -> dict[str, Points]:
    """Return the points of each plot.

    Args:
        settings: What was set up.
        texts: The mix.
        plan: What is measured.
    """
    cores, repeats = available_cpus(), plan.repeats
    mix = [asdict(each) for each in texts[: plan.texts]]
    found: dict[str, Points] = {}

    def start(threads: int) -> Worker:
        worker = Worker(
            "benchmarks.scaling",
            str(settings.folder),
            str(threads),
            log=settings.folder / "scaling.log",
        )
        worker.ask("keep", mix)
        return worker

    with start(cores) as worker:
        found["batch"] = [
            {"batch_size": size, "per_s": worker.ask("per_s", size, repeats)}
            for size in plan.batch_sizes
        ]
        found["length"] = [
            {"words": words, "ms": worker.ask("one_ms", words, 3 * repeats)} for words in plan.words
        ]
    found["threads"] = []
    for threads in range(1, cores + 1):
        with start(threads) as worker:
            found["threads"].append(
                {
                    "threads": threads,
                    "per_s": worker.ask("per_s", 32, repeats),
                    "one_per_s": worker.ask("per_s_for", plan.seconds),
                }
            )
    found["processes"] = []
    for count in range(1, cores + 1):
        with ExitStack() as stack:
            workers = [stack.enter_context(start(1)) for _ in range(count)]
            rates = _side_by_side(workers, lambda each: each.ask("per_s_for", plan.seconds))
        with start(1) as shared:
            together = shared.ask("per_s_for", plan.seconds, count)
        found["processes"].append(
            {"count": count, "processes_per_s": sum(rates), "callers_per_s": together}
        )
    for name, sizes in (("texts", plan.memory_texts), ("words", plan.memory_words)):
        with start(cores) as worker:
            found[f"memory_{name}"] = [
                {name: size, "peak_mb": worker.ask(f"memory_of_{name}", size)} for size in sizes
            ]
    return {
        name: [{key: round(value, 3) for key, value in point.items()} for point in points]
        for name, points in found.items()
    }


def _side_by_side(workers: Sequence[Worker], question: Callable[[Worker], float]) -> list[float]:
    """Ask several workers at the same time."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return list(pool.map(question, workers))


def main() -> None:
    """Open the classifier, then answer questions."""
    answer = private_output()
    folder, threads = sys.argv[1:]
    scaling = Scaling(Settings.read(Path(folder)), int(threads))
    answer({})
    serve(scaling, answer)


if __name__ == "__main__":
    main()
