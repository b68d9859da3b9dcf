"""What a Job that ended came to: the worker's own report, or what can be concluded without one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import intern

from kubedr_ctrl.api.names import (
    DIAGNOSIS_ANNOTATION,
    OPERATION_LABEL,
    OWNER_ANNOTATION,
    OWNER_UID_ANNOTATION,
    RESULT_ANNOTATION,
    RESULT_POD_ANNOTATION,
)
from kubedr_ctrl.api.result import Operation, Outcome, Reason, Result
from kubedr_ctrl.kube.objects import Job, Pod

OPERATIONS = frozenset(operation.value for operation in Operation)


@dataclass(frozen=True, slots=True)
class JobKey:
    """A Job of ours: enough to find it, to tell it from a namesake, and to find whom it works for."""

    name: str
    uid: str
    operation: Operation
    owner: str
    owner_uid: str

    def __str__(self) -> str:
        return f"{self.operation} job {self.name} of {self.owner}"


@dataclass(frozen=True)
class Harvest:
    """The one outcome of a Job, and the pod that it came from, if any."""

    result: Result
    pod: str = ""
    """The pod's name."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The Job's annotations: the location, the repository, the snapshots it was about."""


def job_key(job: Job) -> JobKey | None:
    """Return the key of a Job of ours, None for any other Job."""
    meta = job.metadata
    operation = meta.labels.get(OPERATION_LABEL, "")
    owner, owner_uid = meta.annotations.get(OWNER_ANNOTATION), meta.annotations.get(OWNER_UID_ANNOTATION)
    if operation not in OPERATIONS or not owner or not owner_uid:
        return None
    return JobKey(meta.name, meta.uid, Operation(operation), intern(owner), intern(owner_uid))


def has_ended(job: Job) -> bool:
    """Return whether nothing more will come of the Job: it ended, or it is being deleted."""
    return job.ended is not None or job.metadata.deletion_timestamp is not None


def concluded(job: Job) -> Harvest | None:
    """Return what is written on the Job as its outcome, None while nothing (or nonsense) is."""
    about = job.metadata.annotations
    result = Result.decode(about.get(RESULT_ANNOTATION, ""))
    return Harvest(result, about.get(RESULT_POD_ANNOTATION, ""), about) if result else None


def conclude(job: Job, operation: Operation, pods: Iterable[Pod]) -> Harvest:
    """Return what an ended Job came to; `pods` are all of its pods that are still there.

    A report of success wins, as it says that the work is done. Of several failures the latest counts.
    """
    newest_first = sorted(pods, key=lambda pod: (str(pod.metadata.creation_timestamp), pod.metadata.name), reverse=True)
    about = job.metadata.annotations
    reports = [(report, pod.metadata.name) for pod in newest_first if (report := _report(pod))]
    pod = newest_first[0] if newest_first else None
    reason, message = _without_report(job, pod)
    if reports:
        result, name = next(((report, name) for report, name in reports if report.completed), reports[0])
        # A worker that was told to stop does not know why; the Job, or the pod, may.
        if result.reason is Reason.TERMINATED and reason is not Reason.NO_REPORT:
            result = result.model_copy(update={"reason": reason, "message": message})
        return Harvest(result, name, about)
    started = job.status.start_time or job.metadata.creation_timestamp or datetime.now(UTC)
    ended = job.ended.last_transition_time if job.ended else job.metadata.deletion_timestamp
    result = Result(
        operation=operation,
        outcome=Outcome.FAILED,
        reason=reason,
        message=message,
        started=started,
        finished=ended or started,
    )
    return Harvest(result, pod.metadata.name if pod else "", about)


def _report(pod: Pod) -> Result | None:
    return Result.decode(pod.terminated.message) if pod.terminated else None


def _without_report(job: Job, pod: Pod | None) -> tuple[Reason, str]:
    if diagnosis := job.metadata.annotations.get(DIAGNOSIS_ANNOTATION):
        reason, _, message = diagnosis.partition(": ")
        if reason in list(Reason):
            return Reason(reason), message
    if pod is not None and (told := _told_by_pod(pod)):
        return told
    ended = job.ended
    if ended is None:
        return Reason.JOB_DELETED, f"Job {job.metadata.name} was deleted before it ended"
    if ended.reason == "DeadlineExceeded":
        seconds = job.spec.active_deadline_seconds
        if pod is None and not job.status.failed:
            return Reason.POD_NOT_CREATED, f"No pod was created for Job {job.metadata.name} within {seconds} s"
        return Reason.DEADLINE_EXCEEDED, f"Job {job.metadata.name} did not end within {seconds} s and was stopped"
    if pod is None:
        uid = job.metadata.uid
        return Reason.NO_REPORT, (
            f"Job {job.metadata.name} ended ({ended.type}), but its pod is gone, and its report with it; if a "
            f"snapshot was made, it carries the tag job={uid}"
        )
    code = pod.terminated.exit_code if pod.terminated else None
    return Reason.NO_REPORT, (
        f"Pod {pod.metadata.name} ended without a report" + (f" (exit code {code})" if code is not None else "")
    )


def _told_by_pod(pod: Pod) -> tuple[Reason, str] | None:
    name = pod.metadata.name
    if pod.terminated and pod.terminated.reason == "OOMKilled":
        return Reason.OUT_OF_MEMORY, f"Pod {name} was killed because it used more memory than it may (OOMKilled)"
    if pod.status.reason == "Evicted":
        return Reason.EVICTED, f"Pod {name} was evicted: {pod.status.message}"
    disrupted = next((c for c in pod.status.conditions if c.type == "DisruptionTarget" and c.status == "True"), None)
    if disrupted:
        return Reason.EVICTED, f"Pod {name} was removed ({disrupted.reason}): {disrupted.message}"
    return None
