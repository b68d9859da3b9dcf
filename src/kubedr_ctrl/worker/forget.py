"""Forget: take snapshots out of the repository and give their space back."""

from kubedr_ctrl.api.task import ForgetTask
from kubedr_ctrl.worker.ending import Report
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.restic import Restic
from kubedr_ctrl.worker.s3 import probe


async def forget(task: ForgetTask, environment: Environment) -> Report:
    """Do the task; snapshots that are gone already are as good as forgotten."""
    restic = Restic(task.repository, environment)
    await restic.work(
        *("--json", "-r", restic.address, "forget", "--prune", *task.snapshot_ids),
        diagnosis=await probe(task.repository, environment),
    )
    return Report()
