"""Keys that wait for work, with the three promises of client-go's workqueue:

- a key is in the queue once, however often it is added;
- a key is processed by one worker at a time;
- a key that is added while it is processed runs again afterwards.

A key that fails comes back after a back-off of its own. Keys belong to groups, and groups take turns: ten
thousand keys of one group delay a key of another by one turn.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from kubedr_ctrl.kube.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """A fair queue of keys. All methods but `get` return at once."""

    def __init__(
        self,
        *,
        group: Callable[[K], Hashable] = lambda key: key,
        backoff: Callable[[], Backoff] = lambda: Backoff(first=0.1, limit=60.0),
    ) -> None:
        self._group = group
        self._new_backoff = backoff
        self._ready: OrderedDict[Hashable, deque[K]] = OrderedDict()
        self._queued: set[K] = set()
        self._processing: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._backoffs: dict[K, Backoff] = {}
        self._available = asyncio.Event()

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: K) -> None:
        """Have `key` processed when its turn comes, whatever delay was set for it."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._processing:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.setdefault(self._group(key), deque()).append(key)
            self._available.set()

    def add_after(self, key: K, delay: float) -> None:
        """Add `key` in `delay` seconds, or earlier if something else wants it earlier."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._queued or (timer and timer.when() <= loop.time() + delay):
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    def retry(self, key: K) -> float:
        """Add `key`, which failed, after its back-off; return that wait in seconds."""
        delay = self._backoffs.setdefault(key, self._new_backoff()).next()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """End the back-off of `key`, as it no longer fails."""
        self._backoffs.pop(key, None)

    async def get(self) -> K:
        """Wait for a key and return it; the caller owes a `done`."""
        while not self._ready:
            self._available.clear()
            await self._available.wait()
        group, keys = self._ready.popitem(last=False)
        key = keys.popleft()
        if keys:
            self._ready[group] = keys
        self._queued.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """Give `key` back after processing."""
        self._processing.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
