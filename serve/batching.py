"""Adaptive micro-batching: an idle model answers at once, a busy one collects what comes.

One thread runs the model; onnxruntime gives up the GIL meanwhile, so the event loop goes on
accepting, refusing and collecting.
"""

import asyncio
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import grpc

from deesc_model import EscalationClassifier, Prediction
from serve.errors import BusyError, ExpiredError
from serve.priority import yield_to_calls
from serve.requests import Utterance

ITEM_COST: Final = 100
"""What an utterance costs whatever its length, its context for one, in characters."""

MAX_COST: Final = 4_000
"""Cost of one batch, in characters: bounds how long a short text waits behind long ones."""

CONTEXT_SHARE: Final = 32
"""Characters of context that cost as much as one of the utterance: of all of them a few tokens are
made, and the network reads fewer still."""

RECENT_BATCHES: Final = 9
"""Batches that say how fast the model is."""

MAX_LARGE_CALLS: Final = 4
"""Calls of more than one batch that are taken at a time; each goes on a batch in so many."""

FIRST_PACE_S: Final = 1e-5
"""Seconds for a character, until batches tell."""

SHORTEST_RETRY_S: Final = 0.05
"""What a refused caller waits at least: its few tries shall outlast a pause of the machine."""


def deadline_of(context: grpc.aio.ServicerContext) -> float:
    """Return when the caller of an RPC stops waiting, in the event loop's time."""
    remaining = context.time_remaining()
    return math.inf if remaining is None else asyncio.get_running_loop().time() + remaining


@dataclass(slots=True)
class Waiting:
    """An utterance in the queue.

    Attributes:
        utterance: What to label.
        deadline: When its caller stops waiting, in the event loop's time.
        future: Where its prediction goes, or the error at which the model failed.
        cost: Time that it takes the model, in characters.
        load: What it adds to the load: its cost, or nothing as a part of a large call.
    """

    utterance: Utterance
    deadline: float
    future: asyncio.Future[Prediction | Exception]
    cost: int
    load: int


def cost_of(utterance: Utterance) -> int:
    """Return what an utterance costs the model, in characters."""
    context = sum(len(turn.text) for turn in utterance.context)
    return len(utterance.turn.text) + ITEM_COST + context // CONTEXT_SHARE


class Batcher:
    """Collects utterances of all calls into batches.

    Large calls, which take more than one batch, have a line of their own: in turns, one batch of
    all of them is in the queue or computed at a time. It does not count for the others, so large
    calls lock nobody out, and who is accepted waits for one batch more at most.

    Args:
        classifier: Returns the classifier to use; asked anew for every batch, so that a new
            bundle takes over between two batches.
        max_batch: Utterances of one batch at most.
        max_load: Cost of all that waits or is computed, large calls aside, in characters, from
            which on others are refused. So who is accepted waits for so much work, however fast
            model and machine are.
        observe_batch: Told the size of every batch.
        observe_predictions: Told every prediction made.
    """

    def __init__(
        self,
        classifier: Callable[[], EscalationClassifier],
        *,
        max_batch: int,
        max_load: int,
        observe_batch: Callable[[int], None],
        observe_predictions: Callable[[Sequence[Prediction]], None],
    ) -> None:
        self._classifier = classifier
        self._max_batch = max_batch
        self._max_load = max_load
        self._observe_batch = observe_batch
        self._observe_predictions = observe_predictions
        self._waiting: list[Waiting] = []
        self._waiting_load = self._running_load = 0
        self._large: list[int] = []  # what each large call that was taken costs
        self._held = 0  # utterances of them that are not in the queue yet
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "model", initializer=yield_to_calls)
        self._paces = deque([FIRST_PACE_S] * RECENT_BATCHES, maxlen=RECENT_BATCHES)
        self._worker = asyncio.create_task(self._work(), name="batcher")

    @property
    def depth(self) -> int:
        """Utterances that wait now."""
        return len(self._waiting) + self._held

    def admit(self, count: int = 1) -> None:
        """Refuse utterances that would have to wait too long; one call may always wait.

        Args:
            count: How many there are.

        Raises:
            BusyError: The queue is full, or too many large calls are under way for another.
        """
        if count > self._max_batch and len(self._large) >= MAX_LARGE_CALLS:
            raise BusyError(self.depth, self._retry_after(min(self._large)))
        load = self._waiting_load + self._running_load
        if self._waiting_load and load > self._max_load:
            raise BusyError(self.depth, self._retry_after(load))

    async def predict(
        self, utterances: Sequence[Utterance], deadline: float = math.inf
    ) -> list[Prediction]:
        """Label utterances; they share batches with those of other calls.

        Args:
            utterances: Checked utterances.
            deadline: When the caller stops waiting, in the event loop's time.

        Raises:
            BusyError: The queue is full, or too many large calls are; nothing was queued.
            ExpiredError: The deadline passed before the work began.
            Exception: The model failed at one of them.
        """
        predictions = []
        for result in await self.predict_each(utterances, deadline):
            if isinstance(result, Exception):
                raise result
            predictions.append(result)
        return predictions

    async def predict_each(
        self, utterances: Sequence[Utterance], deadline: float = math.inf
    ) -> list[Prediction | Exception]:
        """As `predict`, but with the error at which the model failed in place of a prediction."""
        self.admit()
        batches = list(self._batches(utterances))
        if len(batches) > 1:
            return await self._predict_large(batches, deadline)
        return await self._queue(utterances, deadline)

    async def _predict_large(
        self, batches: Sequence[Sequence[Utterance]], deadline: float
    ) -> list[Prediction | Exception]:
        """Label one batch at a turn."""
        if len(self._large) >= MAX_LARGE_CALLS:
            raise BusyError(self.depth, self._retry_after(min(self._large)))
        results: list[Prediction | Exception] = []
        cost = sum(cost_of(utterance) for batch in batches for utterance in batch)
        left = sum(map(len, batches))
        self._large.append(cost)
        self._held += left
        try:
            for batch in batches:
                async with self._turn:  # first come, first served
                    left -= len(batch)
                    self._held -= len(batch)
                    results += await self._queue(batch, deadline, large=True)
        finally:
            self._large.remove(cost)
            self._held -= left
        return results

    async def _queue(
        self, utterances: Sequence[Utterance], deadline: float, *, large: bool = False
    ) -> list[Prediction | Exception]:
        """Let utterances wait, and return what comes of each.

        Raises:
            ExpiredError: The deadline passed before the work began.
        """
        loop = asyncio.get_running_loop()
        items = []
        for utterance in utterances:
            cost = cost_of(utterance)
            items.append(
                Waiting(utterance, deadline, loop.create_future(), cost, 0 if large else cost)
            )
        self._waiting += items
        self._waiting_load += sum(item.load for item in items)
        self._wake.set()
        try:
            if len(items) == 1:  # most calls; it is quicker
                return [await items[0].future]
            return await asyncio.gather(*(item.future for item in items))
        except asyncio.CancelledError:
            self._set_waiting([item for item in self._waiting if not item.future.cancelled()])
            raise

    def _set_waiting(self, items: list[Waiting]) -> None:
        self._waiting = items
        self._waiting_load = sum(item.load for item in items)

    def _batches(self, utterances: Sequence[Utterance]) -> Iterator[list[Utterance]]:
        """Cut utterances into what one batch takes."""
        batch: list[Utterance] = []
        cost = 0
        for utterance in utterances:
            cost += cost_of(utterance)
            if not self._has_room(batch, cost):
                yield batch
                batch, cost = [], cost_of(utterance)
            batch.append(utterance)
        if batch:
            yield batch

    def _has_room(self, batch: Sequence[object], cost: int) -> bool:
        """Return whether a batch may have one more that brings it to a cost."""
        return not batch or (len(batch) < self._max_batch and cost <= MAX_COST)

    def _retry_after(self, cost: int) -> float:
        """Return when so much will have been served, spread so that not all come back at once."""
        served = max(SHORTEST_RETRY_S, cost * statistics.median(self._paces))
        return served * random.uniform(1, 2)  # noqa: S311 - no secret

    async def close(self) -> None:
        """Stop; call it when nobody waits any more."""
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take(loop.time()):
                self._observe_batch(len(batch))
                self._running_load = sum(item.load for item in batch)
                try:
                    await self._answer(batch)
                except Exception as error:  # as when no thread can be started
                    for item in batch:
                        if not item.future.done():
                            item.future.set_result(_failure(error))
                self._running_load = 0

    async def _answer(self, batch: Sequence[Waiting]) -> None:
        """Compute a batch, and give everybody who waits for it what came of it."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        results = await loop.run_in_executor(self._thread, self._compute, batch)
        self._paces.append((loop.time() - started) / sum(item.cost for item in batch))
        self._observe_predictions([result for result in results if isinstance(result, Prediction)])
        for item, result in zip(batch, results, strict=True):
            if not item.future.done():  # the caller went away meanwhile
                item.future.set_result(result)

    def _take(self, now: float) -> list[Waiting]:
        """Remove the next batch from the queue, and whatever nobody waits for any more.

        In order of arrival, as the network sorts them by length itself.
        """
        batch: list[Waiting] = []
        left: list[Waiting] = []
        cost = 0
        for item in self._waiting:
            if item.future.done():
                continue
            if item.deadline <= now:
                item.future.set_exception(ExpiredError())
                continue
            cost += item.cost
            if self._has_room(batch, cost):
                batch.append(item)
            else:
                left.append(item)
        self._set_waiting(left)
        return batch

    def _compute(self, batch: Sequence[Waiting]) -> list[Prediction | Exception]:
        """Label a batch; if it fails as a whole, each alone, so that one cannot spoil others."""
        items = [item.utterance for item in batch]
        try:
            return list(self._label(items))
        except BaseException as error:  # a panic of the tokenizer's is no Exception
            if len(items) == 1:
                return [error if isinstance(error, Exception) else _failure(error)]
            return [result for item in batch for result in self._compute([item])]

    def _label(self, items: Sequence[Utterance]) -> list[Prediction]:
        return self._classifier().predict_batch(
            [item.turn for item in items],
            [item.context for item in items],
            batch_size=self._max_batch,
        )


def _failure(error: BaseException) -> RuntimeError:
    """Return what stands for an error: with its place, without its message, that may quote."""
    return RuntimeError("the model failed").with_traceback(error.__traceback__)
