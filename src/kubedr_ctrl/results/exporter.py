"""The consumer that shows results as Prometheus metrics.

Counters are set from the totals in the policies' status, never counted here: at start they are right as soon
as the cache is, and a restart neither loses nor repeats. A result is acknowledged once the cached status that
the series were set from includes it.

Only the leader shows them: with two replicas, what a dashboard sums up is there once.
"""

from kubedr_ctrl.api.location import BackupLocation, InitStatus
from kubedr_ctrl.api.meta import find_condition
from kubedr_ctrl.api.policy import DURATION_BUCKETS, OVERDUE, MetadataBackupPolicy
from kubedr_ctrl.api.result import Operation, Outcome
from kubedr_ctrl.kube.controller import NotYet
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.store import Change, Delta
from kubedr_ctrl.results.harvest import JobKey
from kubedr_ctrl.results.metrics import Counter, Gauge, Histogram, Metrics
from kubedr_ctrl.results.source import ResultSource


class Exporter:
    """Keeps the series of all policies and locations equal to their status, from `show` to `hide`."""

    name = "exporter"

    def __init__(
        self,
        metrics: Metrics,
        source: ResultSource,
        policies: Informer[MetadataBackupPolicy],
        locations: Informer[BackupLocation],
    ) -> None:
        self._source = source
        self._policies = policies.store
        self._locations = locations.store
        self._shows = False
        policy = "policyName"
        self._size = metrics.gauge("kubedr_backup_size_bytes", "Size of the backup in bytes.", policy)
        self._added = metrics.gauge(
            "kubedr_backup_data_added_bytes", "Bytes that the last successful backup added to the repository.", policy
        )
        self._backups = metrics.counter("kubedr_num_backups", "Total number of backups.", policy)
        self._successful = metrics.counter(
            "kubedr_num_successful_backups", "Total number of successful backups.", policy
        )
        self._failed = metrics.counter("kubedr_num_failed_backups", "Total number of failed backups.", policy)
        self._duration = metrics.histogram(
            "kubedr_backup_duration_seconds", "Time (seconds) taken for the backup.", DURATION_BUCKETS, policy
        )
        self._last_success = metrics.gauge(
            "kubedr_backup_last_success_timestamp_seconds",
            "When a backup last succeeded, in seconds since 1970.",
            policy,
        )
        self._last_status = metrics.gauge(
            "kubedr_backup_last_status", "Whether the latest backup succeeded (1) or failed (0).", policy
        )
        self._overdue = metrics.gauge(
            "kubedr_backup_overdue", "Whether a good backup is overdue by the schedule (1) or not (0).", policy
        )
        self._next_due = metrics.gauge(
            "kubedr_backup_next_due_timestamp_seconds",
            "When the next good backup is due by the schedule, in seconds since 1970.",
            policy,
        )
        self._location = metrics.gauge(
            "kubedr_location_ready",
            "Whether the repository of the BackupLocation is initialized (1) or not (0).",
            "locationName",
        )
        policies.on_change(self._on_policy)
        locations.on_change(self._on_location)

    def show(self) -> None:
        """Show what the caches hold, and follow it."""
        self._shows = True
        for policy in self._policies:
            self._show_policy(policy)
        for location in self._locations:
            self._show_location(location)

    def hide(self) -> None:
        """Show nothing."""
        self._shows = False
        for series in (*self._of_policies, self._location):
            series.clear()

    async def consume(self, key: JobKey) -> None:
        """Return once the series include the result of `key`."""
        if key.operation is not Operation.BACKUP:
            return
        policy = self._policies.get(key.owner)
        if policy is None or policy.metadata.uid != key.owner_uid:
            return
        if any(entry.uid == key.uid for entry in policy.status.recorded):
            self._show_policy(policy)
        elif not await self._source.is_counted(key.name, key.uid):
            raise NotYet

    def _on_policy(self, delta: Delta[MetadataBackupPolicy]) -> None:
        if delta.change is Change.DELETED:
            for series in self._of_policies:
                series.remove({"policyName": delta.object.metadata.name})
        elif self._shows:
            self._show_policy(delta.object)

    def _on_location(self, delta: Delta[BackupLocation]) -> None:
        if delta.change is Change.DELETED:
            self._location.remove({"locationName": delta.object.metadata.name})
        elif self._shows:
            self._show_location(delta.object)

    @property
    def _of_policies(self) -> tuple[Gauge | Counter | Histogram, ...]:
        return (
            self._size, self._added, self._backups, self._successful, self._failed, self._duration,
            self._last_success, self._last_status, self._overdue, self._next_due,
        )  # fmt: skip

    def _show_location(self, location: BackupLocation) -> None:
        labels = {"locationName": location.metadata.name}
        self._location.set(labels, location.status.init_status is InitStatus.COMPLETED)

    def _show_policy(self, policy: MetadataBackupPolicy) -> None:
        """Set the policy's series from its status."""
        labels = {"policyName": policy.metadata.name}
        totals, last = policy.status.totals, policy.status.last_successful_backup
        self._backups.set(labels, totals.backups)
        self._successful.set(labels, totals.successful)
        self._failed.set(labels, totals.failed)
        self._duration.set(labels, totals.duration_bucket_counts, totals.duration_seconds_sum)
        overdue = find_condition(policy.status.conditions, OVERDUE)
        self._overdue.set(labels, overdue is not None and overdue.status == "True")
        if policy.status.next_due is not None:
            self._next_due.set(labels, policy.status.next_due.timestamp())
        else:
            self._next_due.remove(labels)
        if policy.status.backup_status is not None:
            self._last_status.set(labels, policy.status.backup_status is Outcome.COMPLETED)
        if last is not None:
            self._size.set(labels, last.total_bytes_processed)
            self._added.set(labels, last.data_added)
            self._last_success.set(labels, last.time.timestamp())
