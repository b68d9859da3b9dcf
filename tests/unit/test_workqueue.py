import asyncio

import pytest

from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.controller import LASTING_TRIES, Complaints, Controller, NotYet
from kubedr_ctrl.kube.errors import Conflict, Forbidden, ServerError, TooManyRequests, Unreachable
from kubedr_ctrl.kube.outage import Outage
from kubedr_ctrl.kube.workqueue import ShutDown, WorkQueue
from tests.unit.clock import Clock


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


async def test_retries_are_paced_ever_more_slowly_while_all_fails_and_fast_again_once_it_works() -> None:
    queue = WorkQueue[int](backoff=lambda: Backoff(first=0.001, limit=0.001, jitter=0))
    tries = []
    healed = False

    async def process(key: int) -> None:
        tries.append(key)
        if not healed:
            raise Forbidden(403, "Forbidden", "no")

    task = asyncio.create_task(Controller("test", process, queue=queue).run())
    for key in range(1000):
        queue.add(key)
    await asyncio.sleep(1)
    first_round = len(tries)
    assert first_round <= 1000 + 12
    assert queue.failing == 1000
    await asyncio.sleep(2)
    assert len(tries) - first_round <= 3, "a queue in which all fails is tried about once a second"
    healed = True
    async with asyncio.timeout(20):
        while queue.failing:  # noqa: ASYNC110 - what is waited for is a state of many parts
            await asyncio.sleep(0.05)
    task.cancel()


async def test_keys_that_fail_for_ever_delay_a_fresh_key_by_no_more_than_a_turn() -> None:
    queue = WorkQueue[str](backoff=lambda: Backoff(first=0.001, limit=0.01))
    done = asyncio.Event()

    async def process(key: str) -> None:
        await asyncio.sleep(0.001)
        if key != "fresh":
            raise RuntimeError(key)
        done.set()

    task = asyncio.create_task(Controller("test", process, queue=queue, workers=2).run())
    for number in range(50):
        queue.add(f"failing-{number}")
    await asyncio.sleep(0.5)
    queue.add("fresh")
    async with asyncio.timeout(1):
        await done.wait()
    task.cancel()


async def test_keys_that_fail_for_ever_delay_the_retry_of_another_group_by_one_turn() -> None:
    queue = WorkQueue[tuple[str, int]](group=lambda key: key[0], backoff=lambda: Backoff(first=0.001, limit=0.01))
    failed = asyncio.Queue[str]()
    done = asyncio.Event()

    async def process(key: tuple[str, int]) -> None:
        if key[0] == "bad":
            raise Forbidden(403, "Forbidden", "no")
        if failed.empty():
            await failed.put(key[0])
            raise ServerError(500)
        done.set()

    task = asyncio.create_task(Controller("test", process, queue=queue).run())
    for number in range(300):
        queue.add(("bad", number))
    await asyncio.sleep(1)
    queue.add(("good", 0))
    async with asyncio.timeout(4):
        await done.wait()
    task.cancel()


async def test_a_conflict_is_tried_again_by_its_own_back_off_whatever_else_fails() -> None:
    queue = WorkQueue[str](backoff=lambda: Backoff(first=0.05, limit=60))
    done = asyncio.Event()
    tries: list[str] = []

    async def process(key: str) -> None:
        tries.append(key)
        if key != "good":
            raise Forbidden(403, "Forbidden", "no")
        if tries.count("good") == 1:
            raise Conflict(409)
        done.set()

    task = asyncio.create_task(Controller("test", process, queue=queue).run())
    for number in range(300):
        queue.add(f"bad-{number}")
    await asyncio.sleep(0.5)
    queue.add("good")
    async with asyncio.timeout(2):
        await done.wait()
    task.cancel()


async def test_work_that_never_waits_lets_others_run() -> None:
    queue = WorkQueue[int]()

    async def process(_: int) -> None:
        return None

    for number in range(10_000):
        queue.add(number)
    task = asyncio.create_task(Controller("test", process, queue=queue).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(queue) > 9_000
    task.cancel()


async def test_trouble_with_the_server_is_worth_a_word_if_it_lasts_and_nobody_else_has_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("https://api")
    queue = WorkQueue[str](backoff=lambda: Backoff(first=0.001, limit=0.001))
    tried = asyncio.Queue[None]()

    async def process(_: str) -> None:
        await tried.put(None)
        raise Unreachable("POST events: TimeoutError")

    task = asyncio.create_task(Controller("events", process, queue=queue, outage=outage).run())
    queue.add("a")
    for _ in range(LASTING_TRIES):
        assert not caplog.messages
        await tried.get()
    await tried.get()
    assert caplog.messages == ["events a: POST events: TimeoutError; trying again"]
    task.cancel()


async def test_ten_thousand_keys_of_one_group_delay_another_by_a_turn() -> None:
    queue = WorkQueue[tuple[str, int]](group=lambda key: key[0])
    seen: list[str] = []
    over = asyncio.Event()

    async def process(key: tuple[str, int]) -> None:
        seen.append(key[0])
        await asyncio.sleep(0)
        if key[0] == "other":
            over.set()

    for number in range(10_000):
        queue.add(("busy", number))
    queue.add(("other", 0))
    task = asyncio.create_task(Controller("test", process, queue=queue, workers=4).run())
    async with asyncio.timeout(5):
        await over.wait()
    assert seen.index("other") <= 4
    task.cancel()


async def test_a_queue_keeps_the_figures_that_dashboards_show() -> None:
    clock = Clock()
    queue = WorkQueue[str](clock=clock)
    queue.add("a")
    queue.add("a")
    clock.now += 2
    await queue.get()
    clock.now += 7
    assert queue.in_progress() == {"a": 7}
    queue.retry("a")
    queue.done("a")
    stats = queue.stats
    assert (stats.adds, stats.retries, queue.failing) == (1, 1, 1)
    assert (stats.waits.total, sum(stats.waits.counts)) == (2, 1)
    assert (stats.works.total, sum(stats.works.counts)) == (7, 1)
    assert queue.in_progress() == {}
    queue.shut_down()


async def test_a_queue_that_is_shut_down_hands_out_nothing_more() -> None:
    queue = WorkQueue[str]()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after("later", 0.01)
    queue.retry("failed")
    queue.shut_down()
    with pytest.raises(ShutDown):
        await waiting
    queue.add("a")
    with pytest.raises(ShutDown):
        await queue.get()


async def test_a_busy_server_is_left_alone_for_as_long_as_it_asks() -> None:
    queue = WorkQueue[str](backoff=lambda: Backoff(first=0.01, limit=0.01))
    times: list[float] = []

    async def process(_: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise TooManyRequests(429, retry_after=0.3)

    task = asyncio.create_task(Controller("test", process, queue=queue).run())
    queue.add("a")
    async with asyncio.timeout(2):
        while len(times) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert times[1] - times[0] >= 0.3
    task.cancel()


def test_what_fails_is_said_once_for_a_key_and_once_for_all_that_fail_alike(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    complaints = Complaints("events", clock=clock)
    for key in ("a", "b", "a", "c"):
        complaints.fails(key, "events is forbidden", 3)
    complaints.fails("d", "something else", 4)
    assert [record.message for record in caplog.records] == [
        "events a: events is forbidden; trying again (2 others fail, too)"
    ]
    clock.now += Complaints.EVERY
    complaints.fails("d", "something else", 4)
    complaints.works("a")
    complaints.works("b")
    assert [record.message for record in caplog.records[1:]] == [
        "events d: something else; trying again (3 others fail, too)",
        "events a: works again",
    ]


def test_an_outage_is_said_once_it_lasts_and_once_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    outage = Outage("https://api", clock=clock)
    outage.failed("refused")
    clock.now += 1
    outage.answered()
    for _ in range(10):
        outage.failed("refused")
        clock.now += 1
    assert outage.lasts
    outage.answered()
    outage.answered()
    assert [record.message for record in caplog.records] == [
        "the API server at https://api does not serve; trying again until it does: refused",
        "the API server at https://api serves again, after 10 s",
    ]
