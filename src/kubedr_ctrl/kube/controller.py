"""A queue and the workers that empty it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from kubedr_ctrl.kube.errors import ApiError, Conflict, Undecodable, Unreachable
from kubedr_ctrl.kube.workqueue import WorkQueue

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class NotYet(Exception):
    """What the work needs is not there yet; try again soon, and say nothing about it."""


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
    ) -> None:
        self.name = name
        self.queue = queue
        self._process = process
        self._workers = workers
        self._complaints: dict[K, str] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                after = await self._process(key)
            except (Conflict, NotYet):
                self.queue.retry(key)
            except (ApiError, Unreachable, Undecodable) as error:
                self._complain(key, str(error))
                self.queue.retry(key)
            except Exception:
                log.exception("%s %s: a fault of this program", self.name, key)
                self.queue.retry(key)
            else:
                self.queue.forget(key)
                if self._complaints.pop(key, None):
                    log.info("%s %s: works again", self.name, key)
                if after is not None:
                    self.queue.add_after(key, after)
            finally:
                self.queue.done(key)

    def _complain(self, key: K, message: str) -> None:
        if self._complaints.get(key) != message:
            self._complaints[key] = message
            log.warning("%s %s: %s; trying again", self.name, key, message)
