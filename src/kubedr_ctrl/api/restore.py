"""MetadataRestore: write one backup into a volume, once."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.meta import Condition, ObjectMeta, RecordedJob
from kubedr_ctrl.api.result import Outcome
from kubedr_ctrl.api.schema import NAME, Column, Names, rule, rules


class MetadataRestoreSpec(Model):
    """What is restored, and where to."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self == oldSelf", "a restore runs once and cannot change: create another MetadataRestore")
        )
    )

    mbr_name: Annotated[str, NAME]
    """Name of the MetadataBackupRecord to restore."""
    pvc_name: Annotated[str, NAME]
    """Name of the PersistentVolumeClaim that receives data/etcd-snapshot.db and data/certificates/."""


class MetadataRestoreStatus(Model):
    """How the restore went."""

    restore_status: Outcome | None = None
    """Completed or Failed."""
    restore_error_message: str | None = None
    """Why the restore failed; empty when it did not."""
    restore_time: str | None = None
    """When the restore ended, as C's ctime writes it, in UTC."""
    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    recorded: tuple[RecordedJob, ...] = ()
    """Jobs whose outcome stands in this status while the Job may still be there."""


class MetadataRestore(Model):
    """Writes one backup into a volume, once; whatever else is on the volume stays."""

    NAMES: ClassVar = Names(
        kind="MetadataRestore",
        plural="metadatarestores",
        short="mr",
        columns=(
            Column("Ready", ".status.conditions[?(@.type=='Ready')].status", "Whether the data is restored"),
            Column("Status", ".status.conditions[?(@.type=='Ready')].reason", "How it stands, in one word"),
            Column("Since", ".status.conditions[?(@.type=='Ready')].lastTransitionTime", "Since when", "date"),
            Column("Record", ".spec.mbrName", "MetadataBackupRecord restored"),
            Column("PVC", ".spec.pvcName", "PersistentVolumeClaim it goes to"),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", "Why it is so", priority=1),
        ),
    )

    metadata: ObjectMeta
    spec: MetadataRestoreSpec
    status: MetadataRestoreStatus = MetadataRestoreStatus()
