"""The consumer that writes results into status, and creates the record of a good backup."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.meta import RecordedJob
from kubedr_ctrl.api.names import (
    API_VERSION,
    APP,
    APP_LABEL,
    COUNTED_ANNOTATION,
    LOCATION_ANNOTATION,
    RECORD_FINALIZER,
    record_name,
)
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.api.result import Operation, Snapshot
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.kube.errors import AlreadyExists, NotFound
from kubedr_ctrl.kube.patch import merge_diff
from kubedr_ctrl.resources import LOCATIONS, POLICIES, RECORDS, RESTORES
from kubedr_ctrl.results.harvest import Harvest, JobKey
from kubedr_ctrl.results.reflect import describe_record, reflect_backup, reflect_init, reflect_restore
from kubedr_ctrl.results.source import ResultSource

R = TypeVar("R", BackupLocation, MetadataBackupPolicy, MetadataRestore)


MAX_RECORDED = 8
"""How many Jobs a status lists as counted before it is seen to that they say so themselves, and dropped."""


class StatusWriter:
    """Steps 2, 4 and 7 of the protocol."""

    name = "status-writer"

    def __init__(self, client: Client, source: ResultSource, namespace: str) -> None:
        self._client = client
        self._source = source
        self._namespace = namespace

    async def consume(self, key: JobKey) -> None:
        """Write the result of `key` into the status of its owner, once."""
        match key.operation:
            case Operation.INIT:
                await self._record(key, LOCATIONS, reflect_init)
            case Operation.RESTORE:
                await self._record(key, RESTORES, reflect_restore)
            case Operation.BACKUP:
                await self._record(key, POLICIES, reflect_backup)
            case Operation.FORGET:
                pass  # what was forgotten stands on the Job; the records it frees go away

    async def _record(self, key: JobKey, resource: Resource[R], reflect: Callable[[Any, Harvest], Any]) -> None:
        try:
            owner = await self._client.get(resource, self._namespace, key.owner)
        except NotFound:
            return
        harvest = await self._source.harvest(key)
        if harvest is None or owner.metadata.uid != key.owner_uid:
            return
        if COUNTED_ANNOTATION in harvest.about or any(entry.uid == key.uid for entry in owner.status.recorded):
            return
        if key.operation is Operation.BACKUP and harvest.result.snapshot:
            await self._create_record(key.owner, harvest, harvest.result.snapshot)
        unsettled: tuple[RecordedJob, ...] = await self._unsettled(owner.status.recorded)
        recorded = (*unsettled, RecordedJob(name=key.name, uid=key.uid))
        wanted = reflect(owner.status, harvest).model_copy(update={"recorded": recorded})
        patch = {
            "metadata": {"resourceVersion": owner.metadata.resource_version},
            "status": merge_diff(owner.status.given(), wanted.wire()),
        }
        await self._client.patch(resource, self._namespace, key.owner, patch, subresource="status")

    async def _unsettled(self, recorded: tuple[RecordedJob, ...]) -> tuple[RecordedJob, ...]:
        """Return those Jobs that only the status knows to be counted: none once there are too many of them."""
        if len(recorded) < MAX_RECORDED:
            return recorded
        for entry in recorded:
            await self._source.mark_counted(entry.name, entry.uid)
        return ()

    async def _create_record(self, policy: str, harvest: Harvest, snapshot: Snapshot) -> None:
        location = harvest.about.get(LOCATION_ANNOTATION)
        if not harvest.result.completed or not location:
            return
        name = record_name(snapshot.id)
        manifest = {
            "apiVersion": API_VERSION,
            "kind": RECORDS.kind,
            "metadata": {"name": name, "labels": {APP_LABEL: APP}, "finalizers": [RECORD_FINALIZER]},
            "spec": {
                "snapshotId": snapshot.id,
                "policy": policy,
                "backuploc": location,
            },
        }
        with suppress(AlreadyExists):
            await self._client.create(RECORDS, self._namespace, manifest)
        status = describe_record(harvest.result, snapshot).wire()
        await self._client.patch(RECORDS, self._namespace, name, {"status": status}, subresource="status")
