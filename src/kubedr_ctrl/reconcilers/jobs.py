"""What a resource's Jobs tell: which of them run, which of them cannot, which are done with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kubedr_ctrl.api.names import RECORDED_ANNOTATION, SNAPSHOTS_ANNOTATION
from kubedr_ctrl.api.result import Outcome, Reason
from kubedr_ctrl.kube.objects import Job, Pod
from kubedr_ctrl.reconcilers.plan import DeleteJob, EndJob

KEEP_RECORDED = 3
"""How many recorded Jobs of an owner are kept for people to look at, pods and logs with them."""

_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError", "InvalidImageName", "RunContainerError")
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable")

PATIENCE = {
    Reason.CONFIGURATION_MISSING: timedelta(seconds=30),
    Reason.IMAGE_UNAVAILABLE: timedelta(seconds=90),
    Reason.UNSCHEDULABLE: timedelta(minutes=5),
    Reason.VOLUMES_NOT_READY: timedelta(minutes=2),
}
"""How long a pod may be stuck for each reason before its Job is ended: a Secret that is missing seldom comes
within the minute, a registry or an autoscaler may. One that is not here is left to the Job's own deadline."""

_REMEDIES = {
    Reason.CONFIGURATION_MISSING: "create what is missing or correct its name",
    Reason.IMAGE_UNAVAILABLE: "correct the image's name, or let the node pull it",
    Reason.UNSCHEDULABLE: "create what is missing: a volume, a node with the label, or room on it",
}
"""What to do about each, where the message does not say so itself."""

MOUNT_TIME = timedelta(seconds=20)
"""How long mounting a pod's volumes may take before it is worth a word."""
CREATION_TIME = timedelta(seconds=20)
"""How long Kubernetes may take to create a Job's pod before that is."""


@dataclass(frozen=True)
class Stuck:
    """Why a pod does not start."""

    reason: Reason
    message: str
    since: datetime

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"

    @property
    def advice(self) -> str:
        """The message, and what to do about it."""
        remedy = _REMEDIES.get(self.reason)
        return f"{self.message.rstrip('. ')}; {remedy}" if remedy else self.message


@dataclass(frozen=True)
class JobsOf:
    """The Jobs of one owner and operation, oldest first, with their pods."""

    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()

    @property
    def unrecorded(self) -> tuple[Job, ...]:
        """Jobs whose outcome is not recorded yet: they run, or have just ended."""
        return tuple(job for job in self.jobs if RECORDED_ANNOTATION not in job.metadata.annotations)

    @property
    def running(self) -> tuple[Job, ...]:
        """Jobs that have not ended and are not being deleted."""
        return tuple(j for j in self.unrecorded if j.ended is None and j.metadata.deletion_timestamp is None)

    def stuck(self, now: datetime) -> tuple[tuple[Job, Stuck], ...]:
        """Return the running Jobs whose newest pod does not start, each with the reason."""
        found = ((job, find_stuck(job, pods_of(job, self.pods), now)) for job in self.running)
        return tuple((job, stuck) for job, stuck in found if stuck is not None)


def sort_jobs(jobs: Iterable[Job], pods: Iterable[Pod]) -> JobsOf:
    """Return the Jobs from the oldest to the newest."""
    epoch = datetime.min.replace(tzinfo=None)

    def age(job: Job) -> tuple[datetime, str]:
        created = job.metadata.creation_timestamp
        return (created.replace(tzinfo=None) if created else epoch, job.metadata.name)

    return JobsOf(tuple(sorted(jobs, key=age)), tuple(pods))


def pods_of(job: Job, pods: Iterable[Pod]) -> list[Pod]:
    """Return the pods that `job` owns, oldest first."""
    mine = [pod for pod in pods if any(ref.uid == job.metadata.uid for ref in pod.metadata.owner_references)]
    return sorted(mine, key=lambda pod: (str(pod.metadata.creation_timestamp), pod.metadata.name))


def find_stuck(job: Job, pods: Sequence[Pod], now: datetime) -> Stuck | None:
    """Return why the newest pod does not start, or None where it has started or may be about to."""
    if not pods:
        return _find_uncreated(job, now)
    if pods[-1].status.phase not in ("Pending", ""):
        return None
    pod = pods[-1]
    created = pod.metadata.creation_timestamp or now
    waiting = pod.waiting
    if waiting and waiting.reason in _CONFIGURATION:
        return Stuck(Reason.CONFIGURATION_MISSING, waiting.message or waiting.reason, created)
    if waiting and waiting.reason in _IMAGE:
        return Stuck(Reason.IMAGE_UNAVAILABLE, waiting.message or waiting.reason, created)
    scheduled = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
    if scheduled and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return Stuck(Reason.UNSCHEDULABLE, scheduled.message, scheduled.last_transition_time or created)
    # False until volumes are mounted and the network is there; an image is pulled only afterwards.
    prepared = next((c for c in pod.status.conditions if c.type == "PodReadyToStartContainers"), None)
    since = (prepared.last_transition_time if prepared else None) or created
    if prepared and prepared.status == "False" and now - since >= MOUNT_TIME:
        name = pod.metadata.name
        return Stuck(
            Reason.VOLUMES_NOT_READY,
            f"The volumes of pod {name} cannot be mounted; a directory on the node, a ConfigMap or a Secret may be "
            f"missing: 'kubectl describe pod {name}' says which",
            since,
        )
    return None


def _find_uncreated(job: Job, now: datetime) -> Stuck | None:
    begun = job.status.start_time  # none while the Job is suspended
    if begun is None or now - begun < CREATION_TIME or job.status.failed:  # the next try takes its time
        return None
    name, namespace = job.metadata.name, job.metadata.namespace
    return Stuck(
        Reason.POD_NOT_CREATED,
        f"no pod could be created for Job {name}, and 'kubectl -n {namespace} describe job {name}' says why: a quota, "
        "an admission policy, or the namespace's PodSecurity level, which backups need to be privileged: 'kubectl "
        f"label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite'",
        begun,
    )


def end_stuck(jobs: JobsOf, now: datetime) -> tuple[EndJob, ...]:
    """Return the ending of each Job that has been stuck for longer than its reason deserves."""
    return tuple(
        EndJob(job.metadata.name, job.metadata.uid, str(stuck), _elapsed(job, now))
        for job, stuck in jobs.stuck(now)
        if stuck.reason in PATIENCE and now - stuck.since >= PATIENCE[stuck.reason]
    )


def next_look(jobs: JobsOf, now: datetime) -> float | None:
    """Return in how many seconds the first stuck Job has used up its patience, or a starting one may be stuck."""
    waits = [
        (stuck.since + PATIENCE[stuck.reason] - now).total_seconds()
        for _, stuck in jobs.stuck(now)
        if stuck.reason in PATIENCE
    ]
    newest = [pods[-1] for job in jobs.running if (pods := pods_of(job, jobs.pods))]
    if any(pod.status.phase == "Pending" for pod in newest):
        waits.append(MOUNT_TIME.total_seconds())
    if any(not pods_of(job, jobs.pods) for job in jobs.running):
        waits.append(CREATION_TIME.total_seconds())
    return max(1.0, min(waits) + 1) if waits else None


def clean_up(jobs: JobsOf, keep: int = KEEP_RECORDED) -> tuple[DeleteJob, ...]:
    """Return the deletion of recorded Jobs but the newest `keep` that succeeded and the newest that failed."""
    recorded = [j for j in jobs.jobs if RECORDED_ANNOTATION in j.metadata.annotations]
    live = [j for j in recorded if j.metadata.deletion_timestamp is None]
    by_outcome: dict[str, list[Job]] = {}
    for job in live:
        by_outcome.setdefault(job.metadata.annotations[RECORDED_ANNOTATION], []).append(job)
    surplus = (job for group in by_outcome.values() for job in group[: max(0, len(group) - keep)])
    return tuple(DeleteJob(job.metadata.name, job.metadata.uid) for job in surplus)


def forgotten(jobs: JobsOf) -> frozenset[str]:
    """Return the IDs of the snapshots that Jobs which succeeded have forgotten."""
    return frozenset(
        snapshot
        for job in jobs.jobs
        if job.metadata.annotations.get(RECORDED_ANNOTATION) == Outcome.COMPLETED
        for snapshot in job.metadata.annotations.get(SNAPSHOTS_ANNOTATION, "").split(",")
    )


def _elapsed(job: Job, now: datetime) -> int:
    start = job.status.start_time or job.metadata.creation_timestamp or now
    return max(1, int((now - start).total_seconds()))
