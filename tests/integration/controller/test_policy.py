import json
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubedr_ctrl.api.result import Operation
from tests.servers.kubedr import Kubedr, failure, report

WRONG_KEY = (
    "subprocess.CalledProcessError: Command '['restic', '--json', '-r', 's3:http://10.106.189.174:9000/testbucket63', "
    "'--verbose', 'backup', '/data']' returned non-zero exit status 1. (Fatal: unable to open config file: Stat: The "
    "access key ID you provided does not exist in our records. Is there a repository at the following location?\n"
    "s3:http://10.106.189.174:9000/testbucket63)"
)
FIGURES = {
    "dataAdded": 1573023,
    "filesChanged": 1,
    "filesNew": 0,
    "mbrName": "mbr-34abbf1b",
    "snapshotId": "34abbf1b",
    "totalBytesProcessed": 15736864,
    "totalDurationSecs": "0.318463127",
}


def counters(kubedr: Kubedr, policy: str) -> tuple[float | None, ...]:
    metrics = kubedr.metrics()
    names = ("kubedr_num_backups", "kubedr_num_successful_backups", "kubedr_num_failed_backups")
    return tuple(metrics.get(f'{name}{{policyName="{policy}"}}') for name in names)


def fail_backup(kubedr: Kubedr, policy: str, job: str, **end: Any) -> None:
    kubedr.backup_now(policy, job)
    kubedr.finish(job, **end)
    assert kubedr.recorded(job) == "Failed"


def test_success_shows_in_status_event_metrics_and_record(shared: Kubedr) -> None:
    shared.scheduled("success")
    job = shared.backup_now("success", "success-now")
    pod = shared.finish(job, report(Operation.BACKUP))
    assert shared.recorded(job) == "Completed"
    status = shared.status("MetadataBackupPolicy", "success")
    shown = {name: status[name] for name in FIGURES}
    assert shown == FIGURES
    assert (status["backupStatus"], status["backupErrorMessage"], status["backupPod"]) == ("Completed", "", pod)
    datetime.strptime(status["backupTime"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    assert shared.events("success") == [("Normal", "BackupSucceeded", "Backup completed, snapshot ID: 34abbf1b")]

    label = '{policyName="success"}'
    metrics = shared.metrics()
    assert counters(shared, "success") == (1, 1, 0)
    assert metrics[f"kubedr_backup_size_bytes{label}"] == 15736864
    assert metrics[f"kubedr_backup_duration_seconds_count{label}"] == 1
    assert metrics[f"kubedr_backup_duration_seconds_sum{label}"] == 0.318463127
    assert metrics['kubedr_backup_duration_seconds_bucket{le="15.0",policyName="success"}'] == 1

    record = shared.get("MetadataBackupRecord", "mbr-34abbf1b")
    assert record["spec"] == {"snapshotId": "34abbf1b", "policy": "success", "backuploc": "success-loc"}
    assert record["metadata"]["finalizers"] == ["mbr.finalizers.kubedr.catalogicsoftware.com"]
    assert record["status"]["etcdRevision"] == 815
    assert record["status"]["certificateCount"] == 1
    shared.wait_ready("MetadataBackupRecord", "mbr-34abbf1b", "Available")


def test_failure_shows_no_figures_of_an_earlier_success(shared: Kubedr) -> None:
    shared.scheduled("failure")
    shared.finish(shared.backup_now("failure", "failure-1"), report(Operation.BACKUP, snapshot="aaaaaaaa"))
    shared.recorded("failure-1")
    fail_backup(shared, "failure", "failure-2", message=failure(Operation.BACKUP, WRONG_KEY))
    status = shared.status("MetadataBackupPolicy", "failure")
    assert not FIGURES.keys() & status.keys()
    assert (status["backupStatus"], status["backupErrorMessage"]) == ("Failed", WRONG_KEY)
    assert status["lastSuccessfulBackup"]["snapshotId"] == "aaaaaaaa"
    assert ("Error", "BackupFailed", WRONG_KEY) in shared.events("failure")
    assert counters(shared, "failure") == (2, 1, 1)
    assert shared.metrics()['kubedr_backup_size_bytes{policyName="failure"}'] == 15736864
    message = shared.wait_ready("MetadataBackupPolicy", "failure", "BackupFailed")
    assert message.startswith(f"{WRONG_KEY}. To try again")

    shared.finish(shared.backup_now("failure", "failure-3"), report(Operation.BACKUP, snapshot="bbbbbbbb"))
    shared.wait_ready("MetadataBackupPolicy", "failure", "BackupSucceeded")


def test_a_late_result_counts_but_does_not_hide_a_newer_one(shared: Kubedr) -> None:
    shared.scheduled("late")
    shared.finish(shared.backup_now("late", "late-new"), report(Operation.BACKUP, snapshot="cccccccc"))
    shared.recorded("late-new")
    old = report(Operation.BACKUP, snapshot="dddddddd", at=datetime.now(UTC) - timedelta(hours=1))
    shared.finish(shared.backup_now("late", "late-old"), old)
    shared.recorded("late-old")
    assert shared.status("MetadataBackupPolicy", "late")["snapshotId"] == "cccccccc"
    assert counters(shared, "late") == (2, 2, 0)


def test_a_worker_killed_for_memory_is_a_truthful_failure(shared: Kubedr) -> None:
    shared.scheduled("oom")
    shared.backup_now("oom", "oom-now")
    shared.finish("oom-now", exit_code=137, reason="OOMKilled")
    first = shared.plane.pods.of_job(shared.namespace, "oom-now")
    shared.wait_for(lambda: shared.plane.pods.of_job(shared.namespace, "oom-now") != first, "another try", timeout=30)
    shared.finish("oom-now", exit_code=137, reason="OOMKilled")
    assert shared.recorded("oom-now") == "Failed"
    (event,) = shared.events("oom")
    assert event[:2] == ("Error", "BackupFailed")
    assert "OOMKilled" in event[2]
    assert shared.status("MetadataBackupPolicy", "oom")["backupErrorMessage"] == event[2]
    assert counters(shared, "oom") == (1, 0, 1)


def test_several_pods_of_a_job_are_one_backup(shared: Kubedr) -> None:
    shared.scheduled("retried")
    shared.backup_now("retried", "retried-now")
    first = shared.finish("retried-now", exit_code=137, reason="OOMKilled")
    shared.wait_for(
        lambda: shared.plane.pods.of_job(shared.namespace, "retried-now") != first, "another try", timeout=30
    )
    shared.finish("retried-now", report(Operation.BACKUP, snapshot="eeeeeeee"))
    assert shared.recorded("retried-now") == "Completed"
    assert counters(shared, "retried") == (1, 1, 0)
    assert [event[1] for event in shared.events("retried")] == ["BackupSucceeded"]


def test_a_deadline_is_a_truthful_failure(shared: Kubedr) -> None:
    shared.scheduled("deadline")
    shared.backup_now("deadline", "deadline-now")
    shared.plane.pods.run(shared.namespace, shared.plane.pods.of_job(shared.namespace, "deadline-now"))
    shared.kubectl("patch", "job", "deadline-now", "-p", '{"spec": {"activeDeadlineSeconds": 1}}')
    assert shared.recorded("deadline-now") == "Failed"
    assert shared.events("deadline") == [
        ("Error", "BackupFailed", "Job deadline-now did not end within 1 s and was stopped")
    ]


def test_a_job_deleted_by_hand_is_a_truthful_failure(shared: Kubedr) -> None:
    shared.scheduled("deleted")
    shared.backup_now("deleted", "deleted-now")
    shared.plane.pods.run(shared.namespace, shared.plane.pods.of_job(shared.namespace, "deleted-now"))
    shared.wait_for(lambda: "finalizers" in shared.get("Job", "deleted-now")["metadata"], "the finalizer")
    shared.kubectl("delete", "job", "deleted-now")
    assert shared.events("deleted") == [("Error", "BackupFailed", "Job deleted-now was deleted before it ended")]
    assert counters(shared, "deleted") == (1, 0, 1)


def test_a_pod_gone_without_a_word_is_a_truthful_failure(shared: Kubedr) -> None:
    shared.scheduled("silent")
    fail_backup(shared, "silent", "silent-now", exit_code=1)
    (event,) = shared.events("silent")
    assert event[2].endswith("ended without a report (exit code 1)")


def test_a_missing_location_is_named_and_heals(shared: Kubedr) -> None:
    shared.apply(shared.policy("orphan", "nowhere"))
    message = shared.wait_ready("MetadataBackupPolicy", "orphan", "LocationNotFound")
    assert "'nowhere'" in message
    assert "spec.destination" in message
    shared.initialized("nowhere")
    shared.wait_ready("MetadataBackupPolicy", "orphan", "Scheduled")


def test_a_schedule_that_only_kubernetes_can_refuse_is_told_and_heals(shared: Kubedr) -> None:
    shared.initialized("cron-loc")
    shared.apply(shared.policy("cron", "cron-loc", schedule="99 * * * *"))
    assert "99 * * * *" in shared.wait_ready("MetadataBackupPolicy", "cron", "CronJobRejected")
    shared.apply(shared.policy("cron", "cron-loc", schedule="9 * * * *", timeZone="No/Where"))
    shared.wait_for(lambda: "No/Where" in shared.ready("MetadataBackupPolicy", "cron")[2], "the time zone's refusal")
    shared.apply(shared.policy("cron", "cron-loc", schedule="9 * * * *", timeZone="Europe/Berlin"))
    shared.wait_ready("MetadataBackupPolicy", "cron", "Scheduled")


def test_every_edit_reaches_the_cronjob(shared: Kubedr) -> None:
    shared.scheduled("edits")

    def cronjob() -> dict[str, Any]:
        path = f"/apis/batch/v1/namespaces/{shared.namespace}/cronjobs/edits-backup-cronjob"
        spec: dict[str, Any] = shared.plane.request("GET", path)["spec"]
        return spec

    assert cronjob()["concurrencyPolicy"] == "Forbid"
    edits: list[tuple[dict[str, Any], Any]] = [
        ({"suspend": True}, lambda spec: spec["suspend"] is True),
        ({"suspend": False}, lambda spec: spec["suspend"] is False),
        ({"schedule": "*/5 * * * *"}, lambda spec: spec["schedule"] == "*/5 * * * *"),
        ({"timeZone": "Etc/UTC"}, lambda spec: spec.get("timeZone") == "Etc/UTC"),
        ({"timeZone": ""}, lambda spec: "timeZone" not in spec),
        ({"etcdEndpoint": "https://10.0.0.1:2379,https://10.0.0.2:2379"}, lambda spec: "10.0.0.2" in str(spec)),
        ({"etcdCreds": "others"}, lambda spec: "'others'" in str(spec)),
        ({"certsDir": "/etc/pki"}, lambda spec: "/etc/pki" in str(spec)),
        ({"options": {"master-node-label-name": "a/b"}}, lambda spec: "'a/b'" in str(spec)),
        ({"backupTimeout": "10m"}, lambda spec: spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 900),
    ]
    for edit, arrived in edits:
        shared.apply(shared.policy("edits", "edits-loc", **edit))
        _await_edit(shared, cronjob, edit, arrived)


def _await_edit(
    kubedr: Kubedr, cronjob: Callable[[], dict[str, Any]], edit: dict[str, Any], arrived: Callable[[Any], bool]
) -> None:
    kubedr.wait_for(lambda: arrived(cronjob()), f"{edit} to reach the CronJob")


def test_counters_survive_the_controller(own: Kubedr) -> None:
    own.scheduled("again")
    own.finish(own.backup_now("again", "again-1"), report(Operation.BACKUP))
    own.recorded("again-1")
    fail_backup(own, "again", "again-2", message=failure(Operation.BACKUP, WRONG_KEY))
    before = {series: value for series, value in own.metrics().items() if "policyName" in series}
    own.stop(signal.SIGKILL)
    own.backup_now("again", "again-3")
    own.finish("again-3", report(Operation.BACKUP, snapshot="ffffffff"))
    own.start()
    own.recorded("again-3")
    assert counters(own, "again") == (3, 2, 1)
    assert before['kubedr_num_backups{policyName="again"}'] == 2
    assert len(own.events("again")) == 3


def test_sigterm_ends_within_five_seconds(own: Kubedr) -> None:
    assert own.stop(signal.SIGTERM) < 5


def test_series_of_a_deleted_policy_go_away_and_its_results_do_not_count_for_a_namesake(shared: Kubedr) -> None:
    shared.scheduled("namesake")
    shared.finish(shared.backup_now("namesake", "namesake-1"), report(Operation.BACKUP, snapshot="12121212"))
    shared.recorded("namesake-1")
    assert counters(shared, "namesake") == (1, 1, 0)
    shared.kubectl("delete", "mbp", "namesake")
    shared.wait_for(lambda: counters(shared, "namesake") == (None,) * 3, "the series to go")
    shared.apply(shared.policy("namesake", "namesake-loc"))
    shared.wait_ready("MetadataBackupPolicy", "namesake", "Scheduled")
    assert counters(shared, "namesake") == (0, 0, 0)


def test_a_result_that_was_not_recorded_in_time_is_not_counted_for_a_namesake_and_its_job_is_let_go(
    own: Kubedr,
) -> None:
    own.scheduled("reborn")
    own.backup_now("reborn", "reborn-1")
    own.wait_for(lambda: "finalizers" in own.get("Job", "reborn-1")["metadata"], "the finalizer")
    own.stop(signal.SIGKILL)
    own.finish("reborn-1", report(Operation.BACKUP, snapshot="34343434"))
    own.kubectl("delete", "mbp", "reborn")
    own.apply(own.policy("reborn", "reborn-loc"))
    own.start()
    own.wait_for(lambda: own.gone("Job", "reborn-1"), "the Job to be let go")
    own.wait_ready("MetadataBackupPolicy", "reborn", "Scheduled")
    assert counters(own, "reborn") == (0, 0, 0)
    assert own.gone("MetadataBackupRecord", "mbr-34343434")


def test_recorded_jobs_are_cleaned_up_and_surplus_records_go(shared: Kubedr) -> None:
    shared.scheduled("many", retainNumBackups=2)
    snapshots = [f"{number:08x}" for number in range(1, 6)]
    for snapshot in snapshots:
        job = shared.backup_now("many", f"many-{snapshot}")
        shared.finish(job, report(Operation.BACKUP, snapshot=snapshot, at=datetime.now(UTC)))
        shared.recorded(job)
    shared.wait_for(lambda: len(shared.jobs("many", Operation.BACKUP)) == 3, "all Jobs but three to go")

    def surplus_gone() -> bool:
        for job in shared.jobs("many-loc", Operation.FORGET):
            if "recorded" not in str(job["metadata"]["annotations"]) and "conditions" not in job["status"]:
                shared.finish(job["metadata"]["name"], report(Operation.FORGET))
        return all(shared.gone("MetadataBackupRecord", f"mbr-{snapshot}") for snapshot in snapshots[:3])

    shared.wait_for(surplus_gone, "the surplus records to go")
    assert not shared.gone("MetadataBackupRecord", f"mbr-{snapshots[3]}")
    assert counters(shared, "many") == (5, 5, 0)


def test_prometheus_accepts_the_metrics(shared: Kubedr) -> None:
    shared.scheduled("prom")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=shared.http("/metrics"), capture_output=True, text=True, check=False
    )
    # promtool's linter dislikes the guide's names (no _total); its parser must be content.
    assert "error while linting" not in checked.stderr + checked.stdout
    assert "text format parsing error" not in checked.stderr


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_served(shared: Kubedr, path: str) -> None:
    assert shared.http(path) == "ok\n"


def test_a_namespace_that_does_not_admit_backups_is_told_with_the_remedy(own: Kubedr) -> None:
    own.scheduled("unadmitted")
    label = "pod-security.kubernetes.io/enforce"
    own.plane.kubectl("label", "namespace", own.namespace, f"{label}=baseline")
    job = own.backup_now("unadmitted", "unadmitted-now")
    message = own.wait_ready("MetadataBackupPolicy", "unadmitted", "PodNotCreated", timeout=60)
    assert f"kubectl label namespace {own.namespace} {label}=privileged" in message

    own.plane.kubectl("label", "namespace", own.namespace, f"{label}=privileged", "--overwrite")
    own.wait_for(lambda: own.plane.pods.of_job(own.namespace, job), "the pod to be created", timeout=60)
    own.finish(job, report(Operation.BACKUP))
    assert own.recorded(job) == "Completed"


def test_a_cronjob_that_somebody_else_left_under_its_name_becomes_the_policys_own(shared: Kubedr) -> None:
    theirs = {"name": "kubedr-backup-container", "image": "original:1"}
    pod = {"restartPolicy": "Never", "containers": [theirs], "nodeSelector": {"master": ""}}
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    name = "left-behind-backup-cronjob"
    shared.apply({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec})
    shared.scheduled("left-behind")
    cronjob = json.loads(shared.kubectl("get", "cronjob", name, "-o", "json"))
    ours = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert [container["name"] for container in ours["containers"]] == ["worker"]
    assert "nodeSelector" not in ours
    assert cronjob["metadata"]["ownerReferences"][0]["name"] == "left-behind"
