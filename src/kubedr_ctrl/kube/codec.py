"""The seam between bytes and objects: lists, and single lines of a watch.

What is read here: JSON. The objects themselves are decoded by the `Resource` they belong to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from kubedr_ctrl.kube.errors import Undecodable
from kubedr_ctrl.kube.objects import Named, Object, ObjectMeta

T = TypeVar("T", bound=Object)

DECODE_ERRORS = (ValueError, msgspec.DecodeError, RecursionError)
"""What decoders raise: msgspec its own, pydantic and UTF-8 a ValueError, and what is nested too deeply the last."""


@dataclass(frozen=True)
class Resource(Generic[T]):
    """A kind as the API server serves it, and how to read one object of it."""

    group: str
    version: str
    plural: str
    kind: str
    decode: Callable[[bytes], T]

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, of an object, or of an object's subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (root + scope, self.plural, name, subresource) if part)


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list."""

    items: tuple[T, ...]
    unreadable: tuple["Unreadable", ...]
    resource_version: str
    continue_token: str


@dataclass(frozen=True)
class Unreadable:
    """An object that is there, but not of the shape that our model asks for."""

    metadata: ObjectMeta
    error: str
    raw: bytes


@dataclass(frozen=True)
class WatchEvent(Generic[T]):
    """One line of a watch: ADDED, MODIFIED or DELETED."""

    type: str
    object: T | Unreadable


@dataclass(frozen=True)
class Bookmark:
    """The server's word that everything up to a version has been sent."""

    resource_version: str
    ends_initial_list: bool


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_List)
_LINE = msgspec.json.Decoder(_Line)
_NAMED = msgspec.json.Decoder(Named)

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


def decode_page(body: bytes, decode: Callable[[bytes], T]) -> Page[T]:
    """Return the page that `body` holds; Undecodable if it is no list at all."""
    try:
        page = _LIST.decode(body)
        objects = [_object(bytes(raw), decode) for raw in page.items or ()]
    except DECODE_ERRORS as error:
        msg = f"not a list: {error}"
        raise Undecodable(msg) from error
    items = tuple(item for item in objects if not isinstance(item, Unreadable))
    unreadable = tuple(item for item in objects if isinstance(item, Unreadable))
    return Page(items, unreadable, page.metadata.resource_version, page.metadata.continue_)


def decode_line(line: bytes, decode: Callable[[bytes], T]) -> WatchEvent[T] | Bookmark | bytes:
    """Return what one line of a watch says; for an ERROR, the Status it carries, undecoded.

    Undecodable where the line is not JSON or of a type that Kubernetes does not have.
    """
    try:
        entry = _LINE.decode(line)
        if entry.type in ("ADDED", "MODIFIED", "DELETED"):
            return WatchEvent(entry.type, _object(bytes(entry.object), decode))
        if entry.type == "BOOKMARK":
            metadata = msgspec.json.decode(entry.object, type=_Bookmarked).metadata
            return Bookmark(metadata.resource_version, metadata.annotations.get(INITIAL_EVENTS_END) == "true")
    except DECODE_ERRORS as error:
        msg = f"not a watch event: {error}"
        raise Undecodable(msg) from error
    if entry.type == "ERROR":
        return bytes(entry.object)
    msg = f"unknown watch event type {entry.type!r}"
    raise Undecodable(msg)


class _BookmarkMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] = {}


class _Bookmarked(msgspec.Struct):
    metadata: _BookmarkMeta


def _object(raw: bytes, decode: Callable[[bytes], T]) -> T | Unreadable:
    try:
        return decode(raw)
    except DECODE_ERRORS as error:
        return Unreadable(_NAMED.decode(raw).metadata, str(error), raw)
