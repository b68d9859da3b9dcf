"""The controller, wired: the file to read first.

    API server ──watch──► Informer ──► Store ──► WorkQueue ──► reconcile() ──► Plan ──► API writes
                             │                                  (pure)
                             └─ Jobs that ended ─► ResultChannel ─┬► StatusWriter
                                                                  ├► EventRecorder
                                                                  └► Exporter

Informers keep stores equal to what the API server has. A change adds the name of each resource that it bears
on to that kind's queue; a worker takes the name, observes the stores, decides, and carries out the plan. A
Job that has ended goes to the result channel, which marks it as recorded once status, event and metric say so.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from aioprometheus.collectors import Registry

from kubedr_ctrl import __version__
from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import (
    APP,
    JOB_FINALIZER,
    MANAGED_BY_LABEL,
    OPERATION_LABEL,
    RECORDED_ANNOTATION,
    cronjob_name,
)
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.execution import Reconciliation
from kubedr_ctrl.http import serve
from kubedr_ctrl.jobs.template import WorkerImage
from kubedr_ctrl.kube.backoff import Backoff
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.controller import Controller
from kubedr_ctrl.kube.credentials import load_credentials, pod_namespace
from kubedr_ctrl.kube.errors import ApiError, Unreachable
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.objects import CronJob, Job, Object, Pod
from kubedr_ctrl.kube.store import Delta
from kubedr_ctrl.kube.workqueue import WorkQueue
from kubedr_ctrl.logs import set_up_logging
from kubedr_ctrl.reconcilers import location as locations
from kubedr_ctrl.reconcilers import policy as policies
from kubedr_ctrl.reconcilers import record as records
from kubedr_ctrl.reconcilers import restore as restores
from kubedr_ctrl.reconcilers.jobs import JobsOf, sort_jobs
from kubedr_ctrl.resources import CRONJOBS, JOBS, LOCATIONS, NAMESPACES, PODS, POLICIES, RECORDS, RESTORES
from kubedr_ctrl.results.channel import ResultChannel
from kubedr_ctrl.results.event_recorder import EventRecorder
from kubedr_ctrl.results.events import Events
from kubedr_ctrl.results.exporter import Exporter
from kubedr_ctrl.results.harvest import has_ended, job_key
from kubedr_ctrl.results.metrics import CONTENT_TYPE, Counter, Gauge, render, resident_memory_bytes
from kubedr_ctrl.results.source import ResultSource
from kubedr_ctrl.results.status_writer import StatusWriter
from kubedr_ctrl.settings import Settings, load_settings

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)
V = TypeVar("V")


class App:
    """All parts of the controller for one namespace. `run` them until cancelled."""

    def __init__(
        self, client: Client, settings: Settings, image: WorkerImage, cluster: str, registry: Registry
    ) -> None:
        """`cluster` is the cluster's identity, the UID of its namespace kube-system."""
        self._client = client
        self._namespace = settings.namespace
        self._image = image
        self._cluster = cluster
        self._registry = registry

        self.locations = self._informer(LOCATIONS)
        self.policies = self._informer(POLICIES, indexes={"location": lambda policy: policy.spec.destination})
        self.records = self._informer(
            RECORDS,
            indexes={"policy": lambda record: record.spec.policy, "location": lambda record: record.spec.backuploc},
        )
        self.restores = self._informer(RESTORES)
        self.cronjobs = self._informer(CRONJOBS, selector=f"{MANAGED_BY_LABEL}=kubedr-controller")
        self.jobs = self._informer(JOBS, selector=OPERATION_LABEL, indexes={"owner": _owner_of})
        self.pods = self._informer(PODS, selector=OPERATION_LABEL, indexes={"job": _job_of})

        source = ResultSource(client, settings.namespace)
        events = Events(client, settings.namespace, error_type=settings.event_error_type)
        exporter = Exporter(registry, source, self.policies.store)
        self._source = source
        self._channel = ResultChannel(
            source, [StatusWriter(client, source, settings.namespace), EventRecorder(source, events), exporter]
        )
        self._memory = Gauge(registry, "process_resident_memory_bytes", "Resident memory size in bytes.")
        self._outstanding = Gauge(registry, "kubedr_results_outstanding", "Results that a consumer has yet to take in.")

        common = (client, settings.namespace)
        self._location_loop = self._loop(
            "locations",
            Reconciliation(
                *common, LOCATIONS, self.locations.store, events,
                observe=self._observe_location, reconcile=locations.reconcile, rejected=locations.rejected,
            ),
        )  # fmt: skip
        self._policy_loop = self._loop(
            "policies",
            Reconciliation(
                *common, POLICIES, self.policies.store, events,
                observe=self._observe_policy, reconcile=policies.reconcile, rejected=policies.rejected,
            ),
        )  # fmt: skip
        self._record_loop = self._loop(
            "records",
            Reconciliation(
                *common, RECORDS, self.records.store, events,
                observe=self._observe_record, reconcile=records.reconcile,
            ),
        )  # fmt: skip
        self._restore_loop = self._loop(
            "restores",
            Reconciliation(
                *common, RESTORES, self.restores.store, events,
                observe=self._observe_restore, reconcile=restores.reconcile, rejected=restores.rejected,
            ),
        )  # fmt: skip
        self._job_loop = Controller("jobs", self._process_job, queue=WorkQueue[str]())

        self.locations.on_change(exporter.on_location)
        self.policies.on_change(exporter.on_policy)
        self._route_changes()

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers():
                group.create_task(informer.run(), name=f"informer-{informer.resource.plural}")
            for informer in self._informers():
                await informer.synced.wait()
            log.info("all caches are synced")
            for controller in self._controllers():
                group.create_task(controller.run(), name=controller.name)
            group.create_task(self._channel.run(), name="result-channel")

    def unready(self) -> str:
        """Return which caches are not synced yet, in words; empty once all are."""
        missing = [informer.resource.plural for informer in self._informers() if not informer.synced.is_set()]
        return f"not yet read: {', '.join(missing)}" if missing else ""

    def metrics(self) -> bytes:
        """Return what /metrics serves."""
        for consumer, count in self._channel.outstanding().items():
            self._outstanding.set({"consumer": consumer}, count)
        self._memory.set({}, resident_memory_bytes())
        return render(self._registry)

    # What bears on what.

    def _route_changes(self) -> None:
        def location_changed(delta: Delta[BackupLocation]) -> None:
            name = delta.object.metadata.name
            self._location_loop.queue.add(name)
            self._add_all(self._policy_loop, self.policies.store.by("location", name))
            self._add_all(self._record_loop, self.records.store.by("location", name))
            self._add_all(self._restore_loop, self.restores.store)

        def policy_changed(delta: Delta[MetadataBackupPolicy]) -> None:
            self._policy_loop.queue.add(delta.object.metadata.name)
            self._add_all(self._location_loop, self.locations.store)

        def record_changed(delta: Delta[MetadataBackupRecord]) -> None:
            self._record_loop.queue.add(delta.object.metadata.name)
            self._policy_loop.queue.add(delta.object.spec.policy)
            self._location_loop.queue.add(delta.object.spec.backuploc)
            self._add_all(self._restore_loop, self.restores.store)

        def restore_changed(delta: Delta[MetadataRestore]) -> None:
            self._restore_loop.queue.add(delta.object.metadata.name)

        def cronjob_changed(delta: Delta[CronJob]) -> None:
            for owner in delta.object.metadata.owner_references:
                self._policy_loop.queue.add(owner.name)

        def job_changed(delta: Delta[Job]) -> None:
            self._job_loop.queue.add(delta.object.metadata.name)
            self._add_owner(delta.object)

        def pod_changed(delta: Delta[Pod]) -> None:
            job = self.jobs.store.get(_job_of(delta.object) or "")
            if job is not None:
                self._add_owner(job)

        self.locations.on_change(location_changed)
        self.policies.on_change(policy_changed)
        self.records.on_change(record_changed)
        self.restores.on_change(restore_changed)
        self.cronjobs.on_change(cronjob_changed)
        self.jobs.on_change(job_changed)
        self.pods.on_change(pod_changed)

    def _add_owner(self, job: Job) -> None:
        key = job_key(job)
        if key is None:
            return
        match key.operation:
            case Operation.BACKUP:
                self._policy_loop.queue.add(key.owner)
            case Operation.RESTORE:
                self._restore_loop.queue.add(key.owner)
            case Operation.INIT:
                self._location_loop.queue.add(key.owner)
            case Operation.FORGET:
                self._location_loop.queue.add(key.owner)
                self._add_all(self._record_loop, self.records.store.by("location", key.owner))

    @staticmethod
    def _add_all(loop: Controller[str], items: Any) -> None:
        for item in items:
            loop.queue.add(item.metadata.name)

    # What each reconciler gets to see.

    def _observe_location(self, location: BackupLocation) -> locations.LocationObserved:
        name = location.metadata.name
        held = self.records.store.by("location", name)
        return locations.LocationObserved(
            location,
            self._image,
            init=self._jobs_of(Operation.INIT, location.metadata.uid),
            forget=self._jobs_of(Operation.FORGET, location.metadata.uid),
            policies=tuple(policy.metadata.name for policy in self.policies.store.by("location", name)),
            expired=tuple(record.spec.snapshot_id for record in held if record.metadata.deletion_timestamp),
        )

    def _observe_policy(self, policy: MetadataBackupPolicy) -> policies.PolicyObserved:
        name = policy.metadata.name
        return policies.PolicyObserved(
            policy,
            self._image,
            self._cluster,
            location=self.locations.store.get(policy.spec.destination),
            cronjob=self.cronjobs.store.get(cronjob_name(name)),
            backups=self._jobs_of(Operation.BACKUP, policy.metadata.uid),
            records=self.records.store.by("policy", name),
        )

    def _observe_record(self, record: MetadataBackupRecord) -> records.RecordObserved:
        location = self.locations.store.get(record.spec.backuploc)
        forget = self._jobs_of(Operation.FORGET, location.metadata.uid) if location else JobsOf()
        return records.RecordObserved(record, location, forget)

    def _observe_restore(self, restore: MetadataRestore) -> restores.RestoreObserved:
        record = self.records.store.get(restore.spec.mbr_name)
        return restores.RestoreObserved(
            restore,
            self._image,
            record=record,
            location=self.locations.store.get(record.spec.backuploc) if record else None,
            jobs=self._jobs_of(Operation.RESTORE, restore.metadata.uid),
        )

    def _jobs_of(self, operation: Operation, owner_uid: str) -> JobsOf:
        jobs = self.jobs.store.by("owner", f"{operation} {owner_uid}")
        return sort_jobs(jobs, (pod for job in jobs for pod in self.pods.store.by("job", job.metadata.name)))

    # Jobs on their way to the result channel.

    async def _process_job(self, name: str) -> None:
        job = self.jobs.store.get(name)
        key = job_key(job) if job else None
        if job is None or key is None or RECORDED_ANNOTATION in job.metadata.annotations:
            return
        if JOB_FINALIZER in job.metadata.finalizers:
            if has_ended(job):
                self._channel.deliver(key)
        elif job.metadata.deletion_timestamp is None:
            await self._source.guard(job)

    # Parts.

    def _informer(
        self, resource: Resource[T], *, selector: str = "", indexes: dict[str, Callable[[T], str | None]] | None = None
    ) -> Informer[T]:
        return Informer(self._client, resource, self._namespace, selector=selector, indexes=indexes)

    @staticmethod
    def _loop(name: str, reconciliation: Reconciliation[Any, Any]) -> Controller[str]:
        return Controller(name, reconciliation.process, queue=WorkQueue[str]())

    def _informers(self) -> Iterator[Informer[Any]]:
        yield from (
            self.locations, self.policies, self.records, self.restores, self.cronjobs, self.jobs, self.pods,
        )  # fmt: skip

    def _controllers(self) -> Iterator[Controller[str]]:
        yield from (
            self._location_loop, self._policy_loop, self._record_loop, self._restore_loop, self._job_loop,
        )  # fmt: skip


def _owner_of(job: Job) -> str | None:
    key = job_key(job)
    return f"{key.operation} {key.owner_uid}" if key else None


def _job_of(pod: Pod) -> str | None:
    return next((owner.name for owner in pod.metadata.owner_references if owner.kind == "Job"), None)


async def run_controller(settings: Settings) -> None:
    """Run the controller and its HTTP server until cancelled."""
    registry = Registry()
    requests = Counter(registry, "kubedr_api_requests_total", "Requests to the API server, by verb and HTTP status.")

    def count(verb: str, status: int) -> None:
        requests.increase({"verb": verb, "code": str(status)})

    async with Client(await load_credentials(), user_agent=f"{APP}/{__version__}", on_request=count) as client:
        identity = await _patiently("namespace kube-system", lambda: client.get(NAMESPACES, None, "kube-system"))
        image = await _patiently("the controller's own pod", lambda: _worker_image(client, settings))
        app = App(client, settings, image, identity.metadata.uid, registry)
        async with serve(settings.port, metrics=app.metrics, content_type=CONTENT_TYPE, unready=app.unready) as port:
            log.info("kubedr %s watches namespace %s and serves on port %d", __version__, settings.namespace, port)
            await app.run()


async def _worker_image(client: Client, settings: Settings) -> WorkerImage:
    if settings.worker_image:
        return WorkerImage(settings.worker_image)
    spec = (await client.get(PODS, settings.namespace, settings.pod_name)).spec
    container = spec.containers[0]
    pull_secrets = tuple(reference.name for reference in spec.image_pull_secrets)
    return WorkerImage(container.image, container.image_pull_policy, pull_secrets)


async def _patiently(what: str, ask: Callable[[], Awaitable[V]]) -> V:
    """Return what `ask` returns, asking again for as long as the API server does not let us have it."""
    backoff = Backoff(first=0.8, limit=30.0)
    while True:
        try:
            return await ask()
        except (ApiError, Unreachable) as error:
            if not backoff.failures:
                log.warning("%s cannot be read; trying again until it can: %s", what, error)
        await asyncio.sleep(backoff.next())


async def _until_signalled(settings: Settings) -> None:
    task = asyncio.ensure_future(run_controller(settings))
    loop = asyncio.get_running_loop()
    stopping: list[signal.Signals] = []

    def stop(received: signal.Signals) -> None:
        stopping.append(received)
        task.cancel()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop, name)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise
        log.info("stopped by %s", stopping[0].name)


def main() -> None:
    """Run the controller: the command `kubedr-controller`."""
    settings = load_settings(pod_namespace())
    set_up_logging(settings.log_level)
    asyncio.run(_until_signalled(settings))


if __name__ == "__main__":
    main()
