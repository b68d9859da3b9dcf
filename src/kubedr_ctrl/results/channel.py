"""The result channel: each Job that ended, to each consumer, until all have acknowledged it.

The channel holds keys, not results: a consumer reads the result anew from the server, so a slow consumer
makes nothing grow but a set of keys. A consumer that fails goes on trying with a back-off of its own and does
not hold up the others; the Job keeps our finalizer until all are done, so nothing is lost with the process.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.controller import Controller
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


def _queue() -> WorkQueue[JobKey]:
    return WorkQueue(group=lambda key: (key.operation, key.owner), backoff=lambda: Backoff(first=0.1, limit=30.0))


class ResultChannel:
    """Delivers each result to all consumers, then has the Job marked as recorded."""

    def __init__(self, source: ResultSource, consumers: Sequence[Consumer]) -> None:
        self._source = source
        self._owed: dict[JobKey, set[str]] = {}
        self._controllers = {consumer.name: self._controller(consumer) for consumer in consumers}
        self._finisher = Controller("result-finisher", self._finish, queue=_queue())

    def deliver(self, key: JobKey) -> None:
        """Have every consumer that has not acknowledged `key` take it in. May be called again for the same."""
        owed = self._owed.setdefault(key, set(self._controllers))
        for name in owed:
            self._controllers[name].queue.add(key)
        if not owed:
            self._finisher.queue.add(key)

    def outstanding(self) -> dict[str, int]:
        """Return for each consumer how many results it has yet to acknowledge."""
        counts = dict.fromkeys(self._controllers, 0)
        for owed in self._owed.values():
            for name in owed:
                counts[name] += 1
        return counts

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as group:
            for controller in (*self._controllers.values(), self._finisher):
                group.create_task(controller.run(), name=controller.name)

    def _controller(self, consumer: Consumer) -> Controller[JobKey]:
        async def consume(key: JobKey) -> None:
            await consumer.consume(key)
            owed = self._owed.get(key, set())
            owed.discard(consumer.name)
            if not owed:
                self._finisher.queue.add(key)

        return Controller(consumer.name, consume, queue=_queue())

    async def _finish(self, key: JobKey) -> None:
        await self._source.mark_recorded(key)
        self._owed.pop(key, None)
