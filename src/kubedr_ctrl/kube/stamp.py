"""Whether files are still those that were read, without reading them."""

from pathlib import Path

Stamp = tuple[tuple[int, int], ...]


def stamp_of(*paths: str | Path) -> Stamp:
    """Return what changes when one of the files does; symbolic links, as the kubelet swaps them, are followed."""
    stats = [Path(path).stat() for path in paths]
    return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)
