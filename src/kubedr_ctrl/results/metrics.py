"""The metrics and how they are rendered: names, labels, buckets, and the guard around aioprometheus.

aioprometheus writes label values, HELP texts and numbers as they come. `Gauge` and `Counter` here are the one
place through which values pass: labels are escaped, and only numbers are let through.
"""

import os
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from aioprometheus.collectors import Counter as _Counter
from aioprometheus.collectors import Gauge as _Gauge
from aioprometheus.collectors import Histogram as _Histogram
from aioprometheus.collectors import Registry
from aioprometheus.formats import text
from aioprometheus.histogram import Histogram as _Buckets

Labels = Mapping[str, str]


def escape(value: str) -> str:
    """Return a label's value as the Prometheus text format wants it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escaped(labels: Labels) -> dict[str, str]:
    return {name: escape(value) for name, value in labels.items()}


class _Series:
    """One metric with its series, each of which can be set and can go away."""

    def __init__(self, collector: _Counter | _Gauge | _Histogram) -> None:
        self._collector = collector

    def remove(self, labels: Labels) -> None:
        """Have the series go away; nothing happens if there is none."""
        try:
            del self._collector.values[_escaped(labels)]  # type: ignore[no-untyped-call]
        except KeyError:
            return

    def clear(self) -> None:
        """Have all series go away."""
        self._collector.values.store.clear()


class Gauge(_Series):
    """A value that goes up and down."""

    def __init__(self, registry: Registry, name: str, doc: str) -> None:
        super().__init__(_Gauge(name, doc, registry=registry))

    def set(self, labels: Labels, value: float) -> None:
        """Set the series to `value`."""
        self._collector.set_value(_escaped(labels), float(value))


class Counter(_Series):
    """A total that is kept elsewhere, in a status for example, and shown here."""

    def __init__(self, registry: Registry, name: str, doc: str) -> None:
        super().__init__(_Counter(name, doc, registry=registry))

    def set(self, labels: Labels, value: int) -> None:
        """Show the total `value`."""
        self._collector.set_value(_escaped(labels), int(value))

    def increase(self, labels: Labels) -> None:
        """Add one, for totals that live with the process."""
        assert isinstance(self._collector, _Counter)  # noqa: S101 - narrows the type
        self._collector.inc(_escaped(labels))


class Histogram(_Series):
    """A distribution whose counts are kept elsewhere and shown here."""

    def __init__(self, registry: Registry, name: str, doc: str, bounds: tuple[float, ...]) -> None:
        super().__init__(_Histogram(name, doc, registry=registry, buckets=list(bounds)))
        self._bounds = bounds

    def set(self, labels: Labels, counts: tuple[int, ...], total: float) -> None:
        """Show `counts`, one for each bound and one for what is beyond, and the sum of all observations."""
        buckets = _Buckets(*self._bounds)
        buckets.buckets = dict(zip((*map(float, self._bounds), float("inf")), accumulate(counts), strict=True))
        buckets.observations = sum(counts)
        buckets.sum = float(total)
        self._collector.set_value(_escaped(labels), buckets)


def resident_memory_bytes() -> int:
    """Return how much memory this process holds (RSS), from proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def render(registry: Registry) -> bytes:
    """Return all metrics in Prometheus' text format 0.0.4, of content type `CONTENT_TYPE`."""
    return bytes(text.TextFormatter().marshall(registry))


CONTENT_TYPE = text.TEXT_CONTENT_TYPE
