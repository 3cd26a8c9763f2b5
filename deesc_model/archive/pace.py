"""How fast work goes and how long the rest will take, in words."""

import time
from collections.abc import Callable


class Pace:
    """Counts what is done and what is left.

    Args:
        unit: What is counted, for example ``"rows"``.
        clock: Seconds that only grow.
    """

    def __init__(self, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self._begun: float | None = None
        self._count = 0
        self._work = 0.0
        self._left: float | None = None

    def begin(self) -> None:
        """Start the clock, once: what was before, as reading what is done already, is left out."""
        if self._begun is None:
            self._begun = self._clock()

    def advance(self, count: int, work: float = 0, left: float | None = None) -> None:
        """Count some as done.

        Args:
            count: How many.
            work: How much of the whole they were, in any unit.
            left: How much is left, in the same unit; None if nobody knows.
        """
        self.begin()
        self._count += count
        self._work += work
        self._left = left

    @property
    def share(self) -> float | None:
        """Share of the work that is done, 0 to 1; None if nobody knows."""
        if self._left is None or not self._work:
            return None
        return self._work / (self._work + self._left)

    def __str__(self) -> str:
        """Return for example ``1,024 rows, 200.5 rows/s, 2 h 5 min left``."""
        seconds = 0.0 if self._begun is None else self._clock() - self._begun
        words = [f"{self._count:,} {self._unit}"]
        if seconds > 0 and self._count:
            words.append(f"{self._count / seconds:,.1f} {self._unit}/s")
            if self._left is not None and self._work:
                words.append(f"{in_words(seconds * self._left / self._work)} left")
        return ", ".join(words)


def in_words(seconds: float) -> str:
    """Return a time as ``45 s``, ``12 min`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
