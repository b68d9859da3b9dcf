"""The result channel with consumers that are fakes, as no real one can be made to owe a hundred thousand results."""

import asyncio
import tracemalloc
from typing import Any, cast

import pytest

from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.kube.errors import Forbidden
from kubedr_ctrl.results.channel import ResultChannel
from kubedr_ctrl.results.harvest import JobKey


class Source:
    """Remembers which Jobs were marked."""

    def __init__(self) -> None:
        self.marked: list[JobKey] = []

    async def mark_recorded(self, key: JobKey) -> None:
        self.marked.append(key)


class Consumer:
    """Takes in all it gets, unless it is to fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken: list[JobKey] = []
        self.tries = 0
        self.fails = False

    async def consume(self, key: JobKey) -> None:
        self.tries += 1
        if self.fails:
            raise Forbidden(403, "Forbidden", "events is forbidden")
        self.taken.append(key)


class Channel:
    """A running channel of three consumers."""

    def __init__(self, clock: Any = None) -> None:
        self.source = Source()
        self.consumers = [Consumer(name) for name in ("status", "event", "metric")]
        self.channel = ResultChannel(cast("Any", self.source), self.consumers, **({"clock": clock} if clock else {}))

    async def __aenter__(self) -> "Channel":
        self._task = asyncio.create_task(self.channel.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, marked: int, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while len(self.source.marked) < marked:  # noqa: ASYNC110 - what is waited for is a state of many parts
                await asyncio.sleep(0.01)

    def owed(self) -> list[int]:
        return [backlog.results for backlog in self.channel.backlog().values()]


def key(number: int) -> JobKey:
    policy = f"policy-{number % 50}"
    return JobKey(f"{policy}-backup-{number}", f"{number:036d}", Operation.BACKUP, policy, f"uid-of-{policy}")


async def test_a_result_is_marked_once_all_have_taken_it_in() -> None:
    async with Channel() as running:
        running.channel.deliver(key(1))
        running.channel.deliver(key(1))
        await running.until(1)
    assert all(consumer.taken == [key(1)] for consumer in running.consumers)


async def test_a_result_that_is_on_its_way_is_not_taken_in_again() -> None:
    async with Channel() as running:
        event = running.consumers[1]
        event.fails = True
        running.channel.deliver(key(1))
        async with asyncio.timeout(5):
            while not event.tries:  # noqa: ASYNC110
                await asyncio.sleep(0)
        tries = event.tries
        for _ in range(10):  # as each change of the Job does
            assert key(1) in running.channel
            running.channel.deliver(key(1))
            await asyncio.sleep(0)
        assert event.tries == tries, "its back-off is its own"
        event.fails = False
        await running.until(1)
        assert [consumer.taken for consumer in running.consumers] == [[key(1)]] * 3


async def test_a_consumer_that_fails_holds_up_the_mark_and_nobody_else() -> None:
    async with Channel() as running:
        status, event, metric = running.consumers
        event.fails = True
        for number in range(3):
            running.channel.deliver(key(number))
        async with asyncio.timeout(5):
            while running.owed() != [0, 3, 0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not running.source.marked
        running.channel.deliver(key(0))  # as each change of the Job does
        event.fails = False
        await running.until(3)
        assert len(status.taken) == len(metric.taken) == len(event.taken) == 3
    assert running.owed() == [0, 0, 0]


async def test_the_age_of_the_oldest_result_is_known() -> None:
    now = 100.0
    async with Channel(clock=lambda: now) as running:
        running.consumers[1].fails = True
        running.channel.deliver(key(0))
        now += 60
        running.channel.deliver(key(1))
        async with asyncio.timeout(5):
            while running.owed() != [0, 2, 0]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert [backlog.oldest for backlog in running.channel.backlog().values()] == [0, 60, 0]


@pytest.mark.timeout(180)
async def test_a_hundred_thousand_outstanding_results_take_little_memory_and_few_tries() -> None:
    keys = [key(number) for number in range(100_000)]
    tracemalloc.start()
    try:
        async with Channel() as running:
            event = running.consumers[1]
            event.fails = True
            before, _ = tracemalloc.get_traced_memory()
            for each in keys:
                running.channel.deliver(each)
            async with asyncio.timeout(120):
                while running.owed() != [0, len(keys), 0] or event.tries < len(keys):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert (after - before) / len(keys) < 1000, "bytes for each outstanding result, beside its key"
            tries = event.tries
            await asyncio.sleep(3)
            assert event.tries - tries <= 5, "about one try a second"
            event.fails = False
            await running.until(len(keys), 120)
            assert len(event.taken) == len(keys)
    finally:
        tracemalloc.stop()
