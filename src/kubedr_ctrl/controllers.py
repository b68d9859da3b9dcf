"""What the leader does, from the day it leads to the day it does not: one loop a kind, one for Jobs, the channel.

Made anew for each term: nothing in memory outlives it. What there is to do is found in the caches.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import JOB_FINALIZER, RECORDED_ANNOTATION, cronjob_name
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.caches import Caches, job_of
from kubedr_ctrl.execution import Reconciliation
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.controller import Controller
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.objects import CronJob, Job, Object, Pod
from kubedr_ctrl.kube.workqueue import WorkQueue
from kubedr_ctrl.reconcilers import location as locations
from kubedr_ctrl.reconcilers import policy as policies
from kubedr_ctrl.reconcilers import record as records
from kubedr_ctrl.reconcilers import restore as restores
from kubedr_ctrl.reconcilers.jobs import JobsOf
from kubedr_ctrl.results.channel import Consumer, ResultChannel
from kubedr_ctrl.results.events import Events
from kubedr_ctrl.results.harvest import JobKey, has_ended, job_key
from kubedr_ctrl.results.source import ResultSource


class Controllers:
    """All loops that write. `run` them until `shut_down`, or cancel them."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        caches: Caches,
        source: ResultSource,
        consumers: Iterable[Consumer],
        events: Events,
        *,
        setup: WorkerSetup,
        cluster: str,
    ) -> None:
        """`cluster` is the cluster's identity, the UID of its namespace kube-system."""
        self._caches = caches
        self._source = source
        self._setup = setup
        self._cluster = cluster
        self.channel = ResultChannel(source, tuple(consumers), outage=client.outage)

        def loop(name: str, reconciliation: Reconciliation[Any, Any]) -> Controller[str]:
            return Controller(name, reconciliation.process, queue=WorkQueue[str](), outage=client.outage)

        common = (client, namespace, events)
        self._locations = loop(
            "locations",
            Reconciliation(
                *common, caches.locations,
                observe=self._observe_location, reconcile=locations.reconcile, rejected=locations.rejected,
            ),
        )  # fmt: skip
        self._policies = loop(
            "policies",
            Reconciliation(
                *common, caches.policies,
                observe=self._observe_policy, reconcile=policies.reconcile, rejected=policies.rejected,
            ),
        )  # fmt: skip
        self._records = loop(
            "records",
            Reconciliation(*common, caches.records, observe=self._observe_record, reconcile=records.reconcile),
        )
        self._restores = loop(
            "restores",
            Reconciliation(
                *common, caches.restores,
                observe=self._observe_restore, reconcile=restores.reconcile, rejected=restores.rejected,
            ),
        )  # fmt: skip
        self._jobs = Controller(
            "jobs",
            self._process_job,
            queue=WorkQueue[JobKey](group=lambda key: (key.operation, key.owner)),
            outage=client.outage,
        )

    async def run(self) -> None:
        """Work until `shut_down`, and end then with what is in progress."""
        undo = list(self._route())
        try:
            async with asyncio.TaskGroup() as group:
                for loop in self._loops():
                    group.create_task(loop.run(), name=loop.name)
                group.create_task(self._jobs.run(), name=self._jobs.name)
                group.create_task(self.channel.run(), name="result-channel")
        finally:
            for unsubscribe in undo:
                unsubscribe()

    def shut_down(self) -> None:
        """Begin nothing new."""
        for controller in self.all():
            controller.queue.shut_down()

    def all(self) -> Iterator[Controller[Any]]:
        """Yield each loop."""
        yield from self._loops()
        yield self._jobs
        yield from self.channel.controllers()

    def _loops(self) -> Iterator[Controller[str]]:
        yield from (self._locations, self._policies, self._records, self._restores)

    # What bears on what.

    def _route(self) -> Iterator[Callable[[], None]]:
        """Follow the caches, beginning with all that they hold; yield what ends that."""
        caches = self._caches
        for informer, loop in (
            (caches.locations, self._locations),
            (caches.policies, self._policies),
            (caches.records, self._records),
            (caches.restores, self._restores),
        ):
            yield informer.on_unreadable(_adder(loop))
        yield _follow(caches.locations, self._location_changed)
        yield _follow(caches.policies, self._policy_changed)
        yield _follow(caches.records, self._record_changed)
        yield _follow(caches.restores, lambda restore: self._restores.queue.add(restore.metadata.name))
        yield _follow(caches.cronjobs, self._cronjob_changed)
        yield _follow(caches.jobs, self._job_changed)
        yield _follow(caches.pods, self._pod_changed)

    def _location_changed(self, location: BackupLocation) -> None:
        name = location.metadata.name
        self._locations.queue.add(name)
        _add_all(self._policies, self._caches.policies.store.by("location", name))
        _add_all(self._records, self._caches.records.store.by("location", name))
        _add_all(self._restores, self._caches.restores.store)

    def _policy_changed(self, policy: MetadataBackupPolicy) -> None:
        self._policies.queue.add(policy.metadata.name)
        _add_all(self._locations, self._caches.locations.store)

    def _record_changed(self, record: MetadataBackupRecord) -> None:
        self._records.queue.add(record.metadata.name)
        self._policies.queue.add(record.spec.policy)
        self._locations.queue.add(record.spec.backuploc)
        _add_all(self._restores, self._caches.restores.store)

    def _cronjob_changed(self, cronjob: CronJob) -> None:
        for owner in cronjob.metadata.owner_references:
            self._policies.queue.add(owner.name)

    def _job_changed(self, job: Job) -> None:
        if key := job_key(job):
            self._jobs.queue.add(key)
            self._add_owner(key)

    def _pod_changed(self, pod: Pod) -> None:
        job = self._caches.jobs.store.get(job_of(pod) or "")
        if job and (key := job_key(job)):
            self._add_owner(key)

    def _add_owner(self, key: JobKey) -> None:
        match key.operation:
            case Operation.BACKUP:
                self._policies.queue.add(key.owner)
            case Operation.RESTORE:
                self._restores.queue.add(key.owner)
            case Operation.INIT:
                self._locations.queue.add(key.owner)
            case Operation.FORGET:
                self._locations.queue.add(key.owner)
                _add_all(self._records, self._caches.records.store.by("location", key.owner))

    # What each reconciler gets to see.

    def _observe_location(self, location: BackupLocation) -> locations.LocationObserved:
        name, uid = location.metadata.name, location.metadata.uid
        held = self._caches.records.store.by("location", name)
        return locations.LocationObserved(
            location,
            self._setup,
            init=self._caches.jobs_of(Operation.INIT, uid),
            forget=self._caches.jobs_of(Operation.FORGET, uid),
            policies=tuple(policy.metadata.name for policy in self._caches.policies.store.by("location", name)),
            expired=tuple(record.spec.snapshot_id for record in held if record.metadata.deletion_timestamp),
        )

    def _observe_policy(self, policy: MetadataBackupPolicy) -> policies.PolicyObserved:
        name = policy.metadata.name
        return policies.PolicyObserved(
            policy,
            self._setup,
            self._cluster,
            location=self._caches.locations.store.get(policy.spec.destination),
            cronjob=self._caches.cronjobs.store.get(cronjob_name(name)),
            backups=self._caches.jobs_of(Operation.BACKUP, policy.metadata.uid),
            records=self._caches.records.store.by("policy", name),
        )

    def _observe_record(self, record: MetadataBackupRecord) -> records.RecordObserved:
        location = self._caches.locations.store.get(record.spec.backuploc)
        forget = self._caches.jobs_of(Operation.FORGET, location.metadata.uid) if location else JobsOf()
        return records.RecordObserved(record, location, forget)

    def _observe_restore(self, restore: MetadataRestore) -> restores.RestoreObserved:
        record = self._caches.records.store.get(restore.spec.mbr_name)
        return restores.RestoreObserved(
            restore,
            self._setup,
            record=record,
            location=self._caches.locations.store.get(record.spec.backuploc) if record else None,
            jobs=self._caches.jobs_of(Operation.RESTORE, restore.metadata.uid),
        )

    # Jobs on their way to the result channel.

    async def _process_job(self, key: JobKey) -> None:
        job = self._caches.jobs.store.get(key.name)
        if job is None or job.metadata.uid != key.uid or RECORDED_ANNOTATION in job.metadata.annotations:
            return
        if JOB_FINALIZER in job.metadata.finalizers:
            if has_ended(job) and key not in self.channel and await self._source.harvest(key):
                self.channel.deliver(key)
        elif job.metadata.deletion_timestamp is None:
            await self._source.guard(job)


def _follow(informer: Informer[Any], changed: Callable[[Any], None]) -> Callable[[], None]:
    for item in informer.store:
        changed(item)
    return informer.on_change(lambda delta: changed(delta.object))


def _adder(loop: Controller[str]) -> Callable[[Any], None]:
    return lambda entry: loop.queue.add(entry.metadata.name)


def _add_all(loop: Controller[str], items: Iterable[Object]) -> None:
    for item in items:
        loop.queue.add(item.metadata.name)
