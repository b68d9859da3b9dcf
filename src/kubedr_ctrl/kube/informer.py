"""A cache of one kind, kept true by LIST and WATCH.

- A list is read in pages, a watch goes on from the list's version; bookmarks move the version on.
- Too old a version, in the status line or inside the stream, means: list anew.
- A server in trouble is left alone for 0.8 s, doubling up to 30 s; the version is kept, so nothing is missed.
- A stream that is silent for longer than bookmarks usually allow may be half open and is resumed.
- What a list no longer has is a deletion; a new UID under an old name is a deletion and an addition.
- A line that cannot be understood is logged and counted, and the next list puts right what it may have said.
- Every wait has an end; nothing that the server does makes the loop spin.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Generic, TypeVar

from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Bookmark, Resource, Unreadable, decode_line
from kubedr_ctrl.kube.errors import ApiError, Gone, NotFound, Silent, Undecodable, Unreachable, error_from
from kubedr_ctrl.kube.lines import split_lines
from kubedr_ctrl.kube.objects import Object
from kubedr_ctrl.kube.store import Delta, Store

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)

PAGE_LIMIT = 500
SILENCE = 90.0
"""Seconds. API servers send a bookmark about once a minute; on an idle cluster it can take twice as long."""
WATCH_TIMEOUT = (300, 600)
"""Seconds after which the server ends a watch by itself; drawn at random, so that watches do not end as one."""
SHORT_WATCH = 1.0
"""Seconds. A watch that ends sooner without an event tells that its version is of no use."""


class Informer(Generic[T]):
    """Keeps `store` equal to what the server has, and tells handlers what changed."""

    def __init__(
        self,
        client: Client,
        resource: Resource[T],
        namespace: str,
        *,
        selector: str = "",
        indexes: dict[str, Callable[[T], str | None]] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.store: Store[T] = Store(indexes)
        self.synced = asyncio.Event()
        """Set once the store has held a whole list."""
        self.unreadable: dict[str, Unreadable] = {}
        """Objects that do not fit our model, by name; the store keeps what it last knew of them."""
        self.undecodable_lines = 0
        self.relists = 0
        self._client = client
        self.resource = resource
        self._namespace = namespace
        self._selector = selector
        self._random = rng or random.Random()
        self._backoff = Backoff(first=0.8, limit=30.0, rng=self._random)
        self._handlers: list[Callable[[Delta[T]], None]] = []
        self._version = ""
        self._failing = False

    def on_change(self, handler: Callable[[Delta[T]], None]) -> None:
        """Call `handler` for each change from now on; it must not block and must not raise."""
        self._handlers.append(handler)

    async def run(self) -> None:
        """Keep the store true until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                wait = await self._watch()
            except Gone:
                # Once in a while is how things are; again and again without an event in between is a fault.
                self._version = ""
                wait = self._backoff.next() if self._backoff.failures else 0.0
                self._backoff.failures += 1
            except Silent:
                wait = 0.0
            except NotFound as error:
                self._version = ""
                wait = self._failed("is not served: is its CustomResourceDefinition installed?", error)
            except (ApiError, Unreachable, Undecodable) as error:
                wait = self._failed("cannot be read", error)
            await asyncio.sleep(wait)

    async def _list(self) -> None:
        self.relists += 1
        items: list[T] = []
        unreadable: list[Unreadable] = []
        token, version = "", ""
        while True:
            page = await self._client.list_page(
                self.resource,
                self._namespace,
                selector=self._selector,
                limit=PAGE_LIMIT,
                continue_token=token,
            )
            items += page.items
            unreadable += page.unreadable
            token, version = page.continue_token, page.resource_version
            if not token:
                break
        self.unreadable = {entry.metadata.name: entry for entry in unreadable}
        for entry in unreadable:
            self._log_unreadable(entry)
        self._tell(self.store.replace(items, keep=self.unreadable))
        self._version = version
        self._readable_again()
        self.synced.set()

    async def _watch(self) -> float:
        """Follow one watch to its end; return how long to wait before the next one."""
        loop = asyncio.get_running_loop()
        began, events = loop.time(), 0
        params = {
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._random.randint(*WATCH_TIMEOUT)),
            "labelSelector": self._selector,
        }
        path = self.resource.path(self._namespace)
        async with self._client.stream(path, params, silence=SILENCE) as content:
            async for line in split_lines(content.iter_any()):
                self._take(line)
                events += 1
                self._backoff.reset()
                self._readable_again()
        if not events and loop.time() - began < SHORT_WATCH:
            self._version = ""
            return self._backoff.next()
        return self._random.uniform(0.1, 0.3)

    def _take(self, line: bytes) -> None:
        try:
            event = decode_line(line, self.resource.decode)
        except Undecodable as error:
            self.undecodable_lines += 1
            self._version = ""
            msg = f"watch of {self.resource.plural}: {error}"
            raise Undecodable(msg) from error
        if isinstance(event, Bookmark):
            self._version = event.resource_version
        elif isinstance(event, bytes):
            raise error_from(0, event)
        elif isinstance(event.object, Unreadable):
            self._version = event.object.metadata.resource_version
            self._take_unreadable(event.type, event.object)
        else:
            item = event.object
            self._version = item.metadata.resource_version
            self.unreadable.pop(item.metadata.name, None)
            self._tell(self.store.drop(item.metadata.name) if event.type == "DELETED" else self.store.put(item))

    def _take_unreadable(self, type_: str, entry: Unreadable) -> None:
        name = entry.metadata.name
        if type_ == "DELETED":
            self.unreadable.pop(name, None)
            self._tell(self.store.drop(name))
        else:
            self.unreadable[name] = entry
            self._log_unreadable(entry)

    def _log_unreadable(self, entry: Unreadable) -> None:
        log.warning("%s/%s cannot be understood: %s", self.resource.plural, entry.metadata.name, entry.error)

    def _tell(self, deltas: tuple[Delta[T], ...]) -> None:
        for delta in deltas:
            for handler in self._handlers:
                handler(delta)

    def _failed(self, what: str, error: Exception) -> float:
        if not self._failing:
            self._failing = True
            log.warning("%s %s; trying again until it can: %s", self.resource.plural, what, error)
        retry_after = getattr(error, "retry_after", None) or 0.0
        return max(self._backoff.next(), min(retry_after, 60.0))

    def _readable_again(self) -> None:
        if self._failing:
            self._failing = False
            log.info("%s can be read again", self.resource.plural)
