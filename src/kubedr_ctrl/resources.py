"""The kinds that the controller deals with, as the API server serves them."""

from typing import TypeVar

import msgspec
from pydantic import ValidationError

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import GROUP, VERSION
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.objects import CronJob, Job, Named, Object, Pod

B = TypeVar("B", CronJob, Job, Named, Pod)
M = TypeVar("M", BackupLocation, MetadataBackupPolicy, MetadataBackupRecord, MetadataRestore)
T = TypeVar("T", bound=Object)


def _builtin(group: str, plural: str, kind: str, type_: type[B]) -> Resource[B]:
    return Resource(group, "v1", plural, kind, msgspec.json.Decoder(type_).decode)


def _ours(plural: str, model: type[M]) -> Resource[M]:
    def decode(document: bytes) -> M:
        try:
            return model.model_validate_json(document)
        except ValidationError as error:
            what = (f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
            raise ValueError("; ".join(what)) from None

    return Resource(GROUP, VERSION, plural, model.__name__, decode)


def named(resource: Resource[T]) -> Resource[Named]:
    """Return the same kind, of which only the metadata is read."""
    return Resource(resource.group, resource.version, resource.plural, resource.kind, _NAMED)


_NAMED = msgspec.json.Decoder(Named).decode

LOCATIONS = _ours("backuplocations", BackupLocation)
POLICIES = _ours("metadatabackuppolicies", MetadataBackupPolicy)
RECORDS = _ours("metadatabackuprecords", MetadataBackupRecord)
RESTORES = _ours("metadatarestores", MetadataRestore)

JOBS = _builtin("batch", "jobs", "Job", Job)
CRONJOBS = _builtin("batch", "cronjobs", "CronJob", CronJob)
PODS = _builtin("", "pods", "Pod", Pod)
EVENTS = _builtin("", "events", "Event", Named)
NAMESPACES = _builtin("", "namespaces", "Namespace", Named)
