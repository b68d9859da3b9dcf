import asyncio

import pytest

from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.controller import Controller, NotYet
from kubedr_ctrl.kube.errors import Conflict
from kubedr_ctrl.kube.workqueue import WorkQueue


async def test_a_key_is_in_the_queue_once() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_is_processed_by_one_worker_at_a_time_and_runs_again_if_added_meanwhile() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"


async def test_groups_take_turns() -> None:
    queue = WorkQueue[tuple[str, int]](group=lambda key: key[0])
    for number in range(10_000):
        queue.add(("busy", number))
    queue.add(("other", 0))
    assert [await queue.get(), await queue.get()] == [("busy", 0), ("other", 0)]


async def test_the_earlier_of_two_delays_counts_and_an_add_overtakes_both() -> None:
    queue = WorkQueue[str]()
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    async with asyncio.timeout(1):
        assert await queue.get() == "a"
    queue.done("a")
    queue.add_after("a", 60)
    queue.add("a")
    async with asyncio.timeout(1):
        assert await queue.get() == "a"


async def test_a_failing_key_waits_ever_longer_until_it_is_forgotten() -> None:
    queue = WorkQueue[str](backoff=lambda: Backoff(first=1, limit=5, jitter=0))
    assert [queue.retry("a") for _ in range(5)] == [1, 2, 4, 5, 5]
    assert queue.retry("b") == 1
    queue.forget("a")
    assert queue.retry("a") == 1


async def test_get_survives_cancellation() -> None:
    queue = WorkQueue[str]()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await queue.get()
    queue.add("a")
    assert await queue.get() == "a"


@pytest.mark.parametrize("error", [Conflict(409), NotYet(), RuntimeError("a fault")])
async def test_a_failing_key_delays_no_other(error: Exception) -> None:
    tried = asyncio.Queue[str]()

    async def process(key: str) -> float | None:
        await tried.put(key)
        if key == "bad":
            raise error
        return None

    queue = WorkQueue[str](backoff=lambda: Backoff(first=0.01, limit=0.01))
    controller = Controller("test", process, queue=queue, workers=1)
    queue.add("bad")
    queue.add("good")
    task = asyncio.create_task(controller.run())
    async with asyncio.timeout(2):
        assert [await tried.get() for _ in range(4)] == ["bad", "good", "bad", "bad"]
    task.cancel()


async def test_a_key_comes_back_when_its_work_asks_for_it() -> None:
    seen = asyncio.Queue[str]()

    async def process(key: str) -> float | None:
        await seen.put(key)
        return 0.01

    queue = WorkQueue[str]()
    queue.add("a")
    task = asyncio.create_task(Controller("test", process, queue=queue).run())
    async with asyncio.timeout(2):
        assert [await seen.get() for _ in range(3)] == ["a", "a", "a"]
    task.cancel()
