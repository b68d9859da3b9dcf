"""A Job's outcome: concluded once, written on the Job, read from there; and the marks of having been recorded.

Steps 0, 1, 3, 6 and the Job's side of 7. All is read from the server, never from a cache.
"""

from kubedr_ctrl.api.names import (
    COUNTED_ANNOTATION,
    JOB_FINALIZER,
    RECORDED_ANNOTATION,
    RESULT_ANNOTATION,
    RESULT_POD_ANNOTATION,
)
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.controller import NotYet
from kubedr_ctrl.kube.errors import NotFound
from kubedr_ctrl.kube.objects import Job
from kubedr_ctrl.resources import JOBS, PODS
from kubedr_ctrl.results.harvest import Harvest, JobKey, conclude, concluded, has_ended

JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"
"""On the pods of a Job, since Kubernetes 1.27."""


class ResultSource:
    """The Jobs of one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def guard(self, job: Job) -> None:
        """Put our finalizer on the Job (step 0)."""
        await self._patch(job, {"finalizers": [*job.metadata.finalizers, JOB_FINALIZER]})

    async def unrecorded_job(self, name: str, uid: str) -> Job | None:
        """Return the Job if it still carries our finalizer, None if it is gone, another or recorded."""
        try:
            job = await self._client.get(JOBS, self._namespace, name)
        except NotFound:
            return None
        return job if job.metadata.uid == uid and JOB_FINALIZER in job.metadata.finalizers else None

    async def harvest(self, key: JobKey) -> Harvest | None:
        """Return the Job's outcome, None if it is recorded already or has not ended.

        Whoever asks first concludes it and writes it on the Job (step 1): whatever becomes of the pods afterwards,
        and whoever goes on, in this process or another, all tell the same.
        """
        job = await self.unrecorded_job(key.name, key.uid)
        if job is None or not has_ended(job):
            return None
        if (harvest := concluded(job)) is not None:
            return harvest
        page = await self._client.list_page(PODS, self._namespace, selector=f"{JOB_UID_LABEL}={key.uid}")
        harvest = conclude(job, key.operation, page.items)
        annotations = {RESULT_ANNOTATION: harvest.result.encode(), RESULT_POD_ANNOTATION: harvest.pod}
        return concluded(await self._patch(job, {"annotations": annotations}))

    async def is_counted(self, name: str, uid: str) -> bool:
        """Return whether the Job says by itself that it must not be counted, whatever a status says."""
        job = await self.unrecorded_job(name, uid)
        return job is None or COUNTED_ANNOTATION in job.metadata.annotations

    async def mark_counted(self, name: str, uid: str) -> None:
        """Have the Job say that its owner's status includes it."""
        job = await self.unrecorded_job(name, uid)
        if job is not None and COUNTED_ANNOTATION not in job.metadata.annotations:
            await self._patch(job, {"annotations": {COUNTED_ANNOTATION: "true"}})

    async def mark_recorded(self, key: JobKey) -> None:
        """Take our finalizer off the Job and say that it is recorded, in one write (step 6)."""
        job = await self.unrecorded_job(key.name, key.uid)
        if job is None:
            return
        harvest = concluded(job)
        if harvest is None:  # somebody took the annotation off
            await self.harvest(key)
            raise NotYet
        finalizers = [name for name in job.metadata.finalizers if name != JOB_FINALIZER]
        annotations = {
            RECORDED_ANNOTATION: harvest.result.outcome.value,
            RESULT_ANNOTATION: None,
            RESULT_POD_ANNOTATION: None,
            COUNTED_ANNOTATION: None,
        }
        await self._patch(job, {"finalizers": finalizers, "annotations": annotations})

    async def _patch(self, job: Job, metadata: dict[str, object]) -> Job:
        guarded = {"resourceVersion": job.metadata.resource_version, **metadata}
        return await self._client.patch(JOBS, self._namespace, job.metadata.name, {"metadata": guarded})
