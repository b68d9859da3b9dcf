"""A proxy in front of the API server that does to a controller's requests what happens to them on bad days.

It serves from a thread of its own. All its methods but `open_port` may also be called by a function given to `call`.
Watches are expected to be JSON: what is written into them goes between the server's lines.
"""

import asyncio
import re
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from tests.servers.apiserver import ControlPlane
from tests.servers.pki import KeyPair
from tests.servers.process import LOOPBACK, free_port

_PATH = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+/(?:namespaces/[^/]+/(?!(?:status|finalize)$))?"
    r"(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>.+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding"}

T = TypeVar("T")
Response = TypeVar("Response", bound=web.StreamResponse)


@dataclass(frozen=True)
class Request:
    """What a request is about; empty is what it has not."""

    verb: str
    """get, list, watch, create, update, patch or delete."""
    resource: str
    """The plural, such as jobs."""
    subresource: str
    name: str
    agent: str
    """The header User-Agent."""

    @property
    def writes(self) -> bool:
        return self.verb not in ("get", "list", "watch")

    @property
    def kind(self) -> str:
        """What it does to which resources: `patch jobs`, `patch metadatabackuppolicies/status`."""
        return f"{self.verb} {self.resource}{self.subresource and '/'}{self.subresource}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True)
class Seen:
    """A request that was made."""

    at: float
    """When it arrived, by time.monotonic()."""
    request: Request
    status: int
    """What the caller was told; 0 for nothing, or nothing yet."""


Match = Callable[[Request], bool]


def everything(_: Request) -> bool:
    """Match every request."""
    return True


class Silenced(Exception):
    """The server's words are not passed on any more."""


class Exchange:
    """A request that waits for its answer, and what an act can do about that."""

    def __init__(self, caller: web.BaseRequest, upstream: aiohttp.ClientSession, log: list[Seen]) -> None:
        self.request = _request(caller)
        self.stream: aiohttp.StreamReader | None = None
        """What the server says, while this is an open watch."""
        self._stalled = False
        self._released = False
        self._caller = caller
        self._upstream = upstream
        self._log = log
        self._entry = len(log)
        log.append(Seen(time.monotonic(), self.request, 0))

    async def forward(self, *, head: bytes = b"", limit: int = sys.maxsize) -> web.StreamResponse:
        """Pass the request on, and the answer back as it comes: at most `limit` bytes; of a watch, after `head`."""
        async with await self._send() as answer:
            response = await self.tell(
                web.StreamResponse(status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers))
            )
            if self.request.verb == "watch" and answer.status == 200:
                self.say(head)
                self.stream = answer.content
            rest = b""  # of a line
            while limit and (data := await answer.content.readany()):
                lines, end, rest = (rest + data).rpartition(b"\n")
                whole = (lines + end)[:limit]
                await response.write(whole)
                limit -= len(whole)
            await response.write(rest[:limit])
            return response

    async def carry_out(self) -> None:
        """Pass the request on and keep the answer."""
        async with await self._send() as answer:
            await answer.read()

    async def tell(self, response: Response) -> Response:
        """Begin to answer."""
        self._log[self._entry] = replace(self._log[self._entry], status=response.status)
        await response.prepare(self._caller)
        return response

    def say(self, data: bytes) -> None:
        """Write into an open watch."""
        transport = self._caller.transport
        if data and transport and not transport.is_closing():
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))  # a chunk; response.write() would be asynchronous

    def close(self) -> None:
        """Close the connection once all that was written is sent; this ends the act."""
        self.stream = None
        if transport := self._caller.transport:
            transport.close()

    async def cut(self) -> web.StreamResponse:
        self.close()
        return await self.stall()

    def silence(self) -> None:
        """Pass on nothing more of an open watch."""
        if self.stream:
            self.stream.set_exception(Silenced())
            self.stream, self._released = None, False

    async def stall(self) -> web.StreamResponse:
        """Say nothing for as long as the connection lasts."""
        self.stream, self._stalled = None, True
        if self._released:
            self.close()
        never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await never

    def release(self) -> None:
        """Cut it if it is stalled, or else when it would be."""
        self._released = True
        if self._stalled:
            self.close()

    async def _send(self) -> aiohttp.ClientResponse:
        return await self._upstream.request(
            self._caller.method,
            URL(self._caller.raw_path, encoded=True),
            headers=_end_to_end(self._caller.headers),
            data=await self._caller.read() or None,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )


Act = Callable[[Exchange], Awaitable[web.StreamResponse]]


@dataclass(eq=False)
class Fault:
    """What is done to requests that match, at most `times` of them (None: all)."""

    match: Match
    times: int | None
    act: Act
    acted: int = 0
    """How many requests it was done to."""

    def is_for(self, request: Request) -> bool:
        return (self.times is None or self.acted < self.times) and self.match(request)


def refuse(match: Match, *, times: int | None = None) -> Fault:
    """Cut the connection; nothing is passed on."""
    return cut(match, applied=False, times=times)


def cut(match: Match, *, applied: bool, times: int | None = None) -> Fault:
    """Cut the connection instead of an answer; with `applied`, after the server carried the request out."""
    return call(match, lambda _: None, applied=applied, times=times)


def call(match: Match, function: Callable[[Request], object], *, applied: bool, times: int | None = None) -> Fault:
    """As `cut`, and call the function before; nothing else passes the proxy meanwhile."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        if applied:
            await exchange.carry_out()
        function(exchange.request)
        return await exchange.cut()

    return Fault(match, times, act)


def stall(match: Match, *, applied: bool = False, times: int | None = None) -> Fault:
    """Never answer; with `applied`, the server carries the request out."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        if applied:
            await exchange.carry_out()
        return await exchange.stall()

    return Fault(match, times, act)


def cut_body(match: Match, after: int, *, times: int | None = None) -> Fault:
    """Cut the connection when `after` bytes of the answer's body are sent."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await exchange.forward(limit=after)
        return await exchange.cut()

    return Fault(match, times, act)


def stall_body(match: Match, after: int, *, times: int | None = None) -> Fault:
    """Fall silent when `after` bytes of the answer's body are sent."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await exchange.forward(limit=after)
        return await exchange.stall()

    return Fault(match, times, act)


def delay(match: Match, seconds: float, *, times: int | None = None) -> Fault:
    """Pass the request on that much later."""

    async def act(exchange: Exchange) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await exchange.forward()

    return Fault(match, times, act)


def answer(
    match: Match,
    status: int,
    reason: str = "",
    message: str = "",
    *,
    retry_after: int | None = None,
    times: int | None = None,
) -> Fault:
    """Answer with a Status of that code; nothing is passed on."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    async def act(exchange: Exchange) -> web.StreamResponse:
        content = {**body, "code": status, "reason": reason, "message": message}
        return await exchange.tell(web.json_response(content, status=status, headers=headers))

    return Fault(match, times, act)


def inject(match: Match, *lines: bytes, times: int | None = None) -> Fault:
    """Begin a watch with these lines."""
    return Fault(match, times, lambda exchange: exchange.forward(head=b"".join(lines)))


class FaultProxy:
    """Passes requests on to the API server, except for those that faults are for."""

    def __init__(self, plane: ControlPlane, tls: KeyPair | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._port = free_port()
        self.server = f"http{'s' if tls else ''}://{LOOPBACK}:{self._port}"
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if tls else None
        if tls:
            self.serve_with(tls)
        self._faults: list[Fault] = []
        self._log: list[Seen] = []
        self._exchanges: set[Exchange] = set()
        self._web = web.Server(self._serve, handler_cancellation=True, access_log=None, auto_decompress=False)
        self._upstream = aiohttp.ClientSession(
            plane.server,
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=plane.authority.certificate)),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
        )

    def add(self, fault: Fault) -> Fault:
        """Act on requests from now on; of the faults that match, the first acts that is not used up."""
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults, and cut what is stalled or silent."""

        def clear() -> None:
            self._faults.clear()
            for exchange in self._exchanges:
                exchange.release()

        self._do(clear)

    def seen(self, match: Match = everything, since: float = 0.0) -> list[Seen]:
        """Return the requests that arrived, in that order."""
        return [seen for seen in self._log.copy() if seen.at >= since and match(seen.request)]

    def close_port(self) -> None:
        """Be away: connections are cut, and new ones refused."""

        def close() -> None:
            for listening in self._listener.sockets:
                self._loop.remove_reader(listening)
            self._loop.call_soon(self._listener.close)  # after what it accepted became a connection
            # The loop knows those connections, too, whose TLS handshake or farewell is going on.
            for transport in list(vars(self._loop)["_transports"].values()):
                transport.abort()

        self._do(close)

    def open_port(self) -> None:
        """Be back, at the same port."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def serve_with(self, pair: KeyPair) -> None:
        """Show this certificate on new connections."""
        assert self._tls, "the proxy speaks plain HTTP"
        self._do(partial(self._tls.load_cert_chain, pair.certificate, pair.key))

    def inject(self, match: Match, *lines: bytes) -> int:
        """Write these lines into all open watches that match; return how many there are."""
        return self._each(match, lambda watch: watch.say(b"".join(lines)))

    def cut_streams(self, match: Match) -> int:
        """Cut all open watches that match; return how many there were."""
        return self._each(match, Exchange.close)

    def silence(self, match: Match, half_line: bytes = b"") -> int:
        """Write this into all open watches that match, and nothing ever after; return how many there were."""

        def silence(watch: Exchange) -> None:
            watch.say(half_line)
            watch.silence()

        return self._each(match, silence)

    def _each(self, match: Match, act: Callable[[Exchange], None]) -> int:
        def each() -> int:
            watches = [exchange for exchange in self._exchanges if exchange.stream and match(exchange.request)]
            for watch in watches:
                act(watch)
            return len(watches)

        return self._do(each)

    def _do(self, function: Callable[[], T]) -> T:
        """Call the function in the proxy's thread."""
        if threading.get_ident() == self._thread:
            return function()

        async def do() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    async def _serve(self, caller: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(caller, self._upstream, self._log)
        self._exchanges.add(exchange)
        try:
            if not self._listener.is_serving():  # it connected at the last moment
                return await exchange.cut()
            for fault in self._faults:
                if fault.is_for(exchange.request):
                    fault.acted += 1
                    return await fault.act(exchange)
            return await exchange.forward()
        except Silenced:
            return await exchange.stall()
        except (aiohttp.ClientError, OSError):  # the server is away, or cut its answer
            return await exchange.cut()
        finally:
            self._exchanges.remove(exchange)

    async def _listen(self) -> None:
        self._listener = await self._loop.create_server(
            self._web, LOOPBACK, self._port, ssl=self._tls, start_serving=False
        )
        await self._listener.start_serving()

    async def _stop(self) -> None:
        self.close_port()
        await asyncio.sleep(0)
        self.close_port()  # and what it accepted meanwhile
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._upstream.close()


@contextmanager
def fault_proxy(plane: ControlPlane, *, tls: KeyPair | None = None) -> Iterator[FaultProxy]:
    """Run a proxy that serves plain HTTP, or TLS with the certificate given."""

    async def start() -> FaultProxy:
        proxy = FaultProxy(plane, tls)
        await proxy._listen()
        return proxy

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault-proxy", daemon=True)
    thread.start()
    try:
        proxy = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield proxy
        finally:
            asyncio.run_coroutine_threadsafe(proxy._stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _request(caller: web.BaseRequest) -> Request:
    path = _PATH.fullmatch(caller.path)
    resource, name, subresource = path.group("resource", "name", "subresource") if path else ("", "", "")
    verb = _VERBS.get(caller.method)
    if not verb:
        watches = caller.query.get("watch") in ("1", "true")
        verb = "watch" if watches else "list" if resource and not name else "get"
    return Request(verb, resource, subresource or "", name or "", caller.headers.get("User-Agent", ""))


def _end_to_end(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
