"""Decisions, each a plain function over what was observed."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from kubedr_ctrl.api.location import BackupLocation, InitStatus
from kubedr_ctrl.api.names import GROUP, LOCATION_FINALIZER, RECORD_FINALIZER
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.api.result import Outcome, Reason
from kubedr_ctrl.api.task import TASK, BackupTask, InitTask
from kubedr_ctrl.jobs.template import WorkerSetup
from kubedr_ctrl.kube.objects import Job, Pod
from kubedr_ctrl.reconcilers import location, policy, record, restore
from kubedr_ctrl.reconcilers.jobs import JobsOf, clean_up, end_stuck, find_stuck, next_look, sort_jobs
from kubedr_ctrl.reconcilers.plan import (
    Announce,
    ApplyCronJob,
    CreateJob,
    DeleteRecord,
    EndJob,
    Plan,
    SetFinalizers,
    SetStatus,
)

NOW = datetime(2020, 1, 30, 16, 0, 0, tzinfo=UTC)
IMAGE = WorkerSetup("kubedr:test")


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def a_location(**status: Any) -> BackupLocation:
    return BackupLocation.model_validate(
        {
            "metadata": {"name": "loc", "uid": "l1", "generation": 1, "finalizers": [LOCATION_FINALIZER]},
            "spec": {"url": "http://s3:9000", "bucketName": "bucket", "credentials": "creds"},
            "status": {"observedGeneration": 1, **status} if status else {},
        }
    )


def a_policy(status: dict[str, Any] | None = None, **spec: Any) -> MetadataBackupPolicy:
    return MetadataBackupPolicy.model_validate(
        {
            "metadata": {"name": "pol", "uid": "p1", "generation": 3},
            "spec": {"destination": "loc", "schedule": "@daily", **spec},
            "status": status or {},
        }
    )


def a_record(name: str = "mbr-34abbf1b", taken: float = 0, **metadata: Any) -> MetadataBackupRecord:
    return MetadataBackupRecord.model_validate(
        {
            "metadata": {"name": name, "uid": f"{name}-uid", "finalizers": [RECORD_FINALIZER], **metadata},
            "spec": {"snapshotId": name.removeprefix("mbr-"), "policy": "pol", "backuploc": "loc"},
            "status": {"time": at(taken)},
        }
    )


def a_restore(**status: Any) -> MetadataRestore:
    return MetadataRestore.model_validate(
        {
            "metadata": {"name": "mr", "uid": "r1", "generation": 1},
            "spec": {"mbrName": "mbr-34abbf1b", "pvcName": "pvc"},
            "status": status,
        }
    )


def a_job(name: str = "job", *, created: float = 0, recorded: str = "", ended: str = "", **annotations: str) -> Job:
    marks = {f"{GROUP}/{key}": value for key, value in annotations.items()}
    if recorded:
        marks[f"{GROUP}/recorded"] = recorded
    conditions = [{"type": ended, "status": "True", "lastTransitionTime": at(created)}] if ended else []
    document = {
        "metadata": {"name": name, "uid": f"{name}-uid", "creationTimestamp": at(created), "annotations": marks},
        "status": {"conditions": conditions, "startTime": at(created)},
    }
    return msgspec.json.decode(json.dumps(document), type=Job)


def a_pod(
    job: str = "job", *, waiting: str = "", message: str = "", unschedulable: str = "", preparing: bool = False
) -> Pod:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}]
    if preparing:
        conditions = [{"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": at(0)}]
    state = {"waiting": {"reason": waiting, "message": message}} if waiting else {}
    document = {
        "metadata": {
            "name": f"{job}-pod",
            "creationTimestamp": at(0),
            "ownerReferences": [{"kind": "Job", "name": job, "uid": f"{job}-uid"}],
        },
        "status": {
            "phase": "Pending",
            "conditions": conditions if unschedulable or preparing else [],
            "containerStatuses": [{"name": "worker", "state": state}],
        },
    }
    return msgspec.json.decode(json.dumps(document), type=Pod)


def kinds(plan: Plan) -> list[str]:
    return [type(action).__name__ for action in plan.actions]


def said(plan: Plan) -> tuple[str, str, str]:
    """Return what the planned status says: Ready's status, reason and message."""
    (status,) = (action.status for action in plan.actions if isinstance(action, SetStatus))
    (ready,) = (condition for condition in status.conditions if condition.type == "Ready")
    return ready.status, ready.reason, ready.message


def settled(observed: location.LocationObserved, plan: Plan) -> location.LocationObserved:
    """Return the observation after the plan's status was written."""
    (status,) = (action.status for action in plan.actions if isinstance(action, SetStatus))
    return location.LocationObserved(observed.location.model_copy(update={"status": status}), IMAGE, observed.init)


# BackupLocation


def test_a_new_location_gets_an_init_job_and_says_so() -> None:
    plan = location.reconcile(location.LocationObserved(a_location(), IMAGE), NOW)
    assert kinds(plan) == ["CreateJob", "SetStatus"]
    assert said(plan)[:2] == ("False", "Initializing")
    (create,) = (action for action in plan.actions if isinstance(action, CreateJob))
    container = create.manifest["spec"]["template"]["spec"]["containers"][0]
    task = TASK.validate_json(container["args"][0])
    assert isinstance(task, InitTask)
    assert task.repository.address == "s3:http://s3:9000/bucket"
    assert not task.adopt
    assert create.manifest["metadata"]["name"].startswith(task.creator)
    assert "creds" not in container["args"][0]


def test_a_running_init_job_is_left_alone() -> None:
    observed = location.LocationObserved(a_location(), IMAGE, JobsOf((a_job(),)))
    first = location.reconcile(observed, NOW)
    assert kinds(first) == ["SetStatus"]
    assert kinds(location.reconcile(settled(observed, first), NOW)) == []


def test_a_failed_location_is_tried_again_ever_later() -> None:
    for failing_for, expected in ((0, 10), (40, 40), (4000, 300)):
        condition = {
            "type": "Ready",
            "status": "False",
            "reason": "InitFailed",
            "lastTransitionTime": at(-failing_for),
            "observedGeneration": 1,
        }
        failed = a_location(initStatus="Failed", initTime=NOW.ctime(), initErrorMessage="no", conditions=[condition])
        job = a_job(recorded="Failed", ended="Failed")
        observed = location.LocationObserved(failed, IMAGE, JobsOf((job,)))
        assert location.reconcile(observed, NOW).look_again == expected
        assert "CreateJob" not in kinds(location.reconcile(observed, NOW + timedelta(seconds=expected - 1)))
        assert "CreateJob" in kinds(location.reconcile(observed, NOW + timedelta(seconds=expected)))


def test_an_initialized_location_is_ready_and_stays_so() -> None:
    done = a_location(initStatus="Completed", initTime=NOW.ctime(), repositoryId="x")
    plan = location.reconcile(location.LocationObserved(done, IMAGE), NOW + timedelta(days=1))
    assert said(plan)[:2] == ("True", "InitSucceeded")
    assert "CreateJob" not in kinds(plan)


def test_a_refused_init_job_is_told() -> None:
    plan = location.rejected(location.LocationObserved(a_location(), IMAGE), "exceeded quota", NOW)
    assert kinds(plan) == ["SetStatus"]
    assert "exceeded quota" in said(plan)[2]


def test_a_location_in_use_is_not_deleted() -> None:
    deleting = a_location()
    metadata = deleting.metadata.model_copy(update={"deletion_timestamp": NOW})
    deleting = deleting.model_copy(update={"metadata": metadata})
    held = location.reconcile(location.LocationObserved(deleting, IMAGE, policies=("a", "b")), NOW)
    assert said(held)[1] == "DeletionBlocked"
    (told,) = (action.status for action in held.actions if isinstance(action, SetStatus))
    assert told.observed_generation == deleting.metadata.generation
    assert "a, b" in said(held)[2]
    free = location.reconcile(location.LocationObserved(deleting, IMAGE), NOW)
    assert free.actions == (SetFinalizers(()),)


def test_expired_snapshots_are_forgotten_by_one_job_at_a_time() -> None:
    done = a_location(initStatus="Completed", repositoryId="x")
    observed = location.LocationObserved(done, IMAGE, expired=("aaaaaaaa", "bbbbbbbb"))
    (create,) = (a for a in location.reconcile(observed, NOW).actions if isinstance(a, CreateJob))
    assert create.manifest["metadata"]["annotations"][f"{GROUP}/snapshots"] == "aaaaaaaa,bbbbbbbb"
    running = location.LocationObserved(done, IMAGE, forget=JobsOf((a_job(),)), expired=("cccccccc",))
    assert "CreateJob" not in kinds(location.reconcile(running, NOW))
    forgot = a_job(recorded="Completed", ended="Complete", snapshots="aaaaaaaa")
    after = location.LocationObserved(done, IMAGE, forget=JobsOf((forgot,)), expired=("aaaaaaaa",))
    assert "CreateJob" not in kinds(location.reconcile(after, NOW))
    failed = a_job(recorded="Failed", ended="Failed", snapshots="aaaaaaaa")
    retry = location.LocationObserved(done, IMAGE, forget=JobsOf((failed,)), expired=("aaaaaaaa",))
    assert "CreateJob" not in kinds(location.reconcile(retry, NOW + timedelta(seconds=299)))
    assert "CreateJob" in kinds(location.reconcile(retry, NOW + timedelta(seconds=300)))


# MetadataBackupPolicy

READY_LOCATION = a_location(initStatus="Completed", repositoryId="x")


def observe(item: MetadataBackupPolicy, **changes: Any) -> policy.PolicyObserved:
    return policy.PolicyObserved(item, IMAGE, "cluster-uid", **{"location": READY_LOCATION, **changes})


def cronjob_of(item: MetadataBackupPolicy) -> dict[str, Any]:
    (apply,) = (a for a in policy.reconcile(observe(item), NOW).actions if isinstance(a, ApplyCronJob))
    return dict(apply.manifest)


def test_a_policy_gets_the_cronjob_that_it_describes() -> None:
    manifest = cronjob_of(a_policy(certsDir="/etc/kubernetes/pki", timeZone="Etc/UTC", suspend=True))
    spec = manifest["spec"]
    assert manifest["metadata"]["name"] == "pol-backup-cronjob"
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("@daily", "Etc/UTC", True)
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["automountServiceAccountToken"] is False
    certificates = next(volume for volume in pod["volumes"] if volume["name"] == "certificates")
    assert certificates["hostPath"]["path"] == "/etc/kubernetes/pki"
    task = TASK.validate_json(pod["containers"][0]["args"][0])
    assert isinstance(task, BackupTask)
    assert (task.policy, task.cluster, task.timeout_seconds) == ("pol", "cluster-uid", 3600)
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > task.timeout_seconds


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({}, {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}),
        ({"master-node-label-name": "example.com/master"}, {"example.com/master"}),
    ],
)
def test_backups_run_where_etcd_is(options: dict[str, str], labels: set[str]) -> None:
    pod = cronjob_of(a_policy(options=options))["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert {term["matchExpressions"][0]["key"] for term in required["nodeSelectorTerms"]} == labels
    assert {"operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


def test_a_policy_without_a_location_names_it() -> None:
    status, reason, message = said(policy.reconcile(observe(a_policy(), location=None), NOW))
    assert (status, reason) == ("False", "LocationNotFound")
    assert "'loc'" in message


def test_a_policy_waits_for_its_location() -> None:
    plan = policy.reconcile(observe(a_policy(), location=a_location()), NOW)
    assert kinds(plan) == ["SetStatus"]
    assert said(plan)[1] == "LocationNotReady"


def test_a_failed_backup_shows_in_the_condition_until_one_succeeds() -> None:
    failed = policy.reconcile(observe(a_policy({"backupStatus": "Failed", "backupErrorMessage": "why"})), NOW)
    assert said(failed)[:2] == ("False", "BackupFailed")
    assert said(failed)[2].startswith("why. To try again")
    good = policy.reconcile(observe(a_policy({"backupStatus": "Completed"})), NOW)
    assert said(good)[:2] == ("True", "BackupSucceeded")


def test_a_backup_that_cannot_start_shows_before_it_fails() -> None:
    pod = a_pod(waiting="CreateContainerConfigError", message='secret "etcd-creds" not found')
    observed = observe(a_policy(), backups=JobsOf((a_job(),), (pod,)))
    plan = policy.reconcile(observed, NOW)
    assert said(plan)[1] == "ConfigurationMissing"
    assert said(plan)[2].startswith('A backup cannot start: secret "etcd-creds" not found; create what is missing')
    assert "EndJob" not in kinds(plan)
    assert plan.look_again == 21
    ended = policy.reconcile(observed, NOW + timedelta(seconds=31))
    assert EndJob("job", "job-uid", 'ConfigurationMissing: secret "etcd-creds" not found', 31) in ended.actions


def test_the_oldest_records_beyond_the_wanted_number_go() -> None:
    held = tuple(a_record(f"mbr-0000000{number}", taken=number) for number in (3, 1, 2))
    plan = policy.reconcile(observe(a_policy(retainNumBackups=2), records=held), NOW)
    assert [action for action in plan.actions if isinstance(action, DeleteRecord)] == [
        DeleteRecord("mbr-00000001", "mbr-00000001-uid")
    ]


# MetadataBackupRecord and MetadataRestore


def test_a_record_says_whether_it_can_be_restored() -> None:
    assert said(record.reconcile(record.RecordObserved(a_record(), READY_LOCATION), NOW))[1] == "Available"
    assert said(record.reconcile(record.RecordObserved(a_record()), NOW))[1] == "LocationNotFound"


def test_a_deleted_record_goes_once_its_snapshot_is_forgotten() -> None:
    deleting = a_record(deletionTimestamp=at(0))
    assert said(record.reconcile(record.RecordObserved(deleting, READY_LOCATION), NOW))[1] == "Forgetting"
    forgot = JobsOf((a_job(recorded="Completed", ended="Complete", snapshots="34abbf1b,x"),))
    plan = record.reconcile(record.RecordObserved(deleting, READY_LOCATION, forgot), NOW)
    assert plan.actions == (SetFinalizers(()),)
    failed = JobsOf((a_job(recorded="Failed", ended="Failed", snapshots="34abbf1b,x"),))
    assert kinds(record.reconcile(record.RecordObserved(deleting, READY_LOCATION, failed), NOW)) == ["SetStatus"]


def test_a_restore_runs_once() -> None:
    observed = restore.RestoreObserved(a_restore(), IMAGE, a_record(), READY_LOCATION)
    assert kinds(restore.reconcile(observed, NOW)) == ["CreateJob", "SetStatus"]
    running = restore.RestoreObserved(a_restore(), IMAGE, a_record(), READY_LOCATION, JobsOf((a_job(),)))
    assert "CreateJob" not in kinds(restore.reconcile(running, NOW))
    done = restore.RestoreObserved(a_restore(restoreStatus="Failed"), IMAGE, a_record(), READY_LOCATION)
    assert kinds(restore.reconcile(done, NOW)) == ["SetStatus"]


def test_a_refused_restore_fails_in_the_words_of_the_guide_and_is_announced() -> None:
    observed = restore.RestoreObserved(a_restore(), IMAGE, a_record(), READY_LOCATION)
    plan = restore.rejected(observed, "exceeded quota", NOW)
    message = "Error in creating restore pod: exceeded quota"
    assert Announce("RestoreFailed", message) in plan.actions
    (status,) = (action.status for action in plan.actions if isinstance(action, SetStatus))
    assert status.wire()["restoreErrorMessage"] == message
    assert status.wire()["restoreStatus"] == Outcome.FAILED


def test_a_restore_waits_for_its_volume_however_long() -> None:
    jobs = JobsOf((a_job(),), (a_pod(unschedulable='persistentvolumeclaim "pvc" not found'),))
    observed = restore.RestoreObserved(a_restore(), IMAGE, a_record(), READY_LOCATION, jobs)
    plan = restore.reconcile(observed, NOW + timedelta(hours=1))
    assert "EndJob" not in kinds(plan)
    assert 'persistentvolumeclaim "pvc" not found' in said(plan)[2]


# Jobs


@pytest.mark.parametrize(
    ("pod", "reason", "patience"),
    [
        (a_pod(waiting="CreateContainerConfigError", message="m"), Reason.CONFIGURATION_MISSING, 30),
        (a_pod(waiting="ImagePullBackOff", message="m"), Reason.IMAGE_UNAVAILABLE, 90),
        (a_pod(unschedulable="m"), Reason.UNSCHEDULABLE, 300),
    ],
)
def test_a_stuck_pod_is_given_time_and_then_ended(pod: Pod, reason: Reason, patience: int) -> None:
    jobs = JobsOf((a_job(),), (pod,))
    assert end_stuck(jobs, NOW + timedelta(seconds=patience - 1)) == ()
    (end,) = end_stuck(jobs, NOW + timedelta(seconds=patience))
    assert end.diagnosis == f"{reason}: m"


def test_volumes_that_cannot_be_mounted_are_told_after_a_while() -> None:
    pod = a_pod(preparing=True)
    assert find_stuck(a_job(), [pod], NOW + timedelta(seconds=19)) is None
    stuck = find_stuck(a_job(), [pod], NOW + timedelta(seconds=20))
    assert stuck is not None
    assert stuck.reason is Reason.VOLUMES_NOT_READY
    assert "kubectl describe pod job-pod" in stuck.message
    (end,) = end_stuck(JobsOf((a_job(),), (pod,)), NOW + timedelta(minutes=2))
    assert end.diagnosis.startswith("VolumesNotReady: ")


def test_a_pod_that_is_merely_starting_is_not_stuck() -> None:
    assert find_stuck(a_job(), [a_pod(waiting="ContainerCreating")], NOW) is None
    assert find_stuck(a_job(), [], NOW) is None


def test_a_job_without_a_pod_is_told_after_a_while_and_left_to_its_deadline() -> None:
    jobs, later = JobsOf((a_job(),)), NOW + timedelta(seconds=20)
    assert find_stuck(a_job(), [], later - timedelta(seconds=1)) is None
    stuck = find_stuck(a_job(), [], later)
    assert stuck is not None
    assert stuck.reason is Reason.POD_NOT_CREATED
    assert "enforce=privileged" in stuck.message
    assert end_stuck(jobs, later + timedelta(hours=1)) == ()
    assert next_look(jobs, NOW) == 21


def test_a_job_that_waits_for_its_next_try_or_is_suspended_is_not_stuck() -> None:
    later = NOW + timedelta(hours=1)
    retrying = replace(a_job(), status=replace(a_job().status, failed=1))
    suspended = replace(a_job(), status=replace(a_job().status, start_time=None))
    assert find_stuck(retrying, [], later) is None
    assert find_stuck(suspended, [], later) is None


def test_the_newest_recorded_jobs_of_each_outcome_are_kept() -> None:
    outcomes = ("Completed", "Failed", "Completed", "Completed", "Failed", "")
    jobs = [a_job(f"j{n}", created=n, recorded=outcome) for n, outcome in enumerate(outcomes)]
    gone = clean_up(sort_jobs(reversed(jobs), ()), keep=1)
    assert [delete.name for delete in gone] == ["j0", "j2", "j1"]


def test_a_location_that_somebody_else_calls_completed_is_initialized_all_the_same() -> None:
    observed = location.LocationObserved(a_location(initStatus="Completed", initTime="Thu Jan 30 15:05:56 2020"), IMAGE)
    plan = location.reconcile(observed, NOW)
    assert "CreateJob" in kinds(plan)
    assert said(plan)[:2] == ("False", "Initializing")


def test_status_of_a_location_starts_as_initializing() -> None:
    plan = location.reconcile(location.LocationObserved(a_location(), IMAGE), NOW)
    (status,) = (action.status for action in plan.actions if isinstance(action, SetStatus))
    assert status.wire()["initStatus"] == InitStatus.INITIALIZING
