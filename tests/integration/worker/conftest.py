"""A pod for the worker: its volumes, its variables, etcd to save and a bucket to save it to."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from kubedr_ctrl.api.task import JOB_UID_ENV, BackupTask, InitTask, Repository, SecretEnv
from kubedr_ctrl.worker import restic as restic_module
from kubedr_ctrl.worker import s3 as s3_module
from kubedr_ctrl.worker.environment import Environment, Paths
from kubedr_ctrl.worker.main import perform
from tests.servers.etcd import Etcd
from tests.servers.s3 import S3

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="session")
def variables(s3: S3, etcd: Etcd) -> dict[str, str]:
    """The variables of a pod whose Secrets are all right."""
    return {
        "PATH": os.environ["PATH"],
        JOB_UID_ENV: "2c1a6c3e-0000-4000-8000-00000000job1",
        SecretEnv.ACCESS_KEY: s3.keys.access,
        SecretEnv.SECRET_KEY: s3.keys.secret,
        SecretEnv.PASSWORD: PASSWORD,
        SecretEnv.ETCD_CA: etcd.authority.certificate.read_text(),
        SecretEnv.ETCD_CERT: etcd.client.certificate.read_text(),
        SecretEnv.ETCD_KEY: etcd.client.key.read_text(),
    }


@pytest.fixture
def environment(tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Environment:
    """A pod with empty volumes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths = Paths(data=tmp_path / "data", restore=tmp_path / "restore", ca_certificates=tmp_path / "bundle.crt")
    paths.data.mkdir()
    paths.restore.mkdir()
    return Environment(paths, variables)


@pytest.fixture
def with_variables(environment: Environment) -> Callable[..., Environment]:
    """Return the pod with some of its variables changed, or unset by None."""

    def changed(**changes: str | None) -> Environment:
        merged = {**environment.variables, **changes}
        return replace(environment, variables={name: value for name, value in merged.items() if value is not None})

    return changed


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait 1 s instead of 5 s for those who will never answer."""
    monkeypatch.setattr(restic_module, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(s3_module, "PATIENCE_SECONDS", 1.0)


@pytest.fixture
def location(s3: S3, bucket: str) -> Repository:
    """Where there is no bucket yet."""
    return Repository(url=s3.url, bucket=bucket)


@pytest.fixture(scope="session")
def repository(s3: S3, variables: dict[str, str]) -> Repository:
    """An initialised repository, for all tests that leave it usable."""
    repository = Repository(url=s3.url, bucket=f"shared-{uuid4().hex[:12]}")
    task = InitTask(repository=repository, timeout_seconds=30, creator="nobody")
    result = asyncio.run(perform(task, Environment(Paths(), variables)))
    assert result.completed, result
    return repository


@pytest.fixture
def backup_task(repository: Repository, etcd: Etcd) -> BackupTask:
    """A backup that succeeds."""
    return BackupTask(
        repository=repository,
        timeout_seconds=60,
        policy="nightly",
        cluster="4b7d1f9a-cluster",
        etcd_endpoints=(etcd.endpoint,),
    )
