"""A repository that the original KubeDR made: joined, restored from, written to, and cleaned up."""

import json
import subprocess

import pytest

from kubedr_ctrl.api.task import BackupTask, ForgetTask, InitTask, Repository, RestoreTask
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.main import perform
from tests.integration.worker.test_backup_and_restore import put, restic, revision_of
from tests.servers.etcd import Etcd
from tests.servers.process import binary


@pytest.fixture
def old_snapshot(environment: Environment, location: Repository, etcd: Etcd) -> str:
    """A backup as kubedrutil made it: etcdctl, a copy of the certificates, restic 0.9.6 without host and tags."""

    def run(*command: str) -> str:
        done = subprocess.run(command, env=dict(environment.variables), capture_output=True, text=True, check=True)
        return done.stdout

    flags = [f"--endpoints={etcd.endpoint}", f"--cacert={etcd.authority.certificate}"]
    flags += [f"--cert={etcd.client.certificate}", f"--key={etcd.client.key}"]
    put(etcd, "/registry/old", "kept")
    run(binary("etcdctl"), *flags, "snapshot", "save", str(environment.paths.snapshot))
    environment.paths.certificates.mkdir()
    (environment.paths.certificates / "ca.key").write_text("key")
    restic_at = (binary("restic"), "--no-cache", "-r", location.address)
    run(*restic_at, "init", "--repository-version", "1")
    lines = run(*restic_at, "--json", "backup", "--host", "master-1", str(environment.paths.data)).splitlines()
    snapshot: str = json.loads(lines[-1])["snapshot_id"]
    environment.paths.snapshot.unlink()
    return snapshot[:8]


async def test_its_snapshots_are_restored_beside_new_ones(
    environment: Environment, location: Repository, backup_task: BackupTask, old_snapshot: str
) -> None:
    refused = await perform(InitTask(repository=location, timeout_seconds=60, creator="us"), environment)
    assert "already initialized" in refused.message
    joined = await perform(InitTask(repository=location, timeout_seconds=60, creator="us", adopt=True), environment)
    assert joined.repository_id, joined

    result = await perform(RestoreTask(repository=location, timeout_seconds=60, snapshot_id=old_snapshot), environment)
    assert result.completed, result
    assert revision_of(environment.paths.restored_snapshot) > 0
    restored = environment.paths.restored_snapshot.parent / "certificates" / "ca.key"
    assert restored.read_text() == "key"

    result = await perform(backup_task.model_copy(update={"repository": location}), environment)
    assert result.completed, result
    assert result.snapshot
    assert restic(location, environment, "cat", "config")["version"] == 1

    await perform(ForgetTask(repository=location, timeout_seconds=60, snapshot_ids=(old_snapshot,)), environment)
    assert [found["short_id"] for found in restic(location, environment, "snapshots")] == [result.snapshot.id]
