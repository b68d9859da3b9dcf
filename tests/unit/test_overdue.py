"""When a backup counts as overdue, told step by step: each step takes the status that the one before it left."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kubedr_ctrl.api.meta import find_condition
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.kube.objects import CronJob
from kubedr_ctrl.reconcilers import policy as policies
from kubedr_ctrl.reconcilers.jobs import sort_jobs
from kubedr_ctrl.reconcilers.plan import Announce, SetStatus
from tests.unit.test_reconcilers import READY_LOCATION, a_job, a_pod

START = datetime(2026, 3, 28, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
SLACK = timedelta(minutes=66)
"""The timeout of an hour, five minutes that a Job may run longer, and one in which it is recorded."""


def a_cronjob(*, suspend: bool = False) -> CronJob:
    document = {"metadata": {"name": "pol-backup-cronjob"}, "spec": {"suspend": suspend}}
    return msgspec.json.decode(json.dumps(document), type=CronJob)


class Life:
    """A policy through time."""

    def __init__(self, **spec: Any) -> None:
        self.spec = {"destination": "loc", "schedule": "0 * * * *", **spec}
        self.status: dict[str, Any] = {}
        self.events: list[tuple[str, bool, str]] = []
        self.observed = policies.PolicyObserved(
            self._policy(), WorkerSetup("kubedr:test"), "cluster", location=READY_LOCATION, cronjob=a_cronjob()
        )
        self.look_again: float | None = None

    def at(self, now: datetime, **observed: Any) -> "Life":
        """Reconcile once."""
        self.observed = replace(self.observed, policy=self._policy(), **observed)
        plan = policies.reconcile(self.observed, now)
        self.look_again = plan.look_again
        for action in plan.actions:
            if isinstance(action, SetStatus):
                self.status = action.status.wire()
            elif isinstance(action, Announce):
                self.events.append((action.reason, action.failed, action.message))
        return self

    def succeed(self, at: datetime) -> None:
        time = at.isoformat()
        figures = {"mbrName": "mbr-1", "snapshotId": "1", "totalBytesProcessed": 1, "dataAdded": 1}
        self.status |= {"lastSuccessfulBackup": {"time": time, **figures}, "backupStatus": "Completed"}

    def _policy(self) -> MetadataBackupPolicy:
        metadata = {"name": "pol", "uid": "p1", "generation": 1}
        return MetadataBackupPolicy.model_validate({"metadata": metadata, "spec": self.spec, "status": self.status})

    @property
    def overdue(self) -> tuple[str, str, str]:
        condition = find_condition(self._policy().status.conditions, "Overdue")
        assert condition
        return condition.status, condition.reason, condition.message

    @property
    def ready(self) -> tuple[str, str]:
        condition = find_condition(self._policy().status.conditions, "Ready")
        assert condition
        return condition.status, condition.reason

    @property
    def next_due(self) -> datetime | None:
        return self._policy().status.next_due


def test_a_new_policy_is_given_time_until_its_first_backup_could_be_there() -> None:
    life = Life().at(START)
    assert life.next_due == START + HOUR / 2
    assert life.overdue[:2] == ("False", "InTime")
    assert life.look_again == (HOUR / 2 + SLACK).total_seconds() + 1
    life.at(START + HOUR / 2 + SLACK - timedelta(seconds=1))
    assert life.overdue[0] == "False"
    assert life.events == []


def test_what_is_overdue_says_since_when_and_why_and_is_told_once_as_it_begins_and_once_as_it_ends() -> None:
    life = Life().at(START)
    late = START + HOUR / 2 + SLACK
    life.at(late).at(late + HOUR)
    status, reason, message = life.overdue
    assert (status, reason) == ("True", "NoJob")
    assert message.startswith("A good backup has been due since 2026-03-28T11:00:00Z; CronJob pol-backup-cronjob has")
    assert life.ready == ("False", "BackupOverdue")
    assert [event[:2] for event in life.events] == [("BackupOverdue", True)]
    life.succeed(late + 2 * HOUR)
    life.at(late + 2 * HOUR)
    assert life.overdue[:2] == ("False", "InTime")
    assert life.ready == ("True", "BackupSucceeded")
    assert [event[:2] for event in life.events] == [("BackupOverdue", True), ("BackupInTime", False)]


def test_the_next_one_is_due_by_the_schedule_after_the_last_good_one() -> None:
    life = Life().at(START)
    life.succeed(START + HOUR)
    life.at(START + HOUR)
    assert life.next_due == START + HOUR * 1.5


def test_a_policy_that_is_suspended_is_never_overdue_and_is_given_time_when_it_is_taken_up_again() -> None:
    life = Life().at(START)
    life.spec["suspend"] = True
    life.at(START + 10 * HOUR)
    assert life.overdue[:2] == ("False", "NotDue")
    assert life.next_due is None
    assert life.ready == ("True", "Suspended")
    life.spec["suspend"] = False
    life.at(START + 20 * HOUR)
    assert life.next_due == START + 20.5 * HOUR
    assert life.overdue[0] == "False"
    assert life.events == []


def test_an_edited_schedule_counts_from_the_edit() -> None:
    life = Life(schedule="0 0 1 1 *").at(START)
    life.spec["schedule"] = "*/10 * * * *"
    life.at(START + 5 * HOUR)
    assert life.next_due == START + 5 * HOUR + timedelta(minutes=10)
    assert life.overdue[0] == "False"


def test_a_controller_that_was_away_tells_at_once() -> None:
    life = Life().at(START)
    assert life.at(START + 100 * HOUR).overdue[0] == "True"
    assert len(life.events) == 1


@pytest.mark.parametrize(
    ("schedule", "zone", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-30T00:30:00+00:00"),  # the clock skips 2:30 on the 29th
        ("30 3 * * *", "Europe/Berlin", "2026-03-29T01:30:00+00:00"),
        ("0 12 * * *", "America/New_York", "2026-03-28T16:00:00+00:00"),
        ("@daily", "Asia/Kolkata", "2026-03-28T18:30:00+00:00"),
    ],
)
def test_time_zones_and_their_changes_are_heeded(schedule: str, zone: str, expected: str) -> None:
    assert Life(schedule=schedule, timeZone=zone).at(START).next_due == datetime.fromisoformat(expected)


def test_a_schedule_that_never_comes_or_makes_no_sense_is_not_due() -> None:
    for schedule in ("0 0 31 2 *", "99 * * * *"):
        life = Life(schedule=schedule).at(START)
        assert (life.next_due, life.overdue[:2]) == (None, ("False", "NotDue"))


@pytest.mark.parametrize(
    ("observed", "status", "reason", "words"),
    [
        ({"location": None}, {}, "LocationNotReady", "BackupLocation 'loc'"),
        ({"cronjob": None}, {}, "CronJobMissing", "CronJob pol-backup-cronjob is not there"),
        ({"cronjob": a_cronjob(suspend=True)}, {}, "CronJobSuspended", "kubectl patch cronjob pol-backup-cronjob"),
        (
            {"backups": sort_jobs([a_job()], [a_pod(unschedulable="0/3 nodes are available")])},
            {},
            "Unschedulable",
            "0/3 nodes are available",
        ),
        ({"backups": sort_jobs([a_job("slow")], [a_pod("slow")])}, {}, "BackupRunning", "Job slow still runs"),
        ({}, {"backupStatus": "Failed", "backupErrorMessage": "wrong password"}, "BackupsFail", "wrong password"),
        ({}, {}, "NoJob", "quota"),
    ],
)
def test_the_likeliest_cause_is_named(
    observed: dict[str, Any], status: dict[str, Any], reason: str, words: str
) -> None:
    life = Life().at(START)
    life.status |= status
    life.at(START + 3 * HOUR, **observed)
    assert life.overdue[:2] == ("True", reason)
    assert words in life.overdue[2]
