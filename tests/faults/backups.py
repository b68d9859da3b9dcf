"""Backups whose Jobs have ended before the controller gets to see them: what is left to do is to record them."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from kubedr_ctrl.api.names import (
    JOB_FINALIZER,
    OPERATION_LABEL,
    OWNER_ANNOTATION,
    OWNER_UID_ANNOTATION,
    RECORDED_ANNOTATION,
    cronjob_name,
)
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.resources import CRONJOBS, JOBS, PODS, POLICIES
from tests.servers.apiserver import ApiError
from tests.servers.kubedr import Kubedr, Object, failure, report

WRITES = (
    "create events",
    "create metadatabackuprecords",
    "patch jobs",
    "patch metadatabackuppolicies/status",
    "patch metadatabackuprecords/status",
)
"""The writes with which a good backup is recorded, by `Request.kind`."""

_numbers = count(1)
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Backup:
    """A Job that ended, with a word in it that no other has, by which its event is found."""

    job: str
    uid: str
    word: str
    succeeded: bool


@dataclass
class Told:
    """What the controller tells of a policy, in all the places where it does."""

    totals: tuple[int, int, int]
    """Backups, successful, failed."""
    events: Counter[str] = field(default_factory=Counter)
    """By the words of backups: how many events tell of it."""
    held: frozenset[str] = frozenset()
    """Jobs that carry the controller's finalizer."""


class Backups:
    """Makes backups of one policy, and tells what became of them."""

    def __init__(self, kubedr: Kubedr, policy: str, *, template_of: str = "") -> None:
        """`template_of` is a policy whose CronJob the Jobs are made from, where it is not the policy itself."""
        self.kubedr = kubedr
        self.policy = policy
        path = CRONJOBS.path(kubedr.namespace, cronjob_name(template_of or policy))
        self._template = kubedr.plane.request("GET", path)["spec"]["jobTemplate"]

    def ended(self, number: int, *, succeed: bool = True) -> list[Backup]:
        """Make so many Jobs that have ended, and that the controller does not see before `reveal`."""
        jobs = [self._create(f"{self.policy}-{next(_numbers)}") for _ in range(number)]
        backups = [self._end(job, succeed) for job in jobs]
        for backup in backups:
            self.kubedr.wait_for(lambda: self._has_ended(backup), f"Job {backup.job} to end")  # noqa: B023 - called here
        return backups

    def reveal(self, backup: Backup) -> None:
        """Let the controller see the Job, as one of the policy's that is there now."""
        owner = {OWNER_ANNOTATION: self.policy, OWNER_UID_ANNOTATION: self.policy_uid()}
        self.patch(backup, {"labels": {OPERATION_LABEL: "backup"}, "annotations": owner})

    def patch(self, backup: Backup, metadata: Object) -> None:
        path = JOBS.path(self.kubedr.namespace, backup.job)
        self.kubedr.plane.request("PATCH", path, {"metadata": metadata}, content_type=_MERGE)

    def delete(self, backup: Backup) -> bool:
        """Delete the Job; return whether the controller owes it a count: whether it had its finalizer by then."""
        while True:
            job = self.job(backup)
            if job is None:
                return False
            meta = job["metadata"]
            exactly = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
            options = {"propagationPolicy": "Background", "preconditions": exactly}
            try:
                self.kubedr.plane.request("DELETE", JOBS.path(self.kubedr.namespace, backup.job), options)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
            else:
                return JOB_FINALIZER in meta.get("finalizers", []) or RECORDED_ANNOTATION in meta["annotations"]

    def delete_pods(self, backup: Backup) -> None:
        path = f"{PODS.path(self.kubedr.namespace)}?labelSelector=batch.kubernetes.io%2Fjob-name%3D{backup.job}"
        self.kubedr.plane.request("DELETE", path, {"gracePeriodSeconds": 0})

    def job(self, backup: Backup) -> Object | None:
        try:
            job = self.kubedr.get("Job", backup.job)
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        return job if job["metadata"]["uid"] == backup.uid else None

    def settled(self, backup: Backup) -> bool:
        """Return whether the Job is recorded, or gone."""
        job = self.job(backup)
        return job is None or RECORDED_ANNOTATION in job["metadata"]["annotations"]

    def told(self, backups: list[Backup]) -> Told:
        """Return what is told of the policy and its backups."""
        totals = self.kubedr.status("MetadataBackupPolicy", self.policy).get("totals", {})
        messages = [event[2] for event in self.kubedr.events(self.policy)]
        words = {backup.word: sum(mentions(backup, message) for message in messages) for backup in backups}
        jobs = self.kubedr.items(JOBS.path(self.kubedr.namespace))
        held = frozenset(j["metadata"]["name"] for j in jobs if JOB_FINALIZER in j["metadata"].get("finalizers", []))
        counted = tuple(int(totals.get(name, 0)) for name in ("backups", "successful", "failed"))
        return Told((counted[0], counted[1], counted[2]), Counter(words), held)

    def reasons(self, backup: Backup) -> list[str]:
        """Return the reasons of the events that tell of a backup."""
        return [reason for _, reason, message in self.kubedr.events(self.policy) if mentions(backup, message)]

    def policy_uid(self) -> str:
        path = POLICIES.path(self.kubedr.namespace, self.policy)
        return str(self.kubedr.plane.request("GET", path)["metadata"]["uid"])

    def _create(self, name: str) -> Object:
        meta = self._template["metadata"]
        labels = {key: value for key, value in meta["labels"].items() if key != OPERATION_LABEL}
        metadata = {"name": name, "labels": labels, "annotations": meta["annotations"]}
        job: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
        return self.kubedr.plane.request(
            "POST", JOBS.path(self.kubedr.namespace), {**job, "spec": self._template["spec"]}
        )

    def _end(self, job: Object, succeeds: bool) -> Backup:
        name, word = job["metadata"]["name"], f"{next(_numbers):08x}"
        if succeeds:
            self.kubedr.finish(name, report(Operation.BACKUP, snapshot=word, at=datetime.now(UTC)))
        else:
            self.kubedr.finish(name, failure(Operation.BACKUP, f"Fatal: {word}"))
        return Backup(name, job["metadata"]["uid"], word, succeeds)

    def _has_ended(self, backup: Backup) -> bool:
        conditions = self.kubedr.get("Job", backup.job)["status"].get("conditions", [])
        return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def mentions(backup: Backup, message: str) -> bool:
    """Return whether a message is about that backup: its snapshot, its failure, or its Job."""
    return backup.word in message or f"{backup.job} " in f"{message} "
