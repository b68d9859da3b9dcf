"""Init: a new repository in the bucket, which is created if there is none; or one that is joined.

A repository that is there already is ours if the task adopts it, or if its first key was made by an earlier
try of the same Job, and if the password opens it. Otherwise restic's own refusal is the message.
"""

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.api.task import InitTask
from kubedr_ctrl.worker.ending import Failure, Report
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.restic import WRONG_PASSWORD, Restic, read_json
from kubedr_ctrl.worker.s3 import probe


async def init(task: InitTask, environment: Environment) -> Report:
    """Do the task; it is completed once there is a repository that the password opens."""
    diagnosis = await probe(task.repository, environment)
    if diagnosis and diagnosis.reason is not Reason.BUCKET_NOT_FOUND:
        raise diagnosis
    restic = Restic(task.repository, environment)
    created = await restic.run("--json", "-r", restic.address, "init")
    if created.exit_status == 0:
        return Report(repository_id=read_json(created.stdout)["id"])
    if diagnosis:  # there was no bucket, hence no repository either
        raise Failure(diagnosis.reason, created.message())

    opened = await restic.run("--json", "-r", restic.address, "--no-lock", "cat", "config")
    if opened.exit_status == 0:
        if task.adopt or await _made_by(task.creator, restic):
            return Report(repository_id=read_json(opened.stdout)["id"])
        raise Failure(Reason.REPOSITORY_EXISTS, created.message())
    if opened.exit_status != WRONG_PASSWORD:
        raise Failure(Reason.RESTIC_FAILED, created.message())
    if not task.adopt:
        raise Failure(Reason.REPOSITORY_EXISTS, created.message())
    raise Failure(
        Reason.WRONG_PASSWORD,
        f"the repository at {restic.address} has another password: set restic_repo_password in the credentials "
        "Secret to the one that it was made with",
    )


async def _made_by(creator: str, restic: Restic) -> bool:
    """Return whether the repository's first key was made on a host whose name begins with `creator`."""
    run = await restic.run("--json", "-r", restic.address, "--no-lock", "key", "list")
    if run.exit_status:
        return False
    first = min(read_json(run.stdout), key=lambda key: str(key["created"]))
    return str(first["hostName"]).startswith(creator)
