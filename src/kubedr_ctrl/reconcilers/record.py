"""MetadataBackupRecord: say that it can be restored; let it go once its snapshot is forgotten."""

from dataclasses import dataclass
from datetime import datetime

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import RECORD_FINALIZER
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.reconcilers.jobs import JobsOf, forgotten
from kubedr_ctrl.reconcilers.plan import (
    Action,
    Plan,
    SetFinalizers,
    SetStatus,
    State,
    broken,
    conditions,
    progressing,
    ready,
)


@dataclass(frozen=True)
class RecordObserved:
    """A record and what bears on it."""

    record: MetadataBackupRecord
    location: BackupLocation | None = None
    forget: JobsOf = JobsOf()
    """The Jobs of the record's location that forget snapshots."""


def reconcile(observed: RecordObserved, now: datetime) -> Plan:
    """Decide what is to be done for a MetadataBackupRecord."""
    record = observed.record
    finalizers = record.metadata.finalizers
    if record.metadata.deletion_timestamp is not None:
        if RECORD_FINALIZER in finalizers and record.spec.snapshot_id in forgotten(observed.forget):
            return Plan((SetFinalizers(tuple(name for name in finalizers if name != RECORD_FINALIZER)),))
    elif RECORD_FINALIZER not in finalizers:
        return Plan((SetFinalizers((*finalizers, RECORD_FINALIZER)),))
    return Plan(_status(observed, now))


def _state(observed: RecordObserved) -> State:
    spec = observed.record.spec
    if observed.location is None:
        return broken(
            "LocationNotFound",
            f"BackupLocation {spec.backuploc!r}, which holds snapshot {spec.snapshot_id}, does not exist: create it "
            "again with existingRepository: Adopt",
        )
    if observed.record.metadata.deletion_timestamp is not None:
        return progressing(
            "Forgetting",
            f"Snapshot {spec.snapshot_id} is being removed from the repository; if that lasts, "
            f"'kubectl events --for backuplocation/{spec.backuploc}' tells why",
        )
    return ready("Available", "The backup can be restored")


def _status(observed: RecordObserved, now: datetime) -> tuple[Action, ...]:
    status, meta = observed.record.status, observed.record.metadata
    merged = conditions(status.conditions, _state(observed), generation=meta.generation, now=now)
    wanted = status.model_copy(update={"conditions": merged, "observed_generation": meta.generation})
    return (SetStatus(wanted),) if wanted != status else ()
