"""What the controller knows of one kind: a cache by name, with indexes, that says what changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from kubedr_ctrl.kube.objects import Object

T = TypeVar("T", bound=Object)


class Change(Enum):
    """What happened to an object."""

    ADDED = "added"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True)
class Delta(Generic[T]):
    """One change: of a deleted object, its last known state."""

    change: Change
    object: T


class Store(Generic[T]):
    """Objects by name. Only the informer writes; anybody reads."""

    def __init__(self, indexes: dict[str, Callable[[T], str | None]] | None = None) -> None:
        """`indexes` maps an index's name to what an object is found by in it, None for not at all."""
        self._objects: dict[str, T] = {}
        self._key_of = indexes or {}
        self._indexed: dict[str, dict[str, dict[str, T]]] = {name: {} for name in self._key_of}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._objects.values()))

    def get(self, name: str) -> T | None:
        """Return the object of that name, if there is one."""
        return self._objects.get(name)

    def by(self, index: str, key: str) -> tuple[T, ...]:
        """Return the objects that `index` finds under `key`."""
        return tuple(self._indexed[index].get(key, {}).values())

    def put(self, item: T) -> tuple[Delta[T], ...]:
        """Keep `item`; a namesake of another UID is a deletion and an addition, the same version nothing."""
        old = self._objects.get(item.metadata.name)
        if old is not None and old.metadata.uid != item.metadata.uid:
            return (*self.drop(item.metadata.name), *self.put(item))
        if old is not None and old.metadata.resource_version == item.metadata.resource_version:
            return ()
        if old is not None:
            self._unindex(old)
        self._objects[item.metadata.name] = item
        for index, key_of in self._key_of.items():
            if (key := key_of(item)) is not None:
                self._indexed[index].setdefault(key, {})[item.metadata.name] = item
        return (Delta(Change.ADDED if old is None else Change.UPDATED, item),)

    def drop(self, name: str) -> tuple[Delta[T], ...]:
        """Forget the object of that name."""
        old = self._objects.pop(name, None)
        if old is None:
            return ()
        self._unindex(old)
        return (Delta(Change.DELETED, old),)

    def replace(self, items: Iterable[T], keep: Iterable[str] = ()) -> tuple[Delta[T], ...]:
        """Make `items` all there is, but for the names in `keep`, of which nothing new is known."""
        listed = list(items)
        present = {item.metadata.name for item in listed} | set(keep)
        gone = [delta for name in list(self._objects) if name not in present for delta in self.drop(name)]
        return (*gone, *(delta for item in listed for delta in self.put(item)))

    def _unindex(self, item: T) -> None:
        for index, key_of in self._key_of.items():
            if (key := key_of(item)) is not None:
                bucket = self._indexed[index][key]
                del bucket[item.metadata.name]
                if not bucket:
                    del self._indexed[index][key]
