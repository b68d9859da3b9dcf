"""What a Job asks of the worker: one JSON document, the worker's only command-line argument.

A task holds nothing secret, as anybody who may read Pods can read it. Secrets reach the worker by
environment variables that the Job takes from Secrets (`SecretEnv` names them), and the Job's own UID by
`JOB_UID_ENV`.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from kubedr_ctrl.api.base import Model

JOB_UID_ENV = "KUBEDR_JOB_UID"
CA_BUNDLE_PATH = "/etc/kubedr/ca/bundle.crt"
"""Certificates to check the S3 endpoint's against, instead of the public ones, where it is mounted."""
DATA_DIR = "/data"
CERTIFICATES_DIR = f"{DATA_DIR}/certificates"
SNAPSHOT_FILE = f"{DATA_DIR}/etcd-snapshot.db"
RESTORE_DIR = "/restore"


class SecretEnv(StrEnum):
    """The environment variables that carry secrets into a worker; restic itself reads the first three."""

    ACCESS_KEY = "AWS_ACCESS_KEY_ID"
    SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - a variable's name
    PASSWORD = "RESTIC_PASSWORD"  # noqa: S105 - a variable's name
    ETCD_CA = "KUBEDR_ETCD_CA"
    ETCD_CERT = "KUBEDR_ETCD_CERT"
    ETCD_KEY = "KUBEDR_ETCD_KEY"


class Repository(Model):
    """A restic repository in an S3 bucket."""

    url: str
    """The S3 endpoint, `http://host:port` or `https://host`."""
    bucket: str
    prefix: str = ""
    region: str = ""

    @property
    def address(self) -> str:
        """How restic names it: `s3:http://host:port/bucket[/prefix]`."""
        return "/".join(part for part in (f"s3:{self.url.rstrip('/')}", self.bucket, self.prefix.strip("/")) if part)


class _Task(Model):
    repository: Repository
    timeout_seconds: float
    """After so many seconds the worker gives up and reports so, ahead of the Job's own deadline."""


class InitTask(_Task):
    """Initialise the repository, creating its bucket where there is none."""

    operation: Literal["init"] = "init"
    adopt: bool = False
    """Join a repository that is already there, if the password opens it."""
    creator: str
    """The stem of the names of this location's init pods. A repository whose first key was made on a host
    of such a name is the work of an earlier try of the same initialisation, and therefore ours."""


class BackupTask(_Task):
    """Save etcd and, where they are mounted at `CERTIFICATES_DIR`, the certificates."""

    operation: Literal["backup"] = "backup"
    policy: str
    cluster: str
    """The cluster's identity: the UID of its namespace kube-system."""
    etcd_endpoints: tuple[str, ...]


class RestoreTask(_Task):
    """Write a snapshot's files below `RESTORE_DIR`."""

    operation: Literal["restore"] = "restore"
    snapshot_id: str


class ForgetTask(_Task):
    """Forget snapshots and give back the space that only they took."""

    operation: Literal["forget"] = "forget"
    snapshot_ids: tuple[str, ...]


Task = Annotated[InitTask | BackupTask | RestoreTask | ForgetTask, Field(discriminator="operation")]
TASK: TypeAdapter[InitTask | BackupTask | RestoreTask | ForgetTask] = TypeAdapter(Task)
