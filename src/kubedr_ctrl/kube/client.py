"""Requests to the API server: one method a verb, keyword arguments, typed objects out, typed errors.

Every request has a timeout. Nothing is retried here: who calls knows whether that is safe.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp

from kubedr_ctrl.kube.codec import DECODE_ERRORS, Page, Resource, decode_page
from kubedr_ctrl.kube.credentials import Credentials
from kubedr_ctrl.kube.errors import Silent, Undecodable, Unreachable, error_from
from kubedr_ctrl.kube.objects import Object
from kubedr_ctrl.kube.outage import Outage

T = TypeVar("T", bound=Object)

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
"""Seconds for a whole request, and for the head of a watch's answer."""
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

Manifest = Mapping[str, Any]


class Client:
    """A connection pool to one API server. Enter it before use."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        user_agent: str,
        on_request: Callable[[str, int], None] = lambda *_: None,
        outage: Outage | None = None,
    ) -> None:
        """`on_request` is told the verb and the HTTP status of each request, 0 where there was no answer.

        `outage` is shared by clients of the same server, so that what is true of it is said once.
        """
        self.outage = outage or Outage(credentials.server)
        self.before_write: Callable[[], None] = lambda: None
        """Called right before anything that writes is sent; what it raises keeps it from being sent."""
        self._credentials = credentials
        self._user_agent = user_agent
        self._on_request = on_request
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Client":
        connector = aiohttp.TCPConnector(limit=100, ttl_dns_cache=10)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": self._user_agent})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def get(self, resource: Resource[T], namespace: str | None, name: str) -> T:
        """Return the object as the server has it now; NotFound if it has none."""
        return _decoded(await self._request("GET", resource.path(namespace, name)), resource)

    async def list_page(
        self,
        resource: Resource[T],
        namespace: str,
        *,
        selector: str = "",
        limit: int = 500,
        continue_token: str = "",
    ) -> Page[T]:
        """Return one page of a list; Gone if `continue_token` is too old."""
        params = {"limit": str(limit), "labelSelector": selector, "continue": continue_token}
        body = await self._request("GET", resource.path(namespace), params=params)
        return decode_page(body, resource.decode)

    async def create(self, resource: Resource[T], namespace: str | None, manifest: Manifest) -> T:
        """Create the object; AlreadyExists if one of that name is there."""
        return _decoded(await self._request("POST", resource.path(namespace), body=manifest), resource)

    async def apply(self, resource: Resource[T], namespace: str, manifest: Manifest, *, manager: str) -> T:
        """Create the object or bring the fields in `manifest` to their value (server-side apply)."""
        path = resource.path(namespace, manifest["metadata"]["name"])
        params = {"fieldManager": manager, "force": "true"}
        return _decoded(await self._request("PATCH", path, params=params, body=manifest, type_=APPLY_PATCH), resource)

    async def patch(
        self,
        resource: Resource[T],
        namespace: str,
        name: str,
        patch: Manifest,
        *,
        subresource: str | None = None,
    ) -> T:
        """Merge `patch` into the object; Conflict if it names a resourceVersion or UID that is not the server's."""
        path = resource.path(namespace, name, subresource)
        return _decoded(await self._request("PATCH", path, body=patch, type_=MERGE_PATCH), resource)

    async def replace(self, resource: Resource[T], namespace: str, name: str, path: str, value: Manifest) -> T:
        """Put `value` in the place of all that stands at `path`, such as /spec."""
        operations = [{"op": "replace", "path": path, "value": value}]
        target = resource.path(namespace, name)
        return _decoded(await self._request("PATCH", target, body=operations, type_=JSON_PATCH), resource)

    async def delete(self, resource: Resource[T], namespace: str, name: str, *, uid: str) -> None:
        """Delete the object and, in the background, what it owns; Conflict if its UID is another."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        await self._request("DELETE", resource.path(namespace, name), body=options)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, silence: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open a watch and yield its body, in which a pause of more than `silence` seconds is an error."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_read=silence)
        async with self._response("WATCH", "GET", path, params=params, limits=timeout) as response:
            if response.status >= 400:
                raise error_from(response.status, await response.read(), response.headers.get("Retry-After"))
            yield response.content

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Manifest | Sequence[Manifest] | None = None,
        type_: str = "application/json",
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT, connect=CONNECT_TIMEOUT)
        async with self._response(
            method, method, path, params=params, limits=timeout, body=body, type_=type_
        ) as response:
            answer = await response.read()
            if response.status >= 400:
                raise error_from(response.status, answer, response.headers.get("Retry-After"))
            return answer

    @asynccontextmanager
    async def _response(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None,
        limits: aiohttp.ClientTimeout,
        body: Manifest | Sequence[Manifest] | None = None,
        type_: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            msg = "the client is used outside of its 'async with' block"
            raise RuntimeError(msg)
        answered = False
        try:
            # aiohttp bounds the wait for a connection and between two reads, but not that for the answer's head.
            async with asyncio.timeout(REQUEST_TIMEOUT) as head:
                headers = await self._credentials.headers()
                tls = self._credentials.tls() or True
                if method != "GET":
                    self.before_write()
                request = self._session.request(
                    method,
                    self._credentials.server + path,
                    params={key: value for key, value in (params or {}).items() if value},
                    data=None if body is None else json.dumps(body),
                    headers={"Content-Type": type_, "Accept": "application/json", **headers},
                    ssl=tls,
                    timeout=limits,
                )
                async with request as response:
                    answered = True
                    head.reschedule(None)
                    self._answered(verb, response)
                    yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            msg = f"{method} {path}: {str(error) or type(error).__name__}"
            if not answered:
                self._on_request(verb, 0)
            elif verb == "WATCH":  # ends now and then; only its silence is told apart
                raise (Silent if isinstance(error, TimeoutError) else Unreachable)(msg) from error
            self.outage.failed(msg)
            raise Unreachable(msg) from error

    def _answered(self, verb: str, response: aiohttp.ClientResponse) -> None:
        self._on_request(verb, response.status)
        if response.status >= 500 or response.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.outage.failed(f"{response.method} {response.url.path}: {response.status} {response.reason}")
        else:
            self.outage.answered()


def _decoded(body: bytes, resource: Resource[T]) -> T:
    try:
        return resource.decode(body)
    except DECODE_ERRORS as error:
        msg = f"not a {resource.kind}: {error}"
        raise Undecodable(msg) from error
