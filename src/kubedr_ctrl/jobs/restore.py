"""The Job that writes a backup into a volume."""

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import API_VERSION, job_name, job_stem
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.api.task import RESTORE_DIR, RestoreTask
from kubedr_ctrl.jobs.template import Manifest, Pod, WorkerSetup, job, job_metadata, job_spec, owner_reference

TIMEOUT = 3600.0 * 6


def restore_job(
    restore: MetadataRestore, record: MetadataBackupRecord, location: BackupLocation, setup: WorkerSetup
) -> Manifest:
    """Return the one Job of a restore; it runs as root, as the files and often the volume belong to root."""
    meta = restore.metadata
    task = RestoreTask(
        repository=location.spec.repository, timeout_seconds=TIMEOUT, snapshot_id=record.spec.snapshot_id
    )
    pod = Pod(
        task,
        location.spec,
        as_root=True,
        volumes=[{"name": "restore", "persistentVolumeClaim": {"claimName": restore.spec.pvc_name}}],
        mounts=[{"name": "restore", "mountPath": RESTORE_DIR}],
    )
    return job(
        job_name(job_stem(meta.name, Operation.RESTORE, meta.uid), meta.uid),
        job_metadata(Operation.RESTORE, meta, location, [task.snapshot_id]),
        job_spec(pod, setup, Operation.RESTORE),
        owner_reference(MetadataRestore.NAMES.kind, API_VERSION, meta.name, meta.uid),
    )
