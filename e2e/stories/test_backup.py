"""A backup of the real etcd, and all the ways in which it can go wrong."""

import re

from e2e.stories.teller import Teller


def failed_form(story: Teller, message: str) -> bool:
    """Return whether the message has the form that the user guide prints."""
    command = (
        rf"Command '\['restic', '--json', '-r', '{re.escape(story.repository)}', '--verbose', 'backup', .*'/data'\]'"
    )
    form = rf"subprocess\.CalledProcessError: {command} returned non-zero exit status \d+\. \(.+\)"
    return re.fullmatch(form, message, re.DOTALL) is not None


def test_success_shows_everywhere(story: Teller) -> None:
    story.scheduled(certsDir="/etc/kubernetes/pki")
    assert story.recorded(story.backup_now()) == "Completed"
    status = story.status("MetadataBackupPolicy")
    assert (status["backupStatus"], status["backupErrorMessage"]) == ("Completed", "")
    assert status["totalBytesProcessed"] > 1_000_000
    assert status["mbrName"] == f"mbr-{status['snapshotId']}"
    assert re.fullmatch(r"\d+(\.\d+)?", status["totalDurationSecs"])
    assert story.events()[-1] == ("Normal", "BackupSucceeded", f"Backup completed, snapshot ID: {status['snapshotId']}")
    assert story.counters() == (1, 1, 0)
    assert story.metric("kubedr_backup_size_bytes") == status["totalBytesProcessed"]
    assert story.metric("kubedr_backup_duration_seconds_count") == 1

    assert story.recorded(story.backup_now(2)) == "Completed"
    again = story.status("MetadataBackupPolicy")
    assert (again["filesNew"], again["filesChanged"]) == (0, 1), "the second backup finds the first one's files"
    assert again["dataAdded"] < again["totalBytesProcessed"]


def test_a_wrong_access_key_fails_as_the_guide_prints_it_and_heals(story: Teller) -> None:
    story.scheduled()
    story.secret(story.name, access_key="nobody")
    assert story.recorded(story.backup_now()) == "Failed"
    status = story.status("MetadataBackupPolicy")
    assert status["backupStatus"] == "Failed"
    assert failed_form(story, status["backupErrorMessage"]), status["backupErrorMessage"]
    assert "snapshotId" not in status
    assert story.events()[-1][:2] == ("Error", "BackupFailed")
    assert story.counters() == (1, 0, 1)
    story.secret(story.name)
    assert story.recorded(story.backup_now(2)) == "Completed"
    story.wait_ready("MetadataBackupPolicy")
    assert story.counters() == (2, 1, 1)


def test_a_wrong_password_fails_as_the_guide_prints_it(story: Teller) -> None:
    story.scheduled()
    story.secret(story.name, restic_repo_password="battery staple")
    assert story.recorded(story.backup_now()) == "Failed"
    message = story.status("MetadataBackupPolicy")["backupErrorMessage"]
    assert failed_form(story, message), message
    assert "exit status 12" in message
    assert "battery" not in message


def test_an_etcd_out_of_reach_is_named(story: Teller) -> None:
    story.scheduled(etcdEndpoint="https://127.0.0.1:1")
    assert story.recorded(story.backup_now()) == "Failed"
    assert "https://127.0.0.1:1" in story.status("MetadataBackupPolicy")["backupErrorMessage"]


def test_the_first_endpoint_that_answers_is_used(story: Teller) -> None:
    story.scheduled(etcdEndpoint="https://127.0.0.1:1,https://127.0.0.1:2379")
    assert story.recorded(story.backup_now()) == "Completed"


def test_etcd_credentials_that_are_missing_are_named(story: Teller) -> None:
    story.scheduled(etcdCreds=f"{story.name}-none")
    job = story.backup_now()
    story.wait_ready("MetadataBackupPolicy", "False", "ConfigurationMissing")
    assert story.recorded(job) == "Failed"
    assert f'"{story.name}-none" not found' in story.status("MetadataBackupPolicy")["backupErrorMessage"]
    assert story.counters() == (1, 0, 1)


def test_a_certificates_directory_that_is_missing_is_told(story: Teller) -> None:
    story.scheduled(certsDir="/no/such/directory")
    job = story.backup_now()
    story.wait_ready("MetadataBackupPolicy", "False", "VolumesNotReady")
    assert story.recorded(job, timeout=200) == "Failed"
    assert "cannot be mounted" in story.status("MetadataBackupPolicy")["backupErrorMessage"]


def test_a_deadline_is_told(story: Teller) -> None:
    story.scheduled()
    job = story.backup_now()
    story.kubectl("patch", f"job/{job}", "-p", '{"spec": {"activeDeadlineSeconds": 1}}')
    assert story.recorded(job) == "Failed"
    assert story.status("MetadataBackupPolicy")["backupErrorMessage"] == (
        f"Job {job} did not end within 1 s and was stopped"
    )


def test_an_image_that_cannot_be_pulled_is_told(story: Teller) -> None:
    story.scheduled()
    job = story.backup_changed(image="registry.invalid/nothing:here")
    assert story.recorded(job, timeout=240) == "Failed"
    assert "registry.invalid/nothing:here" in story.status("MetadataBackupPolicy")["backupErrorMessage"]


def test_a_worker_killed_for_memory_is_told(story: Teller) -> None:
    story.scheduled()
    job = story.backup_changed(resources={"limits": {"memory": "24Mi"}})
    assert story.recorded(job, timeout=240) == "Failed"
    message = story.status("MetadataBackupPolicy")["backupErrorMessage"]
    assert "OOMKilled" in message, message
    assert story.counters() == (1, 0, 1)


def test_suspension_reaches_the_schedule(story: Teller) -> None:
    story.scheduled(schedule="* * * * *")
    first = story.wait_for(lambda: story.counters()[0], lambda: "a scheduled backup", timeout=150)
    assert first == 1
    story.policy(schedule="* * * * *", suspend=True)
    story.wait_for(
        lambda: story.get("cronjob", f"{story.name}-backup-cronjob")["spec"]["suspend"], lambda: "the CronJob to pause"
    )
    assert story.ready("MetadataBackupPolicy")[1] == "Suspended"


def test_series_go_with_the_policy(story: Teller) -> None:
    story.scheduled()
    story.recorded(story.backup_now())
    assert story.counters() == (1, 1, 0)
    story.kubectl("delete", f"mbp/{story.name}")
    story.wait_for(lambda: story.counters() == (None,) * 3, lambda: "the series to go")
