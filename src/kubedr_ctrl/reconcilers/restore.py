"""MetadataRestore: run once, as soon as all that it needs is there."""

from dataclasses import dataclass, replace
from datetime import datetime

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.meta import ctime
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore, MetadataRestoreStatus
from kubedr_ctrl.api.result import Outcome, Reason
from kubedr_ctrl.jobs.restore import restore_job
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.reconcilers.jobs import JobsOf, end_stuck, next_look
from kubedr_ctrl.reconcilers.plan import (
    Action,
    Announce,
    CreateJob,
    Plan,
    SetStatus,
    State,
    broken,
    conditions,
    progressing,
    ready,
)

WAITED_FOR = (Reason.UNSCHEDULABLE.value, Reason.VOLUMES_NOT_READY.value)
CREATE_FAILED = "Error in creating restore pod"
"""What the user guide has a restore say whose pod could not be created."""


@dataclass(frozen=True)
class RestoreObserved:
    """A restore and what bears on it."""

    restore: MetadataRestore
    setup: WorkerSetup
    record: MetadataBackupRecord | None = None
    location: BackupLocation | None = None
    jobs: JobsOf = JobsOf()
    rejection: str = ""
    """What the API server said when it refused a plan made of the same observation."""


def reconcile(observed: RestoreObserved, now: datetime) -> Plan:
    """Decide what is to be done for a MetadataRestore."""
    restore = observed.restore
    if restore.metadata.deletion_timestamp is not None or restore.status.restore_status is not None:
        return Plan(_status(observed, restore.status, now))
    actions: list[Action] = []
    status = restore.status
    if observed.rejection:
        message = f"{CREATE_FAILED}: {observed.rejection}"
        status = status.model_copy(
            update={
                "restore_status": Outcome.FAILED,
                "restore_error_message": message,
                "restore_time": ctime(now),
            }
        )
        actions.append(Announce("RestoreFailed", message))
    elif observed.record is not None and observed.location is not None and not observed.jobs.jobs:
        actions.append(CreateJob(restore_job(restore, observed.record, observed.location, observed.setup)))
    # A volume that is missing may come: a restore waits for it as long as its Job may run.
    actions += (end for end in end_stuck(observed.jobs, now) if not end.diagnosis.startswith(WAITED_FOR))
    return Plan((*actions, *_status(observed, status, now)), next_look(observed.jobs, now))


def rejected(observed: RestoreObserved, message: str, now: datetime) -> Plan:
    """Decide anew, knowing that the API server refused the previous plan."""
    return reconcile(replace(observed, rejection=message), now)


def _state(observed: RestoreObserved, status: MetadataRestoreStatus, now: datetime) -> State:
    spec = observed.restore.spec
    if status.restore_status is Outcome.COMPLETED:
        return ready("RestoreSucceeded", f"{spec.mbr_name} is restored into volume {spec.pvc_name}")
    if status.restore_status is Outcome.FAILED:
        error = (status.restore_error_message or "").strip().rstrip(".")
        return broken("RestoreFailed", f"{error}. A restore runs once: to try again, create another MetadataRestore")
    if observed.jobs.jobs:
        for _, stuck in observed.jobs.stuck(now):
            return progressing(stuck.reason, f"The restore cannot start yet: {stuck.advice}")
        return progressing("Restoring", f"Restoring {spec.mbr_name} into volume {spec.pvc_name}")
    if observed.record is None:
        return progressing(
            "RecordNotFound",
            f"MetadataBackupRecord {spec.mbr_name!r}, named in spec.mbrName, does not exist: it is waited for; "
            "'kubectl get metadatabackuprecords' lists those there are",
        )
    if observed.location is None:
        return progressing(
            "LocationNotFound",
            f"BackupLocation {observed.record.spec.backuploc!r}, which holds {spec.mbr_name}, does not exist: "
            "create it again with existingRepository: Adopt",
        )
    return progressing("Restoring", f"Restoring {spec.mbr_name} into volume {spec.pvc_name}")


def _status(observed: RestoreObserved, status: MetadataRestoreStatus, now: datetime) -> tuple[Action, ...]:
    meta = observed.restore.metadata
    merged = conditions(status.conditions, _state(observed, status, now), generation=meta.generation, now=now)
    wanted = status.model_copy(update={"conditions": merged, "observed_generation": meta.generation})
    return (SetStatus(wanted),) if wanted != observed.restore.status else ()
