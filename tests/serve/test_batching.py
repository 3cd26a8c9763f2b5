"""The batcher by itself: order, size, deadlines, faults."""

import asyncio
import math
import os
import sys
import threading
import time

import pytest

from deesc_model import Turn
from deesc_model._proto import escalation_pb2 as pb
from serve.batching import (
    ITEM_COST,
    MAX_COST,
    MAX_LARGE_CALLS,
    RECENT_BATCHES,
    Batcher,
    cost_of,
)
from serve.config import Settings
from serve.errors import BusyError, ExpiredError
from serve.priority import NICENESS
from serve.requests import Utterance, read_utterance

MAX_LOAD = 5_000


class Waits:
    """What a batcher did, and the calls that wait on it."""

    def __init__(self, classifier, max_batch=32, max_load=MAX_LOAD):
        self.sizes, self.predictions = [], []
        self.batcher = Batcher(
            lambda: classifier,
            max_batch=max_batch,
            max_load=max_load,
            observe_batch=self.sizes.append,
            observe_predictions=self.predictions.extend,
        )

    async def ask(self, *texts, deadline=math.inf):
        """Begin a call and let it reach the queue."""
        utterances = [Utterance(Turn("customer", text)) for text in texts]
        call = asyncio.create_task(self.batcher.predict(utterances, deadline))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return call

    async def ask_busy(self, gate):
        """Begin a call that keeps the model busy until the gate opens."""
        call = await self.ask("the")
        await asyncio.to_thread(gate.entered.wait, 10)
        return call


def test_an_idle_model_starts_at_once_and_a_busy_one_collects(gate):
    async def scenario():
        waits = Waits(gate)
        calls = [await waits.ask_busy(gate)]
        calls += [await waits.ask(text) for text in ("late", "again", "fine")]
        assert waits.batcher.depth == 3
        gate.open()
        answers = [(await call)[0] for call in calls]
        await waits.batcher.close()
        return waits, answers

    waits, answers = asyncio.run(scenario())
    assert gate.batches == [["the"], ["late", "again", "fine"]]
    assert waits.sizes == [1, 3]
    assert waits.predictions == answers
    assert [answer.triggers for answer in answers] == [(), ("delay",), ("unresolved",), ()]


def test_a_batch_of_one_turns_batching_off(gate):
    async def scenario():
        waits = Waits(gate, max_batch=1)
        gate.open()
        call = await waits.ask("late", "again", "fine")
        await call
        await waits.batcher.close()
        return waits.sizes

    assert asyncio.run(scenario()) == [1, 1, 1]


def test_a_batch_is_bounded_in_characters_and_the_oldest_goes_first(gate):
    long = "late " * ((MAX_COST // 2 - ITEM_COST) // 5)

    async def scenario():
        waits = Waits(gate)
        calls = [await waits.ask_busy(gate)]
        calls += [await waits.ask(long), await waits.ask(long), await waits.ask(long)]
        gate.open()
        await asyncio.gather(*calls)
        await waits.batcher.close()

    asyncio.run(scenario())
    assert [len(batch) for batch in gate.batches] == [1, 2, 1]


def test_expired_and_cancelled_work_is_never_computed(gate):
    async def scenario():
        waits = Waits(gate)
        busy = await waits.ask_busy(gate)
        expired = await waits.ask("late", deadline=asyncio.get_running_loop().time())
        cancelled = await waits.ask("again")
        alive = await waits.ask("fine")
        cancelled.cancel()
        gate.open()
        await asyncio.gather(busy, alive)
        with pytest.raises(ExpiredError):
            await expired
        await waits.batcher.close()

    asyncio.run(scenario())
    assert gate.batches == [["the"], ["fine"]]


def test_a_full_queue_refuses_and_keeps_what_it_holds(gate):
    async def scenario():
        waits = Waits(gate, max_load=2 * ITEM_COST + len("the") + len("late"))
        calls = [await waits.ask_busy(gate), await waits.ask("late"), await waits.ask("again")]
        refused = await waits.ask("fine")
        with pytest.raises(BusyError, match=r"already \(2\)") as caught:
            await refused
        assert 0.05 <= caught.value.retry_after_s <= 0.1
        gate.open()
        answers = await asyncio.gather(*calls)
        await waits.batcher.close()
        return answers

    assert [len(answer) for answer in asyncio.run(scenario())] == [1, 1, 1]


@pytest.mark.parametrize("texts", [["late"], ["late", "again"]])
def test_cancelled_calls_are_no_load(gate, texts):
    async def scenario():
        waits = Waits(gate, max_load=2 * ITEM_COST)
        busy = await waits.ask_busy(gate)
        cancelled = await waits.ask(*texts)
        with pytest.raises(BusyError):
            waits.batcher.admit()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert waits.batcher.depth == 0
        waits.batcher.admit()  # though the batch before is still computed
        gate.open()
        await busy
        await waits.batcher.close()

    asyncio.run(scenario())
    assert gate.batches == [["the"]]


class SlowAtFirst:
    """Takes its time for as many batches as tell how fast it is, then stands before the gate."""

    def __init__(self, classifier, gate, seconds):
        self._classifier, self._gate = classifier, gate
        self._sleeps = [seconds] * RECENT_BATCHES

    def predict_batch(self, *args, **options):
        if not self._sleeps:
            return self._gate.predict_batch(*args, **options)
        time.sleep(self._sleeps.pop())
        return self._classifier.predict_batch(*args, **options)


def test_who_would_wait_too_long_is_refused_and_told_when_to_come_back(gate, classifier):
    async def scenario():
        waits = Waits(SlowAtFirst(classifier, gate, seconds=0.01))
        for _ in range(RECENT_BATCHES):
            await (await waits.ask("the"))  # .1 ms for a character or more
        calls = [await waits.ask_busy(gate), await waits.ask("a" * MAX_LOAD)]
        with pytest.raises(BusyError, match=r"already \(1\)") as caught:
            await (await waits.ask("again"))
        assert caught.value.retry_after_s >= MAX_LOAD * 0.01 / (ITEM_COST + len("the"))
        gate.open()
        await asyncio.gather(*calls)
        await (await waits.ask("again"))  # nobody waits any more
        await waits.batcher.close()

    asyncio.run(scenario())


def test_the_load_is_bounded_in_characters(gate):
    quarter = "a" * (MAX_LOAD // 4 - ITEM_COST)

    async def scenario():
        waits = Waits(gate)
        calls = [await waits.ask_busy(gate)]
        calls += [await waits.ask(quarter) for _ in range(6)]
        gate.open()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await waits.batcher.close()
        return [isinstance(answer, BusyError) for answer in answers]

    assert asyncio.run(scenario()) == [False, *[False] * 4, True, True]


def test_a_context_counts_a_little_and_only_what_is_read():
    turns = [pb.Turn(text="a" * 3200)] * 5
    message = pb.PredictRequest(utterance=pb.Turn(text="late"), context=turns)
    utterance = read_utterance(message, 2, Settings())
    assert len(utterance.context) == 2
    assert cost_of(utterance) == len("late") + ITEM_COST + 2 * 100


def test_what_is_being_computed_counts_too_but_one_may_always_wait(gate):
    async def scenario():
        waits = Waits(gate)
        calls = [await waits.ask("a" * MAX_LOAD)]
        await asyncio.to_thread(gate.entered.wait, 10)
        calls.append(await waits.ask("fine"))  # alone in the queue
        refused = await waits.ask("again")  # "fine" alone would be no reason
        gate.open()
        with pytest.raises(BusyError, match=r"already \(1\)"):
            await refused
        await asyncio.gather(*calls)
        await waits.batcher.close()

    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_the_model_gives_way_to_the_event_loop(gate):
    async def scenario():
        others = set(threading.enumerate())
        waits = Waits(gate)
        gate.open()
        await (await waits.ask("late"))
        (model,) = set(threading.enumerate()) - others
        assert os.getpriority(os.PRIO_PROCESS, model.native_id) == min(
            os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19
        )
        await waits.batcher.close()

    asyncio.run(scenario())


def test_a_large_call_takes_a_batch_of_the_queue_at_a_time(gate):
    async def scenario():
        waits = Waits(gate, max_batch=4)
        busy = await waits.ask_busy(gate)
        large = await waits.ask(*["late"] * 30)
        assert waits.batcher.depth == 30
        small = await waits.ask("fine")
        gate.open()
        await asyncio.gather(busy, large, small)
        await waits.batcher.close()
        return await large

    assert len(asyncio.run(scenario())) == 30
    assert max(map(len, gate.batches)) == 4


def test_a_large_call_of_long_texts_leaves_room_for_others(gate):
    long = "a" * (MAX_COST // 2 - ITEM_COST)

    async def scenario():
        waits = Waits(gate)
        large = await waits.ask(*[long] * 5)
        await asyncio.to_thread(gate.entered.wait, 10)
        small = await waits.ask("fine")
        gate.open()
        await asyncio.gather(large, small)
        await waits.batcher.close()

    asyncio.run(scenario())
    assert [len(batch) for batch in gate.batches] == [2, 1, 2, 1]


def test_large_calls_take_turns_and_others_find_room_beside_them(gate):
    long = "a" * (MAX_COST // 2 - ITEM_COST)

    async def scenario():
        waits = Waits(gate)
        calls = [await waits.ask_busy(gate)]
        calls += [await waits.ask(*[long + name] * 4) for name in "bc"]
        assert waits.batcher.depth == 8
        calls += [await waits.ask("a" * 1000) for _ in range(3)]
        gate.open()
        await asyncio.gather(*calls)
        assert waits.batcher.depth == 0
        await waits.batcher.close()

    asyncio.run(scenario())
    ends = ["".join(text[-1] for text in batch if len(text) > 1000) for batch in gate.batches]
    assert "".join(ends) == "bcbcbcbc"
    assert max(map(len, ends)) == 1


def test_more_large_calls_than_get_on_are_refused(gate):
    async def scenario():
        waits = Waits(gate, max_batch=2)
        calls = [await waits.ask(*["late"] * 4) for _ in range(MAX_LARGE_CALLS)]
        with pytest.raises(BusyError):
            await (await waits.ask(*["late"] * 4))
        with pytest.raises(BusyError):
            waits.batcher.admit(3)
        waits.batcher.admit(2)
        assert waits.batcher.depth == 4 * MAX_LARGE_CALLS - 2  # two are computed
        calls[0].cancel()  # its place is free at once
        calls += [await waits.ask("fine"), await waits.ask(*["late"] * 4)]
        gate.open()
        answers = await asyncio.gather(*calls[1:])
        await waits.batcher.close()
        return [len(answer) for answer in answers]

    assert asyncio.run(scenario()) == [*[4] * (MAX_LARGE_CALLS - 1), 1, 4]


def test_a_fault_of_one_does_not_spoil_its_batch(gate, classifier):
    class Faulty:
        def predict_batch(self, turns, *args, **kwargs):
            if any("furious" in turn.text for turn in turns):
                raise RuntimeError("the session broke")
            return gate.predict_batch(turns, *args, **kwargs)

    async def scenario():
        waits = Waits(Faulty())
        busy = await waits.ask_busy(gate)
        calls = [await waits.ask(text) for text in ("late", "furious", "fine")]
        gate.open()
        await busy
        answers = await asyncio.gather(*calls, return_exceptions=True)
        again = await (await waits.ask("again"))
        await waits.batcher.close()
        return answers, again

    (late, furious, fine), again = asyncio.run(scenario())
    assert late[0].triggers == ("delay",)
    assert isinstance(furious, RuntimeError)
    assert fine[0].level == 0
    assert again[0].triggers == ("unresolved",)
