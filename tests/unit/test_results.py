"""Harvest and reflection: from a Job's end to the words in status and event."""

import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubedr_ctrl.api.names import GROUP
from kubedr_ctrl.api.policy import DURATION_BUCKETS, MetadataBackupPolicyStatus, Totals
from kubedr_ctrl.api.result import Operation, Outcome, Reason, Result, Snapshot
from kubedr_ctrl.kube.objects import Job, Pod
from kubedr_ctrl.kube.patch import merge_diff
from kubedr_ctrl.kube.store import Store
from kubedr_ctrl.resources import JOBS, PODS, SLIM_JOBS, SLIM_PODS
from kubedr_ctrl.results.event_recorder import message_of
from kubedr_ctrl.results.harvest import Harvest, conclude, has_ended, job_key
from kubedr_ctrl.results.reflect import reflect_backup

NOW = datetime(2020, 1, 30, 16, 4, 5, tzinfo=UTC)
ISO = "2020-01-30T16:04:05Z"


def job(*, ended: str = "", reason: str = "", deleted: bool = False, diagnosis: str = "", failed: int = 1) -> Job:
    annotations = {f"{GROUP}/owner": "test-backup", f"{GROUP}/owner-uid": "p1"}
    if diagnosis:
        annotations[f"{GROUP}/diagnosis"] = diagnosis
    metadata: dict[str, Any] = {
        "name": "j",
        "uid": "j1",
        "creationTimestamp": ISO,
        "labels": {f"{GROUP}/operation": "backup"},
        "annotations": annotations,
    }
    if deleted:
        metadata["deletionTimestamp"] = ISO
    conditions = [{"type": ended, "status": "True", "reason": reason, "lastTransitionTime": ISO}] if ended else []
    status = {"conditions": conditions, "startTime": ISO, "failed": failed if ended == "Failed" else 0}
    document = {"metadata": metadata, "spec": {"activeDeadlineSeconds": 60}, "status": status}
    return msgspec.json.decode(json.dumps(document), type=Job)


def pod(name: str, message: str = "", *, reason: str = "Error", created: str = ISO, **status: Any) -> Pod:
    terminated = {"exitCode": 1, "reason": reason, "message": message}
    containers = [{"name": "worker", "state": {"terminated": terminated}}]
    document = {
        "metadata": {"name": name, "creationTimestamp": created},
        "status": {"phase": "Failed", "containerStatuses": containers, **status},
    }
    return msgspec.json.decode(json.dumps(document), type=Pod)


def result(
    outcome: Outcome = Outcome.COMPLETED, *, at: datetime = NOW, message: str = "", seconds: str = "0.5"
) -> Result:
    snapshot = Snapshot(
        id="b0f347ef", files_new=0, files_changed=1, data_added=9, total_bytes_processed=99, total_duration_secs=seconds
    )
    good = outcome is Outcome.COMPLETED
    return Result(
        operation=Operation.BACKUP,
        outcome=outcome,
        reason=Reason.COMPLETED if good else Reason.RESTIC_FAILED,
        message=message,
        started=at,
        finished=at,
        snapshot=snapshot if good else None,
    )


def test_a_job_of_somebody_else_has_no_key() -> None:
    assert job_key(job()) is not None
    assert job_key(msgspec.json.decode(b'{"metadata":{"name":"x"}}', type=Job)) is None


def test_a_job_ends_by_a_condition_or_by_deletion() -> None:
    assert not has_ended(job())
    assert has_ended(job(ended="Failed"))
    assert has_ended(job(deleted=True))


def test_a_report_of_success_wins_over_failures_of_other_pods() -> None:
    pods = [
        pod("p1", result().encode()),
        pod("p2", result(Outcome.FAILED, message="x").encode(), created="2021" + ISO[4:]),
    ]
    harvest = conclude(job(ended="Failed", reason="BackoffLimitExceeded"), Operation.BACKUP, pods)
    assert (harvest.result.outcome, harvest.pod) == (Outcome.COMPLETED, "p1")


def test_the_latest_of_several_failures_counts() -> None:
    pods = [
        pod("p1", result(Outcome.FAILED, message="first").encode()),
        pod("p2", result(Outcome.FAILED, message="second").encode(), created="2021" + ISO[4:]),
    ]
    assert conclude(job(ended="Failed"), Operation.BACKUP, pods).result.message == "second"


@pytest.mark.parametrize(
    ("ended", "pods", "reason", "words"),
    [
        (job(ended="Failed"), [pod("p", reason="OOMKilled")], Reason.OUT_OF_MEMORY, "OOMKilled"),
        (job(ended="Failed"), [pod("p", reason="")], Reason.NO_REPORT, "exit code 1"),
        (job(deleted=True), [], Reason.JOB_DELETED, "was deleted"),
        (job(ended="Failed", reason="DeadlineExceeded"), [], Reason.DEADLINE_EXCEEDED, "within 60 s"),
        (job(ended="Failed", reason="DeadlineExceeded", failed=0), [], Reason.POD_NOT_CREATED, "No pod was created"),
        (job(ended="Complete"), [], Reason.NO_REPORT, "tag job=j1"),
        (
            job(ended="Failed", reason="DeadlineExceeded", diagnosis='ConfigurationMissing: secret "x" not found'),
            [],
            Reason.CONFIGURATION_MISSING,
            'secret "x" not found',
        ),
    ],
)
def test_a_worker_that_never_reported_is_a_failure_that_says_why(
    ended: Job, pods: list[Pod], reason: Reason, words: str
) -> None:
    harvest = conclude(ended, Operation.BACKUP, pods)
    assert harvest.result.outcome is Outcome.FAILED
    assert harvest.result.reason is reason
    assert words in harvest.result.message


@pytest.mark.parametrize(
    ("ended", "reason", "words"),
    [
        (job(ended="Failed", reason="DeadlineExceeded"), Reason.DEADLINE_EXCEEDED, "did not end within 60 s"),
        (job(deleted=True), Reason.JOB_DELETED, "was deleted"),
        (job(ended="Failed", reason="BackoffLimitExceeded"), Reason.TERMINATED, "told to stop"),
    ],
)
def test_why_a_worker_was_told_to_stop_is_told_where_it_is_known(ended: Job, reason: Reason, words: str) -> None:
    report = result(Outcome.FAILED, message="told to stop").model_copy(update={"reason": Reason.TERMINATED})
    harvest = conclude(ended, Operation.BACKUP, [pod("p", report.encode())])
    assert (harvest.result.outcome, harvest.result.reason, harvest.pod) == (Outcome.FAILED, reason, "p")
    assert words in harvest.result.message


def test_an_eviction_is_told() -> None:
    evicted = msgspec.json.decode(
        b'{"metadata":{"name":"p"},"status":{"phase":"Failed","reason":"Evicted","message":"low on memory"}}', type=Pod
    )
    harvest = conclude(job(ended="Failed"), Operation.BACKUP, [evicted])
    assert harvest.result.reason is Reason.EVICTED
    assert "low on memory" in harvest.result.message


def test_a_failure_leaves_none_of_the_figures_of_an_earlier_success() -> None:
    good = reflect_backup(MetadataBackupPolicyStatus(), Harvest(result(), "p1"))
    assert good.wire()["totalDurationSecs"] == "0.5"
    bad = reflect_backup(good, Harvest(result(Outcome.FAILED, at=NOW + timedelta(minutes=1), message="no"), "p2"))
    gone = (
        "filesNew",
        "filesChanged",
        "dataAdded",
        "totalBytesProcessed",
        "totalDurationSecs",
        "snapshotId",
        "mbrName",
    )
    assert not set(gone) & bad.wire().keys()
    assert (bad.backup_error_message, bad.backup_pod, bad.backup_time) == ("no", "p2", "Thu Jan 30 16:05:05 2020")
    assert bad.last_successful_backup == good.last_successful_backup


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 100), st.floats(0, 50000)), max_size=30))
def test_totals_add_up_in_whatever_order_results_come(runs: list[tuple[bool, int, float]]) -> None:
    status = MetadataBackupPolicyStatus()
    for good, minute, seconds in runs:
        outcome = Outcome.COMPLETED if good else Outcome.FAILED
        at = NOW + timedelta(minutes=minute)
        status = reflect_backup(
            status, Harvest(result(outcome, at=at, message="" if good else "no", seconds=str(seconds)))
        )
    totals = status.totals
    assert totals.backups == totals.successful + totals.failed == len(runs)
    assert sum(totals.duration_bucket_counts) == totals.successful
    if runs:
        latest = max(minute for _, minute, _ in runs)
        assert status.backup_time == (NOW + timedelta(minutes=latest)).ctime()
    over = sum(1 for good, _, seconds in runs if good and seconds > DURATION_BUCKETS[-1])
    assert totals.duration_bucket_counts[-1] == over


def test_a_status_says_nothing_of_what_is_empty_and_takes_away_what_became_so() -> None:
    before = MetadataBackupPolicyStatus.model_validate({"recorded": [], "totals": {"durationBucketCounts": [0] * 18}})
    wanted = before.wire()
    assert "recorded" not in wanted
    assert wanted["totals"] == {"backups": 0, "successful": 0, "failed": 0, "durationSecondsSum": 0.0}
    assert merge_diff(before.given(), wanted) == {
        "recorded": None,
        "totals": {"durationBucketCounts": None, "backups": 0, "successful": 0, "failed": 0, "durationSecondsSum": 0.0},
    }
    good = reflect_backup(before, Harvest(result())).wire()
    assert good["backupErrorMessage"] == ""


@given(st.lists(st.integers(0, 9), min_size=len(DURATION_BUCKETS) + 1, max_size=len(DURATION_BUCKETS) + 1))
def test_counts_of_durations_are_written_up_to_the_last_and_read_back_the_same(counts: list[int]) -> None:
    totals = Totals(duration_bucket_counts=tuple(counts))
    written = totals.wire()
    shown = written.get("durationBucketCounts", [1])
    assert isinstance(shown, list)
    assert shown[-1] > 0
    assert Totals.model_validate(written) == totals


def test_counts_of_more_buckets_are_kept_as_a_sum() -> None:
    counts = (1,) * 40
    status = MetadataBackupPolicyStatus.model_validate({"totals": {"durationBucketCounts": counts}})
    kept = status.totals.duration_bucket_counts
    assert (len(kept), sum(kept)) == (len(DURATION_BUCKETS) + 1, sum(counts))
    assert sum(reflect_backup(status, Harvest(result())).totals.duration_bucket_counts) == sum(counts) + 1


def test_events_speak_as_the_guide_does() -> None:
    about = {f"{GROUP}/repository": "s3:http://s3:9000/b", f"{GROUP}/snapshots": "5bbc8b1a"}
    done = Harvest(result(), about=about)
    assert message_of(Operation.INIT, done) == "Repo at s3:http://s3:9000/b is successfully initialized"
    assert message_of(Operation.BACKUP, done) == "Backup completed, snapshot ID: b0f347ef"
    assert message_of(Operation.RESTORE, done) == "Restore from snapshot 5bbc8b1a completed"
    assert message_of(Operation.BACKUP, Harvest(result(Outcome.FAILED, message="why"))) == "why"


def test_cached_jobs_and_pods_keep_what_decides_and_leave_out_what_is_large() -> None:
    annotations = {f"{GROUP}/owner": "p", f"{GROUP}/owner-uid": "u", f"{GROUP}/result": "x" * 2000, "other": "y"}
    labels = {f"{GROUP}/operation": "backup", "other": "y"}
    metadata = {"name": "j", "uid": "j1", "labels": labels, "annotations": annotations, "finalizers": ["f"]}
    conditions = [{"type": "Complete", "status": "True"}, {"type": "SuccessCriteriaMet", "status": "True"}]
    document = json.dumps({"metadata": metadata, "status": {"conditions": conditions}}).encode()
    slim = SLIM_JOBS.decode(document)
    assert job_key(slim) == job_key(JOBS.decode(document)) is not None
    assert slim.ended == JOBS.decode(document).ended is not None
    assert slim.metadata.finalizers == ("f",)
    assert set(slim.metadata.annotations) == {f"{GROUP}/owner", f"{GROUP}/owner-uid"}

    ended = msgspec.json.encode(pod("p", "m" * 2000))
    cached = SLIM_PODS.decode(ended)
    assert cached.status.phase == "Failed"
    assert cached.terminated is not None
    assert cached.terminated.exit_code == 1
    assert not cached.terminated.message
    waiting = msgspec.json.encode(Pod(PODS.decode(ended).metadata))
    assert SLIM_PODS.decode(waiting) == PODS.decode(waiting)


def test_a_cached_job_takes_less_than_two_kibibytes() -> None:
    def document(number: int) -> bytes:
        ours = {"owner": "policy", "owner-uid": "0" * 36, "location": "loc", "repository": "s3:http://s3:9000/bucket"}
        annotations = {f"{GROUP}/{key}": value for key, value in ours.items()} | {f"{GROUP}/result": "x" * 1000}
        conditions = [
            {"type": type_, "status": "True", "lastTransitionTime": ISO, "message": "Reached expected number of pods"}
            for type_ in ("Complete", "SuccessCriteriaMet")
        ]
        metadata = {
            "name": f"policy-backup-cronjob-{number}", "namespace": "kubedr-system", "uid": f"{number:036d}",
            "resourceVersion": f"{number}", "creationTimestamp": ISO, "labels": {f"{GROUP}/operation": "backup"},
            "annotations": annotations, "finalizers": [f"{GROUP}/result"],
        }  # fmt: skip
        status = {"conditions": conditions, "startTime": ISO, "completionTime": ISO}
        return json.dumps({"metadata": metadata, "status": status}).encode()

    store, number = Store[Job](), 2000
    documents = [document(each) for each in range(number)]
    tracemalloc.start()
    try:
        for each in documents:
            store.put(SLIM_JOBS.decode(each))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / number < 2048
