"""The metrics and how they are rendered: names, labels, buckets, and the guard around aioprometheus.

aioprometheus writes label values, HELP texts and numbers as they come. `Gauge` and `Counter` here are the one
place through which values pass: labels are escaped, and only numbers are let through.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from aioprometheus.collectors import Counter as _Counter
from aioprometheus.collectors import Gauge as _Gauge
from aioprometheus.collectors import Histogram as _Histogram
from aioprometheus.collectors import Registry
from aioprometheus.formats import text
from aioprometheus.histogram import Histogram as _Buckets

Labels = Mapping[str, str]
CONTENT_TYPE = text.TEXT_CONTENT_TYPE


class _Series:
    """One metric with its series, each of which can be set and can go away."""

    def __init__(self, collector: _Counter | _Gauge | _Histogram, labels: tuple[str, ...]) -> None:
        self._collector = collector
        self.name: str = collector.name
        self.doc: str = collector.doc
        self.labels = labels

    def remove(self, labels: Labels) -> None:
        """Have the series go away; nothing happens if there is none."""
        try:
            del self._collector.values[self._key(labels)]  # type: ignore[no-untyped-call]
        except KeyError:
            return

    def clear(self) -> None:
        """Have all series go away."""
        self._collector.values.store.clear()

    def _key(self, labels: Labels) -> dict[str, str]:
        if set(labels) != set(self.labels):
            msg = f"{self.name} has the labels {self.labels}, not {tuple(labels)}"
            raise ValueError(msg)
        return {name: escape(value) for name, value in labels.items()}


class Gauge(_Series):
    """A value that goes up and down."""

    def set(self, labels: Labels, value: float) -> None:
        """Set the series to `value`."""
        self._collector.set_value(self._key(labels), float(value))


class Counter(_Series):
    """A total that is kept elsewhere, in a status for example, and shown here."""

    def set(self, labels: Labels, value: int) -> None:
        """Show the total `value`."""
        self._collector.set_value(self._key(labels), int(value))

    def increase(self, labels: Labels) -> None:
        """Add one, for totals that live with the process."""
        assert isinstance(self._collector, _Counter)  # noqa: S101 - narrows the type
        self._collector.inc(self._key(labels))


class Histogram(_Series):
    """A distribution whose counts are kept elsewhere and shown here."""

    def __init__(self, collector: _Histogram, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        super().__init__(collector, labels)
        self.bounds = bounds

    def set(self, labels: Labels, counts: tuple[int, ...], total: float) -> None:
        """Show `counts`, one for each bound and one for what is beyond, and the sum of all observations."""
        buckets = _Buckets(*self.bounds)
        buckets.buckets = dict(zip((*self.bounds, float("inf")), accumulate(counts), strict=True))
        buckets.observations = sum(counts)
        buckets.sum = float(total)
        self._collector.set_value(self._key(labels), buckets)


M = TypeVar("M", Gauge, Counter, Histogram)


class Metrics:
    """All metrics of the process: made here, each with the labels that its series have, and rendered here."""

    def __init__(self) -> None:
        self._registry = Registry()
        self.all: list[Gauge | Counter | Histogram] = []

    def gauge(self, name: str, doc: str, *labels: str) -> Gauge:
        """Make a gauge."""
        return self._keep(Gauge(_Gauge(name, doc, registry=self._registry), labels))

    def counter(self, name: str, doc: str, *labels: str) -> Counter:
        """Make a counter."""
        return self._keep(Counter(_Counter(name, doc, registry=self._registry), labels))

    def histogram(self, name: str, doc: str, bounds: Sequence[float], *labels: str) -> Histogram:
        """Make a histogram with buckets of these upper bounds."""
        limits = tuple(map(float, bounds))
        return self._keep(
            Histogram(_Histogram(name, doc, registry=self._registry, buckets=list(limits)), labels, limits)
        )

    def render(self) -> bytes:
        """Return all of them in Prometheus' text format 0.0.4, of content type `CONTENT_TYPE`."""
        return bytes(text.TextFormatter().marshall(self._registry))

    def _keep(self, metric: M) -> M:
        self.all.append(metric)
        return metric


def escape(value: str) -> str:
    """Return a label's value as the Prometheus text format wants it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def resident_memory_bytes() -> int:
    """Return how much memory this process holds (RSS), from proc_pid_statm(5)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
