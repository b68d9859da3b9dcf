"""The Job that removes snapshots from a repository: one at a time a location, for all that are due."""

from collections.abc import Sequence

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import API_VERSION, job_name, job_stem
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.api.task import ForgetTask
from kubedr_ctrl.jobs.template import Manifest, Pod, WorkerSetup, job, job_metadata, job_spec, owner_reference

TIMEOUT = 3600.0 * 6


def forget_job(location: BackupLocation, snapshot_ids: Sequence[str], setup: WorkerSetup, *, attempt: str) -> Manifest:
    """Return the Job of one `attempt` to forget `snapshot_ids`."""
    meta = location.metadata
    task = ForgetTask(repository=location.spec.repository, timeout_seconds=TIMEOUT, snapshot_ids=tuple(snapshot_ids))
    return job(
        job_name(job_stem(meta.name, Operation.FORGET, meta.uid), attempt, *snapshot_ids),
        job_metadata(Operation.FORGET, meta, location, snapshot_ids),
        job_spec(Pod(task, location.spec), setup, Operation.FORGET),
        owner_reference(BackupLocation.NAMES.kind, API_VERSION, meta.name, meta.uid),
    )
