"""The checksum that etcd appends to its snapshots: SHA-256 of all bytes before it, 32 bytes long.

A database file is whole pages, hence a whole number of 512-byte sectors; what is longer or shorter was cut.
Source: etcd's `Maintenance.Snapshot` and `etcdutl snapshot restore`.
"""

import hashlib
from pathlib import Path

_TRAILER = hashlib.sha256().digest_size
_SECTOR = 512
_CHUNK = 1 << 20


class Checksum:
    """Follows a snapshot's bytes as they pass."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._end = b""

    def update(self, chunk: bytes) -> None:
        """Take note of the next bytes."""
        self.size += len(chunk)
        pending = self._end + chunk
        self._hash.update(pending[:-_TRAILER])
        self._end = pending[-_TRAILER:]

    @property
    def intact(self) -> bool:
        """Whether the bytes so far are a whole snapshot."""
        length = self.size - _TRAILER
        return length > 0 and length % _SECTOR == 0 and self._hash.digest() == self._end


def intact(file: Path) -> bool:
    """Return whether `file` is a whole etcd snapshot; OSError if it cannot be read."""
    checksum = Checksum()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum.update(chunk)
    return checksum.intact
