"""Keys that wait for work, with the three promises of client-go's workqueue:

- a key is in the queue once, however often it is added;
- a key is processed by one worker at a time;
- a key that is added while it is processed runs again afterwards.

And with three of its own:

- A key that fails comes back after a back-off of its own.
- The retries of all keys together are paced: each failure doubles the pause between two of them, up to a second,
  and each success halves it. A hundred thousand keys that fail for ever cost one try a second, and are done soon
  after the cause is gone.
- Keys belong to groups, and groups take turns, in the queue and in its retries: ten thousand keys of one group delay
  a key of another by one turn.
"""

import asyncio
import heapq
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.distribution import Distribution

K = TypeVar("K", bound=Hashable)

SHORTEST_PACE, LONGEST_PACE = 0.005, 1.0
"""Seconds between two retries of a queue in which something fails."""


class ShutDown(Exception):
    """The queue hands out no more keys."""


@dataclass
class QueueStats:
    """What happened in a queue since it was made."""

    adds: int = 0
    retries: int = 0
    waits: Distribution = field(default_factory=Distribution)
    """Seconds that keys spent in the queue."""
    works: Distribution = field(default_factory=Distribution)
    """Seconds that processing a key took."""


class _Turns(Generic[K]):
    """Keys in their order, but for the groups they belong to, which take turns."""

    def __init__(self, group: Callable[[K], Hashable]) -> None:
        self._group = group
        self._waiting: OrderedDict[Hashable, deque[K]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def append(self, key: K) -> None:
        self._waiting.setdefault(self._group(key), deque()).append(key)

    def pop(self) -> K:
        group, keys = self._waiting.popitem(last=False)
        key = keys.popleft()
        if keys:
            self._waiting[group] = keys
        return key


class WorkQueue(Generic[K]):
    """A fair queue of keys. All methods but `get` return at once."""

    def __init__(
        self,
        *,
        group: Callable[[K], Hashable] = lambda key: key,
        backoff: Callable[[], Backoff] = lambda: Backoff(first=0.1, limit=60.0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = QueueStats()
        self._new_backoff = backoff
        self._clock = clock
        self._ready = _Turns(group)
        self._queued: dict[K, float] = {}
        self._processing: dict[K, float] = {}
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._backoffs: dict[K, Backoff] = {}
        self._retries: list[tuple[float, int, K]] = []
        """A heap of when each failed key is due again."""
        self._retry_due: dict[K, float] = {}
        """What is true of the heap: a key that was added since, or failed anew, has another time there, or none."""
        self._due = _Turns(group)
        """Failed keys that are due, and wait for the pace."""
        self._retry_timer: asyncio.TimerHandle | None = None
        self._next_retry = 0.0
        self._pace = 0.0
        self._numbers = count()
        self._available = asyncio.Event()
        self._shut_down = False

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def failing(self) -> int:
        """How many keys failed when they were last processed."""
        return len(self._backoffs)

    def failures(self, key: K) -> int:
        """Return how often in a row `key` has failed."""
        backoff = self._backoffs.get(key)
        return backoff.failures if backoff else 0

    def in_progress(self) -> dict[K, float]:
        """Return for how many seconds each key that is being processed has been."""
        now = self._clock()
        return {key: now - since for key, since in self._processing.items()}

    def add(self, key: K) -> None:
        """Have `key` processed when its turn comes, whatever delay was set for it."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._retry_due.pop(key, None)
        if key in self._processing:
            self._again.add(key)
        elif key not in self._queued:
            self.stats.adds += 1
            self._queued[key] = self._clock()
            self._ready.append(key)
            self._available.set()

    def add_after(self, key: K, delay: float) -> None:
        """Add `key` in `delay` seconds, or earlier if something else wants it earlier."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._queued or self._shut_down or (timer and timer.when() <= loop.time() + delay):
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    def retry(self, key: K, *, at_least: float = 0.0, paced: bool = True) -> float:
        """Add `key`, which failed, after its back-off, `at_least` so many seconds; return that wait.

        It becomes longer where the pace of all retries asks for it, unless the failure tells nothing of other keys.
        """
        self.stats.retries += 1
        delay = max(self._backoffs.setdefault(key, self._new_backoff()).next(), at_least)
        if not paced:
            self.add_after(key, delay)
            return delay
        self._pace = min(max(self._pace * 2, SHORTEST_PACE), LONGEST_PACE)
        if key not in self._queued and not self._shut_down:
            due = asyncio.get_running_loop().time() + delay
            self._retry_due[key] = due
            heapq.heappush(self._retries, (due, next(self._numbers), key))
            self._arm()
        return delay

    def forget(self, key: K) -> None:
        """End the back-off of `key`, as it no longer fails."""
        self._backoffs.pop(key, None)
        self._pace = self._pace / 2 if self._pace > SHORTEST_PACE else 0.0

    async def get(self) -> K:
        """Wait for a key and return it; the caller owes a `done`. ShutDown once there will be none."""
        while not self._ready and not self._shut_down:
            self._available.clear()
            await self._available.wait()
        if self._shut_down:
            raise ShutDown
        key = self._ready.pop()
        now = self._clock()
        self.stats.waits.observe(now - self._queued.pop(key))
        self._processing[key] = now
        return key

    def done(self, key: K) -> None:
        """Give `key` back after processing."""
        self.stats.works.observe(self._clock() - self._processing.pop(key))
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def shut_down(self) -> None:
        """Hand out no more keys; those that wait are forgotten, those in progress may be ended."""
        self._shut_down = True
        for timer in (*self._timers.values(), self._retry_timer):
            if timer:
                timer.cancel()
        self._timers.clear()
        self._available.set()

    def _arm(self) -> None:
        """Set the timer for the next retry."""
        if not self._due and not self._retries:
            return
        when = self._next_retry if self._due else max(self._retries[0][0], self._next_retry)
        if self._retry_timer:
            if self._retry_timer.when() <= when:
                return
            self._retry_timer.cancel()
        self._retry_timer = asyncio.get_running_loop().call_at(when, self._release)

    def _release(self) -> None:
        """Add one key that is due, of the group whose turn it is."""
        self._retry_timer = None
        now = asyncio.get_running_loop().time()
        while self._retries and self._retries[0][0] <= now:
            due, _, key = heapq.heappop(self._retries)
            if self._retry_due.get(key) == due:
                self._due.append(key)
        while self._due:
            key = self._due.pop()
            if self._retry_due.get(key, now + 1) <= now:
                self._next_retry = now + self._pace
                self.add(key)
                break
        self._arm()
