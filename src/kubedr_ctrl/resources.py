"""The kinds that the controller deals with, as the API server serves them."""

from typing import TypeVar

import msgspec

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import GROUP, VERSION
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.objects import CronJob, Job, Named, Pod

B = TypeVar("B", CronJob, Job, Named, Pod)


def _builtin(group: str, plural: str, kind: str, type_: type[B]) -> Resource[B]:
    return Resource(group, "v1", plural, kind, msgspec.json.Decoder(type_).decode)


LOCATIONS = Resource(GROUP, VERSION, "backuplocations", "BackupLocation", BackupLocation.model_validate_json)
POLICIES = Resource(
    GROUP, VERSION, "metadatabackuppolicies", "MetadataBackupPolicy", MetadataBackupPolicy.model_validate_json
)
RECORDS = Resource(
    GROUP, VERSION, "metadatabackuprecords", "MetadataBackupRecord", MetadataBackupRecord.model_validate_json
)
RESTORES = Resource(GROUP, VERSION, "metadatarestores", "MetadataRestore", MetadataRestore.model_validate_json)

JOBS = _builtin("batch", "jobs", "Job", Job)
CRONJOBS = _builtin("batch", "cronjobs", "CronJob", CronJob)
PODS = _builtin("", "pods", "Pod", Pod)
EVENTS = _builtin("", "events", "Event", Named)
NAMESPACES = _builtin("", "namespaces", "Namespace", Named)
