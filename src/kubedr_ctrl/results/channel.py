"""The result channel: each Job that ended, to each consumer, until all have acknowledged it.

The channel holds keys, not results: a consumer reads the result anew from the server, so a slow consumer
makes nothing grow but a set of keys. A consumer that fails goes on trying with a back-off of its own and does
not hold up the others; the Job keeps our finalizer until all are done, so nothing is lost with the process.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.controller import Controller
from kubedr_ctrl.kube.outage import Outage
from kubedr_ctrl.kube.workqueue import WorkQueue
from kubedr_ctrl.results.harvest import JobKey
from kubedr_ctrl.results.source import ResultSource


class Consumer(Protocol):
    """Somebody who takes in results."""

    @property
    def name(self) -> str:
        """What the consumer is called in logs and metrics."""

    async def consume(self, key: JobKey) -> None:
        """Take in the result of a Job; returning is the acknowledgement. May be called again for the same."""


@dataclass(frozen=True)
class Backlog:
    """What one consumer has yet to acknowledge."""

    results: int
    oldest: float
    """Seconds since the oldest of them was delivered."""


class ResultChannel:
    """Delivers each result to all consumers, then has the Job marked as recorded."""

    def __init__(
        self,
        source: ResultSource,
        consumers: Sequence[Consumer],
        *,
        outage: Outage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._outage = outage
        self._clock = clock
        self._owed: dict[str, dict[JobKey, float]] = {consumer.name: {} for consumer in consumers}
        """By consumer: the results it owes an acknowledgement, and since when."""
        self._delivered: set[JobKey] = set()
        self._consuming = {consumer.name: self._controller(consumer) for consumer in consumers}
        self._finisher = Controller("result-finisher", self._finish, queue=_queue(), outage=outage)

    def __contains__(self, key: JobKey) -> bool:
        """Return whether `key` is on its way already."""
        return key in self._delivered

    def deliver(self, key: JobKey) -> None:
        """Have every consumer take `key` in, unless it is on its way already: each goes on until it has."""
        if key in self._delivered:
            return
        self._delivered.add(key)
        for name, owed in self._owed.items():
            owed[key] = self._clock()
            self._consuming[name].queue.add(key)

    def backlog(self) -> dict[str, Backlog]:
        """Return for each consumer what it has yet to acknowledge."""
        now = self._clock()
        return {name: Backlog(len(owed), now - next(iter(owed.values()), now)) for name, owed in self._owed.items()}

    def controllers(self) -> Iterator[Controller[JobKey]]:
        """Yield the consumers' loops, and that which has the Jobs marked."""
        yield from self._consuming.values()
        yield self._finisher

    async def run(self) -> None:
        """Deliver until the queues are shut down."""
        async with asyncio.TaskGroup() as group:
            for controller in self.controllers():
                group.create_task(controller.run(), name=controller.name)

    def _controller(self, consumer: Consumer) -> Controller[JobKey]:
        async def consume(key: JobKey) -> None:
            await consumer.consume(key)
            self._owed[consumer.name].pop(key, None)
            self._finish_if_acknowledged(key)

        return Controller(consumer.name, consume, queue=_queue(), outage=self._outage)

    def _finish_if_acknowledged(self, key: JobKey) -> None:
        if not any(key in owed for owed in self._owed.values()):
            self._finisher.queue.add(key)

    async def _finish(self, key: JobKey) -> None:
        await self._source.mark_recorded(key)
        self._delivered.discard(key)


def _queue() -> WorkQueue[JobKey]:
    """Return a queue in which the owners of results take turns."""
    return WorkQueue(group=lambda key: (key.operation, key.owner), backoff=lambda: Backoff(first=0.1, limit=30.0))
