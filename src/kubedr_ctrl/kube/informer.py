"""A cache of one kind, kept true by LIST and WATCH.

- The initial list is streamed where the server offers it, and read in pages where not; a watch goes on from the
  list's version, and bookmarks move the version on.
- Too old a version, in the status line or inside the stream, means: list anew.
- A server in trouble is left alone for 0.8 s, doubling up to 30 s; the version is kept, so nothing is missed.
- A stream that is silent for longer than bookmarks usually allow may be half open and is resumed; one that never said
  a word lists anew, as its version may lie in the future of a server that was restored from a backup.
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
from kubedr_ctrl.kube.errors import (
    ApiError,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    Silent,
    TooManyRequests,
    Undecodable,
    Unreachable,
    error_from,
)
from kubedr_ctrl.kube.lines import split_lines
from kubedr_ctrl.kube.objects import Object
from kubedr_ctrl.kube.store import Delta, Store

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)
H = TypeVar("H")

PAGE_LIMIT = 500
SILENCE = 90.0
"""Seconds. API servers send a bookmark about once a minute; on an idle cluster it can take twice as long."""
WATCH_TIMEOUT = (300, 600)
"""Seconds after which the server ends a watch by itself; drawn at random, so that watches do not end as one."""
SHORT_WATCH = 1.0
"""Seconds. A watch that ends sooner is a sign of trouble; without an event, its version is of no use."""
LONGEST_PAUSE = 2.0
"""Seconds between two watches that are short, but bring something."""
INITIAL_STREAM = 60.0
"""Seconds within which a streamed list has to be complete; a server that knows no such lists never says so."""
LASTING = 10.0
"""Seconds after which a refusal is worth a word: some mend themselves, as those of a server that starts."""
LASTING_TROUBLE = 60.0
"""Seconds after which trouble with the server is, where others have none and the client therefore says nothing."""
WEDGED = 300.0
"""Seconds without a step after which the loop counts as wedged: no wait of its own is half as long."""


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
        self.failing_since: float | None = None
        """Since when, by the loop's clock, the kind cannot be read."""
        self.resource = resource
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._random = rng or random.Random()
        self._backoff = Backoff(first=0.8, limit=30.0, rng=self._random)
        self._handlers: list[Callable[[Delta[T]], None]] = []
        self._unreadable_handlers: list[Callable[[Unreadable], None]] = []
        self._version = ""
        self._streams_lists = True
        self._pages_next = False
        self._stepped_at = float("inf")
        self._told = False
        self._told_garbage = False

    def on_change(self, handler: Callable[[Delta[T]], None]) -> Callable[[], None]:
        """Call `handler` for each change until what is returned is called; it must not block and must not raise."""
        self._handlers.append(handler)
        return lambda: self._handlers.remove(handler)

    def on_unreadable(self, handler: Callable[[Unreadable], None]) -> Callable[[], None]:
        """Call `handler`, likewise, for each object that does not fit our model, those at hand included."""
        self._unreadable_handlers.append(handler)
        for entry in self.unreadable.values():
            handler(entry)
        return lambda: self._unreadable_handlers.remove(handler)

    def wedged(self) -> str:
        """Return in words that the loop hangs; empty while it does not."""
        still = asyncio.get_running_loop().time() - self._stepped_at
        return f"the watch of {self.resource.plural} has hung for {still:.0f} s" if still > WEDGED else ""

    async def run(self) -> None:
        """Keep the store true until cancelled."""
        self._step()
        while True:
            try:
                if not self._version and (self._pages_next or not self._streams_lists):
                    self._pages_next = False
                    await self._list()
                wait = await self._watch()
            except Gone:
                # Once in a while is how things are; again and again is a fault.
                self._version = ""
                wait = self._backoff.next() if self._backoff.failures else 0.0
                self._backoff.failures = max(self._backoff.failures, 1)
            except Silent:
                wait = 0.0
            except NotFound as error:
                self._version = ""
                wait = self._failed("is not served: is its CustomResourceDefinition installed?", error)
            except Undecodable as error:
                self._version = ""
                wait = self._failed_garbled(error)
            except (ApiError, Unreachable) as error:
                wait = self._failed("cannot be read", error)
            self._step()
            if await self._client.outage.pause(wait):
                self._backoff.reset()
                await asyncio.sleep(self._random.uniform(0.0, 1.0))

    async def _list(self) -> None:
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
            self._step()
            items += page.items
            unreadable += page.unreadable
            token, version = page.continue_token, page.resource_version
            if not token:
                break
        self._replace(items, unreadable, version)

    async def _watch(self) -> float:
        """Follow one watch to its end; return how long to wait before the next one."""
        loop = asyncio.get_running_loop()
        lines, changes, opened = 0, 0, float("inf")
        settled: asyncio.TimerHandle | None = None
        streamed = not self._version
        initial = _InitialList[T]() if streamed else None
        try:
            async with (
                asyncio.timeout(INITIAL_STREAM if initial else None) as limit,
                self._client.stream(
                    self.resource.path(self._namespace), self._parameters(), silence=SILENCE
                ) as content,
            ):
                opened = loop.time()
                settled = loop.call_later(SHORT_WATCH, self._answered)
                async for line in split_lines(content.iter_any()):
                    self._step()
                    lines += 1
                    if initial is None:
                        self._take(line)
                        self._answered()
                        changes += 1
                    elif version := initial.take(line, self.resource):
                        self._replace(initial.items, initial.unreadable, version)
                        initial = None
                        limit.reschedule(None)
        except Silent:
            if not lines:
                self._version = ""
            raise
        except (Invalid, TimeoutError) as error:
            if initial is None:
                raise
            why = "streams no lists" if isinstance(error, Invalid) else f"ends none within {INITIAL_STREAM:.0f} s"
            log.info("%s are listed in pages from now on, as the server %s", self.resource.plural, why)
            self._streams_lists = False
            return 0.0
        finally:
            if lasted := loop.time() - opened >= SHORT_WATCH:
                self._backoff.reset()
            if settled is not None:
                settled.cancel()
        self._pages_next = initial is not None
        if lasted:
            self._told_garbage = False
            return self._random.uniform(0.1, 0.3)
        if not changes and not streamed:
            self._version = ""
            return self._backoff.next()
        return min(self._backoff.next(), LONGEST_PAUSE)

    def _parameters(self) -> dict[str, str]:
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._random.randint(*WATCH_TIMEOUT)),
            "labelSelector": self._selector,
        }
        if self._version:
            return parameters | {"resourceVersion": self._version}
        return parameters | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}

    def _replace(self, items: list[T], unreadable: list[Unreadable], version: str) -> None:
        self.relists += 1
        self._answered()
        for name in self.unreadable.keys() - {entry.metadata.name for entry in unreadable}:
            del self.unreadable[name]
        for entry in unreadable:
            self._take_unreadable(entry)
        self._tell(self.store.replace(items, keep=self.unreadable))
        self._version = version
        self.synced.set()

    def _take(self, line: bytes) -> None:
        event = decode_line(line, self.resource.decode)
        if isinstance(event, Bookmark):
            self._version = event.resource_version
        elif isinstance(event, bytes):
            error = error_from(0, event)
            if not isinstance(error, TooManyRequests):
                self._version = ""  # what the server could not send is in the list, or the list says what is wrong
            raise error
        else:
            item, name = event.object, event.object.metadata.name
            self._version = item.metadata.resource_version
            if event.type == "DELETED":
                self.unreadable.pop(name, None)
                self._tell(self.store.drop(name))
            elif isinstance(item, Unreadable):
                self._take_unreadable(item)
            else:
                self.unreadable.pop(name, None)
                self._tell(self.store.put(item))

    def _take_unreadable(self, entry: Unreadable) -> None:
        name = entry.metadata.name
        before = self.unreadable.get(name)
        self.unreadable[name] = entry
        if before is None or before.error != entry.error:
            log.warning("%s/%s cannot be understood: %s", self.resource.plural, name, entry.error)
        for handler in tuple(self._unreadable_handlers):
            _guarded(handler, entry)

    def _tell(self, deltas: tuple[Delta[T], ...]) -> None:
        for delta in deltas:
            for handler in tuple(self._handlers):
                _guarded(handler, delta)

    def _step(self) -> None:
        self._stepped_at = asyncio.get_running_loop().time()

    def _failed(self, what: str, error: Exception) -> float:
        now = asyncio.get_running_loop().time()
        self.failing_since = self.failing_since or now
        trouble = isinstance(error, Unreachable | ServerError | TooManyRequests)
        lasts = now - self.failing_since >= (LASTING_TROUBLE if trouble else LASTING)
        if lasts and not self._told and not self._client.outage.lasts:
            self._told = True
            log.warning("%s %s; trying again until it can: %s", self.resource.plural, what, error)
        retry_after = getattr(error, "retry_after", None) or 0.0
        return max(self._backoff.next(), min(retry_after, 60.0))

    def _answered(self) -> None:
        self.failing_since = None
        if self._told:
            self._told = False
            log.info("%s can be read again", self.resource.plural)

    def _failed_garbled(self, error: Undecodable) -> float:
        """Count what cannot be understood, and log the first of it."""
        self.undecodable_lines += 1
        self.failing_since = self.failing_since or asyncio.get_running_loop().time()
        if not self._told_garbage:
            self._told_garbage = True
            log.warning("%s: %s; listing anew, and saying no more of the like", self.resource.plural, error)
        return self._backoff.next()


def _guarded(handler: Callable[[H], None], news: H) -> None:
    """Call a handler; a fault of one must not end the watch that all others live by."""
    try:
        handler(news)
    except Exception:
        log.exception("a fault of this program, met with %r", news)


class _InitialList(Generic[T]):
    """A list as it is streamed: additions, and what happens to them meanwhile, then the bookmark that ends it."""

    def __init__(self) -> None:
        self._objects: dict[str, T | Unreadable] = {}

    @property
    def items(self) -> list[T]:
        return [item for item in self._objects.values() if not isinstance(item, Unreadable)]

    @property
    def unreadable(self) -> list[Unreadable]:
        return [item for item in self._objects.values() if isinstance(item, Unreadable)]

    def take(self, line: bytes, resource: Resource[T]) -> str:
        """Take in one line; return the list's version with the last one, nothing before."""
        event = decode_line(line, resource.decode)
        if isinstance(event, bytes):
            raise error_from(0, event)
        if isinstance(event, Bookmark):
            return event.resource_version if event.ends_initial_list else ""
        if event.type == "DELETED":
            self._objects.pop(event.object.metadata.name, None)
        else:
            self._objects[event.object.metadata.name] = event.object
        return ""
