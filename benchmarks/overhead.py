"""What this package adds to a tokenizer and `session.run`: measured call by call in one process.

    python -m benchmarks.overhead FOLDER BUNDLE

The other side reads the same texts with the same session, and lists of them in the same forward
passes, so the difference is Python: the rule for context and long texts, cutting a list into
passes, calibration, and building predictions. Both are given texts that were checked before.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.contenders import BATCH, Deesc, Plain, Settings
from benchmarks.worker import private_output, serve, text_of
from deesc_model.network import OUTPUT_NAMES, _passes

ONE_BAR_MS: Final = 0.15
"""Most that `predict` may add to a text."""

BATCH_BAR_PERCENT: Final = 8.0
"""Most that `predict_batch` may add."""


class Overhead:
    """Both sides over one session.

    Args:
        settings: Where the bundles are.
        bundle: Path of the one that is measured.
    """

    def __init__(self, settings: Settings, bundle: Path) -> None:
        self._ours = Deesc(bundle)
        # The very session: two of them would differ by their memory and threads.
        session = self._ours.classifier._network._session
        # All outputs, as ours takes them; Plain reads the first.
        self._plain = Plain(settings, bundle, lambda arrays: session.run(OUTPUT_NAMES, arrays)[0])
        self._inputs: tuple[list[Any], list[Any]] = ([], [])
        self._passes: list[list[Any]] = []

    def keep(self, texts: Sequence[dict[str, Any]]) -> int:
        """Prepare texts for both sides, and return how many: those that fit into one window."""
        found = [text_of(each) for each in texts]
        turns, windows = self._ours.prepare(found), []
        for pair in turns:
            windows.append(self._ours.classifier._encoder.encode(*pair))
        whole = [index for index, each in enumerate(windows) if len(each) == 1]
        plain = self._plain.prepare([found[index] for index in whole])
        self._inputs = ([turns[index] for index in whole], plain)
        lengths = [len(windows[index][0].ids) for index in whole]
        order = sorted(range(len(whole)), key=lengths.__getitem__)
        self._passes = [[plain[i] for i in each] for each in _passes(order, lengths, BATCH)]
        return len(whole)

    def one_ms(self, calls: int) -> list[tuple[float, float]]:
        """Return milliseconds of single calls, ours and plain, which take turns at going first."""
        pairs = itertools.islice(itertools.cycle(zip(*self._inputs, strict=True)), calls)
        return [
            self._pair(partial(self._ours, [ours]), partial(self._plain, [plain]), first=number % 2)
            for number, (ours, plain) in enumerate(pairs)
        ]

    def batch_ms(self, calls: int) -> list[tuple[float, float]]:
        """Return milliseconds of calls with all texts, ours and plain."""
        ours = partial(self._ours, self._inputs[0])
        return [self._pair(ours, self._plain_passes, first=number % 2) for number in range(calls)]

    def _plain_passes(self) -> None:
        for each in self._passes:
            self._plain.one_pass(each)

    def _pair(
        self, ours: Callable[[], object], plain: Callable[[], object], first: int
    ) -> tuple[float, float]:
        sides, spent = (ours, plain), [0.0, 0.0]
        for side in (first, 1 - first):
            before = time.perf_counter()
            sides[side]()
            spent[side] = (time.perf_counter() - before) * 1000
        return spent[0], spent[1]

    def stages_us(self, calls: int) -> dict[str, float]:
        """Return median microseconds a text of each step of `predict`, without the network."""
        classifier = self._ours.classifier
        encoder = classifier._encoder
        spent: dict[str, list[float]] = {}

        def timed(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
            before = time.perf_counter()
            found = function(*arguments)
            spent.setdefault(name, []).append((time.perf_counter() - before) * 1e6)
            return found

        for index in range(calls):
            turn, context = self._inputs[0][index % len(self._inputs[0])]
            windows = timed("encode", encoder.encode, turn, context)
            timed("collate", encoder.collate, windows)
            timed("predictions", classifier._postprocessor, classifier._network.logits(windows))
        return {name: round(statistics.median(each), 1) for name, each in spent.items()}


def summary(one: Sequence[Sequence[float]], batch: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return medians, and whether they are within the bars.

    Args:
        one: Milliseconds of single calls, ours and plain.
        batch: The same of batches.
    """
    added = statistics.median(ours - plain for ours, plain in one)
    percent = 100 * (statistics.median(ours / plain for ours, plain in batch) - 1)
    return {
        "predict_ms": round(statistics.median(ours for ours, _ in one), 3),
        "plain_ms": round(statistics.median(plain for _, plain in one), 3),
        "added_ms": round(added, 3),
        "added_ms_bar": ONE_BAR_MS,
        "batch_size": BATCH,
        "batch_added_percent": round(percent, 1),
        "batch_added_percent_bar": BATCH_BAR_PERCENT,
        "within_bars": added <= ONE_BAR_MS and percent <= BATCH_BAR_PERCENT,
    }


def main() -> None:
    """Open both sides, then answer questions."""
    answer = private_output()
    settings = Settings.read(Path(sys.argv[1]))
    overhead = Overhead(settings, settings.bundle(sys.argv[2]))
    answer({})
    serve(overhead, answer)


if __name__ == "__main__":
    main()
