"""Backup: an etcd snapshot and the certificates, into the repository."""

from pathlib import Path

from kubedr_ctrl.api.result import Reason, Snapshot
from kubedr_ctrl.api.task import JOB_UID_ENV, BackupTask, SecretEnv
from kubedr_ctrl.worker import etcd
from kubedr_ctrl.worker.ending import Failure, Report
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.restic import Restic, Run
from kubedr_ctrl.worker.s3 import probe

_NAMED_CERTIFICATES = 20


async def backup(task: BackupTask, environment: Environment) -> Report:
    """Do the task; it is completed once restic has saved everything."""
    paths = environment.paths
    restic = Restic(task.repository, environment, host=task.policy)
    state = await etcd.snapshot(task.etcd_endpoints, _credentials(task, environment), paths.snapshot)
    environment.log("etcd snapshot taken", revision=state.revision, keys=state.keys)
    certificates = _files(paths.certificates)
    tags = {"policy": task.policy, "job": environment.variables.get(JOB_UID_ENV, ""), "cluster": task.cluster}
    run = await restic.work(
        *("--json", "-r", restic.address, "--verbose", "backup"),
        *(word for name, value in tags.items() for word in ("--tag", f"{name}={value}")),
        str(paths.data),
        diagnosis=await probe(task.repository, environment),
    )
    return Report(
        snapshot=_snapshot(run),
        etcd=state,
        certificates=certificates[:_NAMED_CERTIFICATES],
        certificate_count=len(certificates),
    )


def _credentials(task: BackupTask, environment: Environment) -> etcd.Credentials | None:
    if not any(endpoint.startswith("https:") for endpoint in task.etcd_endpoints):
        return None
    return etcd.Credentials(*map(environment.secret, (SecretEnv.ETCD_CA, SecretEnv.ETCD_CERT, SecretEnv.ETCD_KEY)))


def _files(directory: Path) -> tuple[str, ...]:
    return tuple(sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()))


def _snapshot(run: Run) -> Snapshot:
    """Return the figures of restic's summary."""
    for message in run.messages():
        if message.get("message_type") == "summary":
            return Snapshot(
                id=message["snapshot_id"][:8],
                files_new=message["files_new"],
                files_changed=message["files_changed"],
                data_added=message["data_added"],
                total_bytes_processed=message["total_bytes_processed"],
                total_duration_secs=str(message["total_duration"]),
            )
    raise Failure(Reason.RESTIC_FAILED, "restic ended well but did not say which snapshot it made")
