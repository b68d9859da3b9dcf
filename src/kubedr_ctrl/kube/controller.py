"""A queue and the workers that empty it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from kubedr_ctrl.kube.errors import (
    ApiError,
    Conflict,
    NotLeading,
    ServerError,
    TooManyRequests,
    Undecodable,
    Unreachable,
)
from kubedr_ctrl.kube.outage import Outage
from kubedr_ctrl.kube.workqueue import ShutDown, WorkQueue

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

TURN = 120.0
"""Seconds that a key may be processed for before it has to come back later."""
WEDGED = 2 * TURN
"""Seconds after which a worker that did not heed the end of its turn counts as wedged."""
LONGEST_WISH = 60.0
"""Seconds for which a server that asks to be left alone is, at most."""
LASTING_TRIES = 6
"""Failures in a row after which trouble with the server is worth a word, if others have none: some three seconds."""
SUSPICIOUS_TRIES = 12
"""Failures in a row after which what should have come right by itself is worth a word: some minutes."""


class NotYet(Exception):
    """What the work needs is not there yet; try again soon, and say nothing about it for a while."""


class Controller(Generic[K]):
    """Calls `process` for each key of `queue`, a bounded number of keys at once.

    `process` returns the seconds after which the key wants to be looked at again, or None. What it raises
    puts the key back with a back-off and disturbs no other key.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[K], Awaitable[float | None]],
        *,
        queue: WorkQueue[K],
        workers: int = 4,
        outage: Outage | None = None,
    ) -> None:
        """While `outage` lasts, nothing is said of keys that fail for it."""
        self.name = name
        self.queue = queue
        self.errors = 0
        """How many tries have failed for a reason worth a word."""
        self._process = process
        self._workers = workers
        self._outage = outage
        self._complaints = Complaints(name)

    async def run(self) -> None:
        """Work until the queue is shut down; cancelled, give up what is in progress."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    def wedged(self) -> str:
        """Return what a worker hangs at, in words; empty while none does."""
        hanging = [(key, seconds) for key, seconds in self.queue.in_progress().items() if seconds > WEDGED]
        return ", ".join(f"{self.name} has been at {key} for {seconds:.0f} s" for key, seconds in hanging)

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            try:
                async with asyncio.timeout(TURN):
                    after = await self._process(key)
            except Exception as error:
                self._failed(key, error)
            else:
                self.queue.forget(key)
                self._complaints.works(key)
                if after is not None:
                    self.queue.add_after(key, after)
            finally:
                self.queue.done(key)
            await asyncio.sleep(0)  # work that never waits must not keep the loop from all else

    def _failed(self, key: K, error: Exception) -> None:
        """Put `key` back, and say so once it is worth a word."""
        wish = (isinstance(error, TooManyRequests) and error.retry_after) or 0.0
        self.queue.retry(key, at_least=min(wish, LONGEST_WISH), paced=not isinstance(error, Conflict | NotLeading))
        tries = self.queue.failures(key)
        match error:
            case NotLeading():
                return
            case Conflict() | NotYet():
                if tries < SUSPICIOUS_TRIES:
                    return
            case Unreachable() | ServerError() | TooManyRequests():
                self.errors += 1
                if tries < LASTING_TRIES or (self._outage and self._outage.lasts):
                    return
            case ApiError() | Undecodable():
                self.errors += 1
            case TimeoutError():
                self.errors += 1
                error = TimeoutError(f"not done within {TURN:.0f} s")
            case _:
                self.errors += 1
                if tries == 1:
                    log.error("%s %s: a fault of this program", self.name, key, exc_info=error)
                return
        self._complaints.fails(key, str(error), self.queue.failing)


class Complaints:
    """Says what fails, once: neither again for the same key nor again for another that fails alike."""

    EVERY = 60.0
    """Seconds between two complaints of different words."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._told: dict[Hashable, str] = {}
        self._last_message = ""
        self._last_at = float("-inf")

    def fails(self, key: Hashable, message: str, failing: int) -> None:
        """Log that `key` fails, unless that is known; `failing` is how many keys do."""
        now = self._clock()
        if self._told.get(key) == message or (self._told and message == self._last_message):
            return
        if now - self._last_at < self.EVERY and key not in self._told and self._told:
            return
        self._told[key] = self._last_message = message
        self._last_at = now
        others = f" ({failing - 1} others fail, too)" if failing > 1 else ""
        log.warning("%s %s: %s; trying again%s", self._name, key, message, others)

    def works(self, key: Hashable) -> None:
        """Log that `key` works again, if it was said that it does not."""
        if self._told.pop(key, None):
            log.info("%s %s: works again", self._name, key)
