"""Whether the API server answers, said once when it has not for a while, and once when it does again."""

import asyncio
import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds without any answer before it is worth a word: a server that restarts behind a balancer takes less."""


class Outage:
    """What all requests together tell of the server."""

    def __init__(self, server: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._since: float | None = None
        self.lasts = False
        """Whether it has been said that the server does not answer."""
        self._over = asyncio.Event()

    def failed(self, error: object) -> None:
        """Take note of a request without an answer, or with one that says that the server is in trouble."""
        now = self._clock()
        if self._since is None:
            self._since = now
        elif not self.lasts and now - self._since >= PATIENCE:
            self.lasts = True
            log.warning("the API server at %s does not serve; trying again until it does: %s", self._server, error)

    def answered(self) -> None:
        """Take note of a request that was served, or refused for a reason of its own."""
        if self.lasts and self._since is not None:
            log.info("the API server at %s serves again, after %.0f s", self._server, self._clock() - self._since)
            self._over.set()
            self._over = asyncio.Event()
        self._since, self.lasts = None, False

    async def pause(self, seconds: float) -> bool:
        """Wait so long, but not beyond the end of an outage that lasts; return whether one ended."""
        if not self.lasts:
            await asyncio.sleep(seconds)
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True
