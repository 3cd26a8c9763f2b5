"""Everybody in turns on the same texts: latency, throughput, cold start, memory, quality."""

import json
import logging
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contenders import CONTENDERS, OURS, Settings, Text
from benchmarks.footprint import installed_mb
from benchmarks.processes import Worker
from deesc_model.scoring import Calibration, Scores
from training.corpus import Utterance
from training.metrics import compute_metrics, gold_labels

log = logging.getLogger("benchmarks")

QUALITY = ("level_macro_f1", "level_qwk")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: Repetitions; in each everybody has a turn.
        singles: Calls with one text of the mix in a turn.
        shorts: Calls with the text of 27 words in a turn.
        batch: Texts in the one call that measures throughput in a turn.
        cold_starts: New processes for each contender.
        patience_s: Longest turn, and longest first answer. Who needs more has no other, and is
            not asked for quality if it was a turn.
    """

    rounds: int = 7
    singles: int = 100
    shorts: int = 30
    batch: int = 256
    cold_starts: int = 3
    patience_s: float = 30.0


@dataclass(slots=True)
class Turns:
    """What one contender did, a number for each of its turns.

    Attributes:
        one_ms: The times of single calls with the mix.
        short_ms: The same with the text of 27 words.
        per_s: Texts a second in one call.
        cold_s: Seconds from a new process to its first answer.
        peak_mb: The most memory that it held, after all turns.
        quality: Metric to value, unless it was too slow.
    """

    one_ms: list[list[float]] = field(default_factory=list)
    short_ms: list[list[float]] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    cold_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    quality: dict[str, float] = field(default_factory=dict)

    def measures(self) -> dict[str, list[float]]:
        """Return each measure as one value a turn."""
        return {
            "one_p50_ms": [float(np.percentile(each, 50)) for each in self.one_ms],
            "one_p99_ms": [float(np.percentile(each, 99)) for each in self.one_ms],
            "short_p50_ms": [float(np.percentile(each, 50)) for each in self.short_ms],
            "short_p99_ms": [float(np.percentile(each, 99)) for each in self.short_ms],
            "per_s": self.per_s,
            "cold_s": self.cold_s,
        }


class Race:
    """Workers of all contenders, which have turns.

    Args:
        settings: What was set up.
        plan: How much is measured.
        rows: Test rows with their labels, in the order of `texts`.
        texts: The mix.
        short: The text of 27 words.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        rows: Sequence[Utterance],
        texts: Sequence[Text],
        short: Text,
    ) -> None:
        self._settings, self._plan, self._rows = settings, plan, rows
        self._mix = [asdict(each) for each in texts]
        self._short = asdict(short)
        self.turns: dict[str, Turns] = {}
        self.skipped: dict[str, str] = {}

    def run(self, names: Iterable[str]) -> None:
        """Measure the named contenders; those that cannot run are in `skipped`."""
        with ExitStack() as stack:
            workers = {}
            for name in names:
                if (worker := self._start(name)) is not None:
                    workers[name] = stack.enter_context(worker)
                    self.turns[name] = Turns()
                    self._try(name, partial(self._warm, worker))
            self._rounds(workers)
            for name in list(self.turns):
                self._try(name, partial(self._memory, name, workers[name]))
        self._cold_starts()

    def _try(self, name: str, step: Callable[[], object]) -> None:
        """Take a step; who fails at it is a result, and not the end of the others."""
        try:
            step()
        except (RuntimeError, OSError) as error:
            self._skip(name, error)

    def _skip(self, name: str, error: Exception) -> None:
        self.skipped[name] = f"failed: {str(error).strip().splitlines()[-1]:.200}"
        self.turns.pop(name, None)

    def _memory(self, name: str, worker: Worker) -> None:
        self.turns[name].peak_mb = worker.ask("memory")

    def _start(self, name: str) -> Worker | None:
        if missing := CONTENDERS[name].missing():
            self.skipped[name] = f"needs: pip install {' '.join(missing)}"
            return None
        log_file = self._settings.folder / f"{name}.log"
        folder = str(self._settings.folder)
        try:
            worker = Worker(
                "benchmarks.worker", folder, name, json.dumps(self._short), log=log_file
            )
        except RuntimeError as error:
            self._skip(name, error)
            return None
        if "unusable" in worker.hello:
            self.skipped[name] = worker.hello["unusable"]
            worker.end()
            return None
        return worker

    def _warm(self, worker: Worker) -> None:
        worker.ask("keep", "mix", self._mix)
        worker.ask("keep", "short", [self._short])
        worker.ask("one_by_one", "mix", 0, 5, self._plan.patience_s)
        worker.ask("together", "mix", 0, 40)

    def _rounds(self, workers: Mapping[str, Worker]) -> None:
        plan, left = self._plan, list(self.turns)
        for number in range(plan.rounds):
            log.info("round %d of %d: %s", number + 1, plan.rounds, ", ".join(left))
            shift = number % max(1, len(left))
            for name in left[shift:] + left[:shift]:
                self._try(name, partial(self._turn, self.turns[name], workers[name], number))
            left = [name for name in left if self._is_patient(name)]
        for name in left:
            log.info("quality of %s", name)
            self._try(name, partial(self._quality, name, workers[name]))

    def _quality(self, name: str, worker: Worker) -> None:
        self.turns[name].quality = level_quality(self._rows, worker.ask("levels", "mix"))

    def _turn(self, turns: Turns, worker: Worker, number: int) -> None:
        plan, limit = self._plan, self._plan.patience_s
        start = number * plan.singles
        turns.one_ms.append(worker.ask("one_by_one", "mix", start, plan.singles, limit))
        turns.short_ms.append(worker.ask("one_by_one", "short", 0, plan.shorts, limit))
        seconds = worker.ask("together", "mix", number * plan.batch, plan.batch)
        turns.per_s.append(plan.batch / seconds)

    def _is_patient(self, name: str) -> bool:
        """Return whether a contender is there for another turn: its last was short enough."""
        if name not in self.turns:
            return False
        turns = self.turns[name]
        single = (sum(turns.one_ms[-1]) + sum(turns.short_ms[-1])) / 1000
        return single + self._plan.batch / turns.per_s[-1] <= self._plan.patience_s

    def _cold_starts(self) -> None:
        for number in range(self._plan.cold_starts):
            log.info("cold start %d of %d", number + 1, self._plan.cold_starts)
            for name, turns in list(self.turns.items()):
                if turns.cold_s and turns.cold_s[-1] > self._plan.patience_s:
                    continue
                worker = self._start(name)
                if worker is not None:
                    worker.end()
                    turns.cold_s.append(worker.started_s)

    def figures(self) -> dict[str, Any]:
        """Return medians over turns, and medians of ratios to ours in the same turn."""
        if OURS not in self.turns:
            raise RuntimeError(f"{OURS}, which the ratios are to, {self.skipped[OURS]}")
        ours = self.turns[OURS].measures()
        found: dict[str, Any] = {}
        for name, entry in CONTENDERS.items():
            if name in self.skipped:
                found[name] = {"title": entry.title, "skipped": self.skipped[name]}
            elif name in self.turns:
                found[name] = {"title": entry.title, **self._figures_of(name, ours)}
        return found

    def _figures_of(self, name: str, ours: Mapping[str, list[float]]) -> dict[str, Any]:
        turns, entry = self.turns[name], CONTENDERS[name]
        measures = turns.measures()
        return {
            "turns": len(turns.per_s),
            **{key: round(statistics.median(values), 4) for key, values in measures.items()},
            "peak_mb": round(turns.peak_mb, 1),
            "installed_mb": round(installed_mb(entry, self._settings), 1),
            **turns.quality,
            "ratio": {
                key: round(
                    statistics.median(
                        mine / theirs for mine, theirs in zip(values, ours[key], strict=False)
                    ),
                    3,
                )
                for key, values in measures.items()
            },
        }


def level_quality(rows: Sequence[Utterance], levels: Sequence[int]) -> dict[str, float]:
    """Return how well levels fit the labels of rows: macro-F1 and QWK, as in the model card."""
    gold = gold_labels(rows)
    certain = np.eye(5)[np.asarray(levels)]
    scores = Scores(certain, gold.triggers.astype(float), gold.signals.astype(float))
    found = compute_metrics(gold, scores, Calibration(), np.ones((1, len(rows))))
    return {name: round(float(found[name][0]), 4) for name in QUALITY}
