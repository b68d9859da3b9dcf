"""How a result changes a status: plain functions, the same result twice changes nothing the second time."""

from bisect import bisect_left

from kubedr_ctrl.api.location import BackupLocationStatus, InitStatus
from kubedr_ctrl.api.meta import ctime, parse_ctime
from kubedr_ctrl.api.names import record_name
from kubedr_ctrl.api.policy import (
    DURATION_BUCKETS,
    LastSuccessfulBackup,
    MetadataBackupPolicyStatus,
    Totals,
)
from kubedr_ctrl.api.record import MetadataBackupRecordStatus
from kubedr_ctrl.api.restore import MetadataRestoreStatus
from kubedr_ctrl.api.result import Result, Snapshot
from kubedr_ctrl.results.harvest import Harvest


def reflect_init(status: BackupLocationStatus, harvest: Harvest) -> BackupLocationStatus:
    """Return the status of a location after an initialisation."""
    result = harvest.result
    return status.model_copy(
        update={
            "init_status": InitStatus.COMPLETED if result.completed else InitStatus.FAILED,
            "init_error_message": result.message,
            "init_time": ctime(result.finished),
            "repository_id": result.repository_id or status.repository_id,
        }
    )


def reflect_restore(status: MetadataRestoreStatus, harvest: Harvest) -> MetadataRestoreStatus:
    """Return the status of a restore after its one run."""
    result = harvest.result
    return status.model_copy(
        update={
            "restore_status": result.outcome,
            "restore_error_message": result.message,
            "restore_time": ctime(result.finished),
        }
    )


def reflect_backup(status: MetadataBackupPolicyStatus, harvest: Harvest) -> MetadataBackupPolicyStatus:
    """Return the status of a policy after a backup: totals always, the latest outcome if it is the latest.

    After a failure no field shows the figures of an earlier success; those stay in `lastSuccessfulBackup`.
    """
    result = harvest.result
    update: dict[str, object] = {"totals": _count(status.totals, result)}
    if result.completed and result.snapshot:
        update["last_successful_backup"] = _last_success(status.last_successful_backup, result, result.snapshot)
    latest = parse_ctime(status.backup_time)
    if latest is None or result.finished.replace(microsecond=0) >= latest:
        snapshot = result.snapshot if result.completed else None
        update |= {
            "backup_status": result.outcome,
            "backup_error_message": result.message,
            "backup_time": ctime(result.finished),
            "backup_pod": harvest.pod or None,
            "files_new": snapshot.files_new if snapshot else None,
            "files_changed": snapshot.files_changed if snapshot else None,
            "data_added": snapshot.data_added if snapshot else None,
            "total_bytes_processed": snapshot.total_bytes_processed if snapshot else None,
            "total_duration_secs": snapshot.total_duration_secs if snapshot else None,
            "snapshot_id": snapshot.id if snapshot else None,
            "mbr_name": record_name(snapshot.id) if snapshot else None,
        }
    return status.model_copy(update=update)


def describe_record(result: Result, snapshot: Snapshot) -> MetadataBackupRecordStatus:
    """Return what a record says of its backup."""
    return MetadataBackupRecordStatus(
        time=result.finished.replace(microsecond=0),
        size_bytes=snapshot.total_bytes_processed,
        data_added_bytes=snapshot.data_added,
        duration_secs=snapshot.total_duration_secs,
        etcd_revision=result.etcd.revision if result.etcd else None,
        etcd_keys=result.etcd.keys if result.etcd else None,
        certificates=result.certificates,
        certificate_count=result.certificate_count,
        verification="The etcd snapshot's SHA-256 was checked before it was stored",
    )


def _count(totals: Totals, result: Result) -> Totals:
    if not result.completed:
        return totals.model_copy(update={"backups": totals.backups + 1, "failed": totals.failed + 1})
    seconds = float(result.snapshot.total_duration_secs) if result.snapshot else 0.0
    counts = list(totals.duration_bucket_counts)
    counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
    return totals.model_copy(
        update={
            "backups": totals.backups + 1,
            "successful": totals.successful + 1,
            "duration_seconds_sum": totals.duration_seconds_sum + seconds,
            "duration_bucket_counts": tuple(counts),
        }
    )


def _last_success(last: LastSuccessfulBackup | None, result: Result, snapshot: Snapshot) -> LastSuccessfulBackup:
    time = result.finished.replace(microsecond=0)
    if last is not None and last.time > time:
        return last
    return LastSuccessfulBackup(
        time=time,
        mbr_name=record_name(snapshot.id),
        snapshot_id=snapshot.id,
        total_bytes_processed=snapshot.total_bytes_processed,
        data_added=snapshot.data_added,
        etcd_revision=result.etcd.revision if result.etcd else None,
    )
