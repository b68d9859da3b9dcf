"""The Job that initialises a BackupLocation's repository."""

from kubedr_ctrl.api.location import BackupLocation, ExistingRepository
from kubedr_ctrl.api.names import API_VERSION, job_name, job_stem
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.api.task import InitTask
from kubedr_ctrl.jobs.template import Manifest, Pod, WorkerSetup, job, job_metadata, job_spec, owner_reference

TIMEOUT = 120.0


def init_job(location: BackupLocation, setup: WorkerSetup, *, attempt: str) -> Manifest:
    """Return the Job of one `attempt`; the same attempt gives the same Job's name."""
    meta = location.metadata
    stem = job_stem(meta.name, Operation.INIT, meta.uid)
    known = location.status.repository_id is not None
    task = InitTask(
        repository=location.spec.repository,
        timeout_seconds=TIMEOUT,
        adopt=known or location.spec.existing_repository is ExistingRepository.ADOPT,
        creator=stem,
    )
    return job(
        job_name(stem, attempt),
        job_metadata(Operation.INIT, meta, location),
        job_spec(Pod(task, location.spec), setup, Operation.INIT),
        owner_reference(BackupLocation.NAMES.kind, API_VERSION, meta.name, meta.uid),
    )
