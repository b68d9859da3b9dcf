"""Reading a Job's outcome from the server, and marking it as recorded: steps 2 and 5 of the protocol."""

from kubedr_ctrl.api.names import JOB_FINALIZER, RECORDED_ANNOTATION
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.errors import NotFound
from kubedr_ctrl.kube.objects import Job
from kubedr_ctrl.resources import JOBS, PODS
from kubedr_ctrl.results.harvest import Harvest, JobKey, conclude, has_ended

JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"
"""On the pods of a Job, since Kubernetes 1.27."""


MAX_CONCLUDED = 1000
"""How many conclusions are remembered; those beyond are drawn anew from the server."""


class ResultSource:
    """The Jobs of one namespace, read from the server, never from a cache."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._concluded: dict[JobKey, Harvest] = {}

    async def unrecorded_job(self, name: str, uid: str) -> Job | None:
        """Return the Job if it still carries our finalizer, None if it is gone, another or recorded."""
        try:
            job = await self._client.get(JOBS, self._namespace, name)
        except NotFound:
            return None
        return job if job.metadata.uid == uid and JOB_FINALIZER in job.metadata.finalizers else None

    async def harvest(self, key: JobKey) -> Harvest | None:
        """Return the Job's outcome, None if it is recorded already or has not ended."""
        job = await self.unrecorded_job(key.name, key.uid)
        return await self._conclude(key, job) if job is not None and has_ended(job) else None

    async def guard(self, job: Job) -> None:
        """Put our finalizer on the Job (step 0)."""
        finalizers = [*job.metadata.finalizers, JOB_FINALIZER]
        await self._patch(job, {"finalizers": finalizers})

    async def mark_recorded(self, key: JobKey) -> None:
        """Take our finalizer off the Job and say that it is recorded, in one write (step 5)."""
        job = await self.unrecorded_job(key.name, key.uid)
        if job is None:
            return
        outcome = (await self._conclude(key, job)).result.outcome
        finalizers = [name for name in job.metadata.finalizers if name != JOB_FINALIZER]
        await self._patch(job, {"finalizers": finalizers, "annotations": {RECORDED_ANNOTATION: outcome.value}})
        self._concluded.pop(key, None)

    async def _conclude(self, key: JobKey, job: Job) -> Harvest:
        """Return what the Job came to: the same for all who ask, even if somebody deletes its pods meanwhile."""
        if key not in self._concluded:
            page = await self._client.list_page(PODS, self._namespace, selector=f"{JOB_UID_LABEL}={key.uid}")
            if len(self._concluded) >= MAX_CONCLUDED:
                self._concluded.pop(next(iter(self._concluded)))
            self._concluded.setdefault(key, conclude(job, key.operation, page.items))
        return self._concluded[key]

    async def _patch(self, job: Job, metadata: dict[str, object]) -> None:
        guarded = {"resourceVersion": job.metadata.resource_version, **metadata}
        await self._client.patch(JOBS, self._namespace, job.metadata.name, {"metadata": guarded})
