"""MetadataBackupRecord: one good backup, from which one can restore."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.meta import Condition, ObjectMeta, Time
from kubedr_ctrl.api.schema import NAME, Column, Names, rule, rules


class MetadataBackupRecordSpec(Model):
    """Which snapshot it is."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "a record says what was backed up and cannot change: delete it if it is not wanted",
            )
        )
    )

    snapshot_id: Annotated[str, Field(min_length=8, max_length=64, pattern="^[0-9a-f]+$")]
    """restic's ID of the snapshot, its first 8 characters."""
    policy: Annotated[str, NAME]
    """Name of the MetadataBackupPolicy that made the backup."""
    backuploc: Annotated[str, NAME]
    """Name of the BackupLocation that holds it."""


class MetadataBackupRecordStatus(Model):
    """What the backup holds."""

    time: Time | None = None
    """When the backup ended."""
    size_bytes: int | None = None
    data_added_bytes: int | None = None
    duration_secs: str | None = None
    etcd_revision: int | None = None
    """etcd's revision as the snapshot began."""
    etcd_keys: int | None = None
    certificates: tuple[str, ...] = ()
    """Names of the certificates it holds, the first few of them."""
    certificate_count: int | None = None
    verification: str | None = None
    """How the backup was verified."""
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()


class MetadataBackupRecord(Model):
    """One good backup of etcd and certificates. Deleting it removes the backup from the repository."""

    NAMES: ClassVar = Names(
        kind="MetadataBackupRecord",
        plural="metadatabackuprecords",
        short="mbr",
        columns=(
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether it can be restored"),
            Column("Status", ".status.conditions[?(@.type=='Ready')].reason", "How it stands, in one word"),
            Column("Policy", ".spec.policy", "MetadataBackupPolicy that made it"),
            Column("Location", ".spec.backuploc", "BackupLocation that holds it"),
            Column("Taken", ".status.time", "When the backup ended", "date"),
            Column("Size", ".status.sizeBytes", "Bytes it holds", "integer"),
            Column("Revision", ".status.etcdRevision", "etcd's revision", "integer", priority=1),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", "Why it is so", priority=1),
        ),
    )

    metadata: ObjectMeta
    spec: MetadataBackupRecordSpec
    status: MetadataBackupRecordStatus = MetadataBackupRecordStatus()
