"""Restore: a snapshot's files, onto the volume; whatever else is there stays."""

import asyncio

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.api.task import RestoreTask
from kubedr_ctrl.worker.checksum import intact
from kubedr_ctrl.worker.ending import Failure, Report
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.restic import Restic
from kubedr_ctrl.worker.s3 import probe


async def restore(task: RestoreTask, environment: Environment) -> Report:
    """Do the task; it is completed once the restored etcd snapshot has proved whole."""
    restic = Restic(task.repository, environment)
    await restic.work(
        *("-r", restic.address, "--verbose", "restore", "--target", str(environment.paths.restore), task.snapshot_id),
        diagnosis=await probe(task.repository, environment),
    )
    file = environment.paths.restored_snapshot
    if not (file.is_file() and await asyncio.to_thread(intact, file)):
        where = file.relative_to(environment.paths.restore)
        raise Failure(
            Reason.SNAPSHOT_CORRUPT,
            f"snapshot {task.snapshot_id} was restored, but its {where} is missing or does not match its own "
            "checksum: restore another one",
        )
    return Report()
