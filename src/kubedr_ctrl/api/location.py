"""BackupLocation: an S3 bucket that holds a restic repository."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.meta import Condition, ObjectMeta, RecordedJob
from kubedr_ctrl.api.schema import NAME, Column, Names, rule, rules
from kubedr_ctrl.api.task import Repository


def _fixed(field: str, cel: str = "self == oldSelf") -> dict[str, str]:
    return rule(
        cel,
        f"{field} cannot change, as backups stay where they are: create a new BackupLocation for the new "
        "place and name it in spec.destination of the policies",
    )


class ExistingRepository(StrEnum):
    """What to do with a repository that is there already."""

    FAIL = "Fail"
    ADOPT = "Adopt"


class InitStatus(StrEnum):
    """How far the initialisation of the repository is."""

    INITIALIZING = "Initializing"
    COMPLETED = "Completed"
    FAILED = "Failed"


class KeySelector(Model):
    """A key of a ConfigMap or a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1)]
    key: Annotated[str, Field(min_length=1)]


class CaBundle(Model):
    """Where the certificates are that the S3 endpoint's certificate is checked against."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.configMap) != has(self.secret)",
                "caBundle takes either configMap or secret, exactly one of them",
            )
        )
    )

    config_map: KeySelector | None = None
    secret: KeySelector | None = None


class BackupLocationSpec(Model):
    """Where backups go."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _fixed(
                "prefix",  # a rule of the field itself would not see it come or go
                "(has(self.prefix) ? self.prefix : '') == (has(oldSelf.prefix) ? oldSelf.prefix : '')",
            )
        )
    )

    url: Annotated[
        str,
        Field(
            max_length=2048,
            json_schema_extra=rules(
                _fixed("url"),
                rule(
                    "isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",
                    "url must be the S3 endpoint as http://host[:port] or https://host[:port], without the bucket",
                ),
            ),
        ),
    ]
    """The S3 endpoint, such as https://s3.eu-central-1.amazonaws.com."""
    bucket_name: Annotated[
        str,
        Field(
            min_length=3,
            max_length=63,
            json_schema_extra=rules(
                _fixed("bucketName"),
                rule(
                    "self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$') && !self.contains('..')",
                    "bucketName must be a name that S3 accepts: 3 to 63 lower-case letters, digits, dots and "
                    "hyphens, beginning and ending with a letter or digit",
                ),
            ),
        ),
    ]
    """The bucket; it is created if there is none."""
    credentials: Annotated[str, NAME]
    """Name of the Secret with the keys access_key, secret_key and restic_repo_password."""
    prefix: Annotated[
        str,
        Field(
            max_length=512,
            json_schema_extra=rules(
                rule(
                    "self.matches('^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?)?$')",
                    "prefix must be a path inside the bucket such as clusters/prod, without a leading slash",
                ),
            ),
        ),
    ] = ""
    """Path of the repository inside the bucket, so that several clusters can share one."""
    existing_repository: ExistingRepository = ExistingRepository.FAIL
    """What to do with a repository that is there already: Fail, or Adopt it if the password opens it, which
    is what a rebuilt cluster needs."""
    region: Annotated[str, Field(max_length=64)] = ""
    """The region that requests are signed for, where the endpoint cares."""
    ca_bundle: CaBundle | None = None
    """Certificates to check the endpoint's certificate against, instead of the public ones."""

    @property
    def repository(self) -> Repository:
        """The repository as the worker takes it."""
        return Repository(
            url=self.url,
            bucket=self.bucket_name,
            prefix=self.prefix,
            region=self.region,
        )


class BackupLocationStatus(Model):
    """What became of the repository."""

    init_status: InitStatus | None = None
    """Initializing, Completed or Failed."""
    init_error_message: str | None = None
    """Why the initialisation failed; empty when it did not."""
    init_time: str | None = None
    """When the last initialisation ended, as C's ctime writes it, in UTC."""
    repository_id: str | None = None
    """restic's ID of the repository."""
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    recorded: tuple[RecordedJob, ...] = ()
    """Jobs whose outcome stands in this status while the Job may still be there."""

    @property
    def initialized(self) -> bool:
        """Whether backups can go there. The original KubeDR left no repository ID: that is found by a new try."""
        return self.init_status is InitStatus.COMPLETED and self.repository_id is not None


class BackupLocation(Model):
    """An S3 bucket that holds a restic repository, encrypted and deduplicated."""

    NAMES: ClassVar = Names(
        kind="BackupLocation",
        plural="backuplocations",
        short="bl",
        columns=(
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether backups can go there"),
            Column("Status", ".status.conditions[?(@.type=='Ready')].reason", "How it stands, in one word"),
            Column("Since", ".status.conditions[?(@.type=='Ready')].lastTransitionTime", "Since when", "date"),
            Column("URL", ".spec.url", "The S3 endpoint"),
            Column("Bucket", ".spec.bucketName", "The bucket"),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", "Why it is so", priority=1),
        ),
    )

    metadata: ObjectMeta
    spec: BackupLocationSpec
    status: BackupLocationStatus = BackupLocationStatus()
