"""Carries out what reconcilers plan: the one place where decisions become requests."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from kubedr_ctrl.api.meta import ObjectMeta, read_conditions
from kubedr_ctrl.api.names import DIAGNOSIS_ANNOTATION
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.codec import Unreadable
from kubedr_ctrl.kube.errors import AlreadyExists, Forbidden, Invalid, NotFound
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.patch import merge_diff
from kubedr_ctrl.reconcilers.plan import (
    Action,
    Announce,
    AnyStatus,
    ApplyCronJob,
    CreateJob,
    DeleteJob,
    DeleteRecord,
    EndJob,
    Plan,
    SetFinalizers,
    SetStatus,
    broken,
    conditions,
)
from kubedr_ctrl.resources import CRONJOBS, JOBS, RECORDS, named
from kubedr_ctrl.results.events import Events

log = logging.getLogger(__name__)

FIELD_MANAGER = "kubedr-controller"


class Reconcilable(Protocol):
    """A resource of ours."""

    @property
    def metadata(self) -> ObjectMeta:
        """The resource's metadata."""

    @property
    def status(self) -> AnyStatus:
        """The status as it was read."""


R = TypeVar("R", bound=Reconcilable)
O = TypeVar("O")  # noqa: E741 - what was observed


class Reconciliation(Generic[R, O]):
    """One kind's loop body: observe, decide, carry out."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        events: Events,
        informer: Informer[R],
        *,
        observe: Callable[[R], O],
        reconcile: Callable[[O, datetime], Plan],
        rejected: Callable[[O, str, datetime], Plan] | None = None,
    ) -> None:
        """`rejected` decides anew when the API server refuses, for good, what `reconcile` wanted."""
        self._client = client
        self._namespace = namespace
        self._events = events
        self._informer = informer
        self._resource = informer.resource
        self._observe = observe
        self._reconcile = reconcile
        self._rejected = rejected

    async def process(self, name: str) -> float | None:
        """Reconcile the resource of that name; return when it wants to be looked at again, in seconds."""
        if unreadable := self._informer.unreadable.get(name):
            await self._tell_unreadable(unreadable)
            return None
        item = self._informer.store.get(name)
        if item is None:
            return None
        observed = self._observe(item)
        plan = self._reconcile(observed, datetime.now(UTC))
        try:
            await self._carry_out(item, plan)
        except (Invalid, Forbidden) as error:
            if self._rejected is None:
                raise
            plan = self._rejected(observed, str(error), datetime.now(UTC))
            await self._carry_out(item, plan)
        return plan.look_again

    async def _tell_unreadable(self, entry: Unreadable) -> None:
        """Say on the object itself that it cannot be understood; others go on with what was last known of it."""
        current = read_conditions(entry.raw)
        state = broken("Unreadable", f"KubeDR leaves the resource alone until you correct it: {entry.error}")
        wanted = conditions(current, state, generation=entry.metadata.generation, now=datetime.now(UTC))
        if wanted != current:
            generation = entry.metadata.generation
            status = {"observedGeneration": generation, "conditions": [condition.wire() for condition in wanted]}
            patch = {"metadata": {"resourceVersion": entry.metadata.resource_version}, "status": status}
            await self._client.patch(
                named(self._resource), self._namespace, entry.metadata.name, patch, subresource="status"
            )

    async def _carry_out(self, item: R, plan: Plan) -> None:
        version = item.metadata.resource_version
        for action in plan.actions:
            version = await self._act(item, action, version)

    async def _act(self, item: R, action: Action, version: str) -> str:
        """Carry out one action; return the version of `item` after it."""
        client, namespace, name = self._client, self._namespace, item.metadata.name
        match action:
            case ApplyCronJob(manifest, afresh):
                cronjob = manifest["metadata"]["name"]
                if afresh:
                    with suppress(NotFound):
                        await client.replace(CRONJOBS, namespace, cronjob, "/spec", manifest["spec"])
                await client.apply(CRONJOBS, namespace, manifest, manager=FIELD_MANAGER)
                log.info("CronJob %s follows policy %s", cronjob, name)
            case CreateJob(manifest):
                with suppress(AlreadyExists):
                    await client.create(JOBS, namespace, manifest)
                    log.info("Job %s created for %s %s", manifest["metadata"]["name"], self._resource.kind, name)
            case EndJob(job, uid, diagnosis, after):
                patch = {
                    "metadata": {"uid": uid, "annotations": {DIAGNOSIS_ANNOTATION: diagnosis}},
                    "spec": {"activeDeadlineSeconds": after},
                }
                with suppress(NotFound):
                    await client.patch(JOBS, namespace, job, patch)
                    log.warning("Job %s ended, as it cannot come to anything: %s", job, diagnosis)
            case DeleteJob(job, uid):
                with suppress(NotFound):
                    await client.delete(JOBS, namespace, job, uid=uid)
            case DeleteRecord(record, uid):
                with suppress(NotFound):
                    await client.delete(RECORDS, namespace, record, uid=uid)
                    log.info("MetadataBackupRecord %s deleted, as policy %s keeps no more", record, name)
            case Announce(reason, message, identity, failed):
                await self._events.create(
                    self._resource.kind,
                    name,
                    item.metadata.uid,
                    reason=reason,
                    message=message,
                    failed=failed,
                    identity=f"{item.metadata.uid} {identity}".strip(),
                )
            case SetFinalizers(finalizers):
                meta = {"resourceVersion": version, "finalizers": list(finalizers)}
                patched = await client.patch(self._resource, namespace, name, {"metadata": meta})
                return patched.metadata.resource_version
            case SetStatus(status):
                body = {
                    "metadata": {"resourceVersion": version},
                    "status": merge_diff(item.status.given(), status.wire()),
                }
                patched = await client.patch(self._resource, namespace, name, body, subresource="status")
                return patched.metadata.resource_version
        return version
