"""One contender in a process of its own: it answers a text, then what it is asked over a pipe.

    python -m benchmarks.worker FOLDER NAME TEXT

Questions and answers are lines of JSON on standard input and output. The first line says that
the first text is answered; whoever started the process knows how long that took.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, Contender, Settings, Text, Unusable


def peak_mb() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def text_of(fields: dict[str, Any]) -> Text:
    """Return a text from its JSON."""
    context = tuple((speaker, said) for speaker, said in fields.pop("context"))
    return Text(**fields, context=context)


class Work:
    """The questions that a worker answers.

    Args:
        contender: Is opened and warm.
    """

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._inputs: dict[str, list[Any]] = {}

    def keep(self, name: str, texts: Sequence[dict[str, Any]]) -> int:
        """Prepare texts for later questions, and return how many."""
        self._inputs[name] = self._contender.prepare([text_of(each) for each in texts])
        return len(texts)

    def one_by_one(self, name: str, start: int, count: int, seconds: float) -> list[float]:
        """Return the milliseconds of single calls; stops early after so many seconds."""
        spent: list[float] = []
        for each in self._stretch(name, start, count):
            before = time.perf_counter()
            self._contender([each])
            spent.append((time.perf_counter() - before) * 1000)
            if sum(spent) > seconds * 1000 and len(spent) >= 3:
                break
        return spent

    def together(self, name: str, start: int, count: int) -> float:
        """Return the seconds of one call with many texts."""
        inputs = self._stretch(name, start, count)
        before = time.perf_counter()
        self._contender(inputs)
        return time.perf_counter() - before

    def levels(self, name: str) -> list[int]:
        """Return the level of every text."""
        return self._contender(self._inputs[name])

    def memory(self) -> float:
        """Return the most memory so far, in MiB."""
        return peak_mb()

    def _stretch(self, name: str, start: int, count: int) -> list[Any]:
        """Return a stretch of texts that goes round."""
        inputs = self._inputs[name]
        return [inputs[(start + index) % len(inputs)] for index in range(count)]


def serve(work: object, answer: Callable[[Any], None]) -> None:
    """Answer questions, ``["method", arguments…]``, until standard input ends."""
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        answer(getattr(work, name)(*arguments))


def private_output() -> Callable[[Any], None]:
    """Return what writes an answer; what libraries print from now on goes to standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(found: Any) -> None:
        stream.write(json.dumps(found) + "\n")
        stream.flush()

    return answer


def main() -> None:
    """Open the contender, answer the first text, then questions."""
    answer = private_output()
    folder, name, text = sys.argv[1:]
    try:
        contender = CONTENDERS[name].open(Settings.read(Path(folder)))
    except Unusable as error:
        answer({"unusable": str(error)})
        return
    contender(contender.prepare([text_of(json.loads(text))]))
    answer({})
    serve(Work(contender), answer)


if __name__ == "__main__":
    main()
