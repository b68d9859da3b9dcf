"""The kinds that the controller deals with, as the API server serves them."""

from sys import intern
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from pydantic import ValidationError

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import GROUP, RESULT_ANNOTATION, RESULT_POD_ANNOTATION, VERSION
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.objects import (
    ContainerState,
    ContainerStatus,
    CronJob,
    Job,
    Named,
    Object,
    Pod,
    PodSpec,
    PodStatus,
)

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


def _slim_job(document: bytes) -> Job:
    job = JOBS.decode(document)
    meta, ours = job.metadata, f"{GROUP}/"
    metadata = replace(
        meta,
        labels={intern(key): intern(value) for key, value in meta.labels.items() if key.startswith(ours)},
        annotations={
            intern(key): intern(value)
            for key, value in meta.annotations.items()
            if key.startswith(ours) and key not in (RESULT_ANNOTATION, RESULT_POD_ANNOTATION)
        },
        finalizers=tuple(map(intern, meta.finalizers)),
        owner_references=(),
    )
    ended = job.ended
    return replace(job, metadata=metadata, status=replace(job.status, conditions=(ended,) if ended else ()))


def _slim_pod(document: bytes) -> Pod:
    pod = PODS.decode(document)
    terminated = pod.terminated
    if terminated is None:
        return pod
    container = ContainerStatus("", ContainerState(terminated=replace(terminated, message="")))
    return replace(
        pod,
        metadata=replace(pod.metadata, labels={}, annotations={}),
        spec=PodSpec(),
        status=PodStatus(phase=intern(pod.status.phase), container_statuses=(container,)),
    )


SLIM_JOBS = Resource(JOBS.group, JOBS.version, JOBS.plural, JOBS.kind, _slim_job)
"""Jobs as they are cached: what is not ours, or large and read from the server when it is needed, is left out."""
SLIM_PODS = Resource(PODS.group, PODS.version, PODS.plural, PODS.kind, _slim_pod)
"""Pods as they are cached: of those that ended, little more than that they did."""
