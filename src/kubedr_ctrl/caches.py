"""What the controller knows of the cluster: one informer a kind, and the indexes by which things are found."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kubedr_ctrl.api.names import MANAGED_BY_LABEL, OPERATION_LABEL
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.objects import Job, Object, Pod
from kubedr_ctrl.reconcilers.jobs import JobsOf, sort_jobs
from kubedr_ctrl.resources import CRONJOBS, LOCATIONS, POLICIES, RECORDS, RESTORES, SLIM_JOBS, SLIM_PODS
from kubedr_ctrl.results.harvest import job_key

T = TypeVar("T", bound=Object)


class Caches:
    """The informers of one namespace. Selectors keep what is not ours off the wire."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.locations = self._informer(LOCATIONS)
        self.policies = self._informer(POLICIES, indexes={"location": lambda policy: policy.spec.destination})
        self.records = self._informer(
            RECORDS,
            indexes={"policy": lambda record: record.spec.policy, "location": lambda record: record.spec.backuploc},
        )
        self.restores = self._informer(RESTORES)
        self.cronjobs = self._informer(CRONJOBS, selector=f"{MANAGED_BY_LABEL}=kubedr-controller")
        self.jobs = self._informer(SLIM_JOBS, selector=OPERATION_LABEL, indexes={"owner": _owner_of})
        self.pods = self._informer(SLIM_PODS, selector=OPERATION_LABEL, indexes={"job": job_of})

    def __iter__(self) -> Iterator[Informer[Any]]:
        yield from (
            self.locations, self.policies, self.records, self.restores, self.cronjobs, self.jobs, self.pods,
        )  # fmt: skip

    def jobs_of(self, operation: Operation, owner_uid: str) -> JobsOf:
        """Return the Jobs of one operation that work for the resource of that UID, with their pods."""
        jobs = self.jobs.store.by("owner", f"{operation} {owner_uid}")
        return sort_jobs(jobs, (pod for job in jobs for pod in self.pods.store.by("job", job.metadata.name)))

    def missing(self) -> str:
        """Return which kinds have not been read yet, in words; empty once all have."""
        return ", ".join(informer.resource.plural for informer in self if not informer.synced.is_set())

    def _informer(
        self, resource: Resource[T], *, selector: str = "", indexes: dict[str, Callable[[T], str | None]] | None = None
    ) -> Informer[T]:
        return Informer(self._client, resource, self._namespace, selector=selector, indexes=indexes)


def job_of(pod: Pod) -> str | None:
    """Return the name of the Job that owns `pod`."""
    return next((owner.name for owner in pod.metadata.owner_references if owner.kind == "Job"), None)


def _owner_of(job: Job) -> str | None:
    key = job_key(job)
    return f"{key.operation} {key.owner_uid}" if key else None
