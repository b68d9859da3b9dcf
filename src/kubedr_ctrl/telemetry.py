"""Metrics of the controller itself, read off its parts whenever /metrics is asked for.

Names that dashboards and alerts out there know already are kept: workqueue_*, leader_election_master_status,
process_resident_memory_bytes.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from kubedr_ctrl import __version__
from kubedr_ctrl.caches import Caches
from kubedr_ctrl.kube.controller import Controller
from kubedr_ctrl.kube.distribution import SECONDS
from kubedr_ctrl.results.channel import Backlog
from kubedr_ctrl.results.metrics import Metrics, resident_memory_bytes


class Telemetry:
    """The controller's own series."""

    def __init__(self, metrics: Metrics) -> None:
        counter, gauge, histogram = metrics.counter, metrics.gauge, metrics.histogram
        self._requests = counter(
            "kubedr_api_requests_total", "Requests to the API server, by verb and HTTP status.", "verb", "code"
        )
        self._memory = gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
        self._leads = gauge("leader_election_master_status", "Whether this replica leads (1) or stands by (0).", "name")

        self._depth = gauge("workqueue_depth", "Keys that wait in the queue.", "name")
        self._adds = counter("workqueue_adds_total", "Keys added to the queue.", "name")
        self._retries = counter("workqueue_retries_total", "Keys put back, as processing them failed.", "name")
        self._waits = histogram(
            "workqueue_queue_duration_seconds", "Time that keys spent in the queue.", SECONDS, "name"
        )
        self._works = histogram("workqueue_work_duration_seconds", "Time that processing a key took.", SECONDS, "name")
        self._unfinished = gauge(
            "workqueue_unfinished_work_seconds", "Time that keys in progress have been so, summed up.", "name"
        )
        self._longest = gauge(
            "workqueue_longest_running_processor_seconds", "Time that the oldest key in progress has been so.", "name"
        )
        self._errors = counter("kubedr_reconcile_errors_total", "Tries that failed, by loop or consumer.", "name")
        self._failing = gauge("kubedr_failing_keys", "Keys that failed when they were last tried.", "name")

        self._outstanding = gauge(
            "kubedr_results_outstanding", "Results that a consumer has yet to take in.", "consumer"
        )
        self._oldest = gauge(
            "kubedr_results_oldest_seconds", "Time that the oldest of them has been waiting.", "consumer"
        )

        self._relists = counter("kubedr_informer_lists_total", "Times that a kind was listed as a whole.", "resource")
        self._undecodable = counter(
            "kubedr_informer_undecodable_lines_total", "Lines of a watch that made no sense.", "resource"
        )
        self._unreadable = gauge(
            "kubedr_informer_unreadable_objects", "Objects that do not fit what is known of them.", "resource"
        )
        self._unread = gauge(
            "kubedr_informer_failing_seconds",
            "Time since when a kind cannot be read from the API server; 0: it can.",
            "resource",
        )
        info = gauge("kubedr_build_info", "The controller's version, as a label; always 1.", "version")
        info.set({"version": __version__}, 1)

    def count_request(self, verb: str, status: int) -> None:
        """Count one request to the API server."""
        self._requests.increase({"verb": verb, "code": str(status)})

    def show(
        self,
        *,
        leads: bool,
        caches: Caches,
        controllers: Iterable[Controller[Any]],
        backlog: Mapping[str, Backlog],
    ) -> None:
        """Bring the series up to date. A replica that stands by has no controllers and no backlog."""
        self._leads.set({"name": "kubedr-controller"}, leads)
        self._memory.set({}, resident_memory_bytes())
        self._show_controllers(controllers)
        for series in (self._outstanding, self._oldest):
            series.clear()
        for consumer, owed in backlog.items():
            self._outstanding.set({"consumer": consumer}, owed.results)
            self._oldest.set({"consumer": consumer}, owed.oldest)
        self._show_caches(caches)

    def _show_controllers(self, controllers: Iterable[Controller[Any]]) -> None:
        for series in (
            self._depth, self._adds, self._retries, self._waits, self._works, self._unfinished, self._longest,
            self._errors, self._failing,
        ):  # fmt: skip
            series.clear()
        for controller in controllers:
            name, queue = {"name": controller.name}, controller.queue
            stats, ages = queue.stats, queue.in_progress().values()
            self._depth.set(name, len(queue))
            self._adds.set(name, stats.adds)
            self._retries.set(name, stats.retries)
            self._waits.set(name, tuple(stats.waits.counts), stats.waits.total)
            self._works.set(name, tuple(stats.works.counts), stats.works.total)
            self._unfinished.set(name, sum(ages))
            self._longest.set(name, max(ages, default=0.0))
            self._errors.set(name, controller.errors)
            self._failing.set(name, queue.failing)

    def _show_caches(self, caches: Caches) -> None:
        now = asyncio.get_running_loop().time()
        for informer in caches:
            kind = {"resource": informer.resource.plural}
            self._relists.set(kind, informer.relists)
            self._undecodable.set(kind, informer.undecodable_lines)
            self._unreadable.set(kind, len(informer.unreadable))
            self._unread.set(kind, now - (informer.failing_since or now))
