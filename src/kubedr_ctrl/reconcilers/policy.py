"""MetadataBackupPolicy: keep its CronJob as it says, its records as many as it says, and say how it stands."""

from dataclasses import dataclass, replace
from datetime import datetime

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.meta import Condition, find_condition
from kubedr_ctrl.api.names import SPEC_HASH_ANNOTATION, cronjob_name
from kubedr_ctrl.api.policy import OVERDUE, MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.result import Outcome
from kubedr_ctrl.jobs.backup import backup_cronjob
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.kube.objects import CronJob
from kubedr_ctrl.reconcilers.jobs import JobsOf, clean_up, end_stuck, next_look
from kubedr_ctrl.reconcilers.overdue import Due, find_cause, find_due, tell_overdue
from kubedr_ctrl.reconcilers.plan import (
    Action,
    ApplyCronJob,
    DeleteRecord,
    Plan,
    SetStatus,
    State,
    broken,
    conditions,
    progressing,
    ready,
)

REJECTED_RETRY = 300.0


@dataclass(frozen=True)
class PolicyObserved:
    """A policy and what bears on it."""

    policy: MetadataBackupPolicy
    setup: WorkerSetup
    cluster: str
    location: BackupLocation | None = None
    cronjob: CronJob | None = None
    backups: JobsOf = JobsOf()
    records: tuple[MetadataBackupRecord, ...] = ()
    """Records of this policy's backups."""
    rejection: str = ""
    """What the API server said when it refused a plan made of the same observation."""


def reconcile(observed: PolicyObserved, now: datetime) -> Plan:
    """Decide what is to be done for a MetadataBackupPolicy."""
    if observed.policy.metadata.deletion_timestamp is not None:
        return Plan()
    actions: list[Action] = []
    if not observed.rejection:
        actions += _cronjob(observed)
    actions += end_stuck(observed.backups, now)
    actions += _retention(observed)
    actions += clean_up(observed.backups)
    due = find_due(observed.policy, now)
    actions += _status(observed, due, now)
    waits = [
        REJECTED_RETRY if observed.rejection else next_look(observed.backups, now),
        (due.deadline - now).total_seconds() + 1 if due.deadline and due.deadline > now else None,
    ]
    return Plan(tuple(actions), min((wait for wait in waits if wait is not None), default=None))


def rejected(observed: PolicyObserved, message: str, now: datetime) -> Plan:
    """Decide anew, knowing that the API server refused the previous plan."""
    return reconcile(replace(observed, rejection=message), now)


def _cronjob(observed: PolicyObserved) -> list[Action]:
    location = observed.location
    if location is None or not location.status.initialized:
        return []
    wanted = backup_cronjob(observed.policy, location, observed.cluster, observed.setup)
    applied = observed.cronjob.metadata.annotations.get(SPEC_HASH_ANNOTATION) if observed.cronjob else None
    if applied == wanted["metadata"]["annotations"][SPEC_HASH_ANNOTATION]:
        return []
    return [ApplyCronJob(wanted, afresh=observed.cronjob is None)]


def _retention(observed: PolicyObserved) -> list[Action]:
    """Return the deletion of the records beyond the newest `retainNumBackups`."""

    def age(record: MetadataBackupRecord) -> str:
        return str(record.status.time or record.metadata.creation_timestamp)

    live = [record for record in observed.records if record.metadata.deletion_timestamp is None]
    surplus = sorted(live, key=age)[: max(0, len(live) - observed.policy.spec.retain_num_backups)]
    return [DeleteRecord(record.metadata.name, record.metadata.uid) for record in surplus]


def _state(observed: PolicyObserved, overdue: Condition | None, now: datetime) -> State:
    policy, location = observed.policy, observed.location
    name = policy.spec.destination
    if location is None:
        return broken(
            "LocationNotFound",
            f"BackupLocation {name!r}, named in spec.destination, does not exist: create it or correct the name",
        )
    if observed.rejection:
        return broken(
            "CronJobRejected", f"The API server refuses the CronJob; correct what it names: {observed.rejection}"
        )
    if not location.status.initialized:
        return progressing(
            "LocationNotReady",
            f"Waiting for BackupLocation {name!r} to be initialized: 'kubectl describe bl {name}' says more",
        )
    for _, stuck in observed.backups.stuck(now):
        return broken(stuck.reason, f"A backup cannot start: {stuck.advice}")
    if policy.status.backup_status is Outcome.FAILED:
        return broken(
            "BackupFailed",
            f"{(policy.status.backup_error_message or '').strip().rstrip('.')}. To try again before the schedule does: "
            f"kubectl create job again --from=cronjob/{cronjob_name(policy.metadata.name)}",
        )
    if overdue is not None and overdue.status == "True":
        return broken("BackupOverdue", overdue.message)
    if policy.spec.suspend:
        return ready("Suspended", "The schedule is paused by spec.suspend")
    if policy.status.backup_status is Outcome.COMPLETED:
        return ready("BackupSucceeded", "The latest backup succeeded")
    return ready("Scheduled", "Backups are scheduled; none has ended yet")


def _status(observed: PolicyObserved, due: Due, now: datetime) -> list[Action]:
    status, meta = observed.policy.status, observed.policy.metadata
    cause = find_cause(observed.policy, observed.location, observed.cronjob, observed.backups, now)
    told, events = tell_overdue(status, due, cause, generation=meta.generation, now=now)
    state = _state(observed, find_condition(told.conditions, OVERDUE), now)
    merged = conditions(told.conditions, state, generation=meta.generation, now=now)
    wanted = told.model_copy(update={"conditions": merged, "observed_generation": meta.generation})
    return [*events, SetStatus(wanted)] if wanted != status else []
