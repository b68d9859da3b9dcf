from kubedr_ctrl.api.result import Operation
from tests.servers.kubedr import Kubedr, failure, report


def backed_up(kubedr: Kubedr, policy: str, snapshot: str) -> str:
    kubedr.scheduled(policy)
    job = kubedr.backup_now(policy, f"{policy}-now")
    kubedr.finish(job, report(Operation.BACKUP, snapshot=snapshot))
    kubedr.recorded(job)
    return f"mbr-{snapshot}"


def test_success_shows_in_status_and_event_as_the_guide_says(shared: Kubedr) -> None:
    record = backed_up(shared, "restorable", "5bbc8b1a")
    shared.apply(shared.restore("mrtest", record))
    job = shared.next_job("mrtest", Operation.RESTORE)
    volumes = shared.get("Job", job)["spec"]["template"]["spec"]["volumes"]
    assert {"claimName": "restored"} in [volume.get("persistentVolumeClaim") for volume in volumes]
    shared.finish(job, report(Operation.RESTORE))
    shared.wait_ready("MetadataRestore", "mrtest", "RestoreSucceeded")
    status = shared.status("MetadataRestore", "mrtest")
    assert (status["restoreStatus"], status["restoreErrorMessage"]) == ("Completed", "")
    shared.recorded(job)
    assert shared.events("mrtest") == [("Normal", "RestoreSucceeded", "Restore from snapshot 5bbc8b1a completed")]


def test_failure_shows_in_status_and_event_and_is_not_tried_again(shared: Kubedr) -> None:
    record = backed_up(shared, "unrestorable", "6bbc8b1a")
    message = (
        "subprocess.CalledProcessError: Command '['restic', '-r', 's3:http://10.106.189.175:9000/testbucket110', "
        "'--verbose', 'restore', '--target', '/restore', '5bbc8b1a']' returned non-zero exit status 1. (Fatal)"
    )
    shared.apply(shared.restore("mrfail", record))
    job = shared.next_job("mrfail", Operation.RESTORE)
    shared.finish(job, failure(Operation.RESTORE, message))
    assert shared.wait_ready("MetadataRestore", "mrfail", "RestoreFailed").startswith(f"{message}. A restore runs once")
    status = shared.status("MetadataRestore", "mrfail")
    assert (status["restoreStatus"], status["restoreErrorMessage"]) == ("Failed", message)
    shared.recorded(job)
    assert shared.events("mrfail") == [("Error", "RestoreFailed", message)]
    assert len(shared.jobs("mrfail", Operation.RESTORE)) == 1


def test_a_missing_record_is_named_and_waited_for(shared: Kubedr) -> None:
    shared.apply(shared.restore("mrearly", "mbr-7bbc8b1a"))
    assert "'mbr-7bbc8b1a'" in shared.wait_ready("MetadataRestore", "mrearly", "RecordNotFound")
    backed_up(shared, "latecomer", "7bbc8b1a")
    shared.finish(shared.next_job("mrearly", Operation.RESTORE), report(Operation.RESTORE))
    shared.wait_ready("MetadataRestore", "mrearly", "RestoreSucceeded")


def test_a_missing_volume_is_named_and_waited_for(shared: Kubedr) -> None:
    record = backed_up(shared, "volumeless", "8bbc8b1a")
    shared.apply(shared.restore("mrvolume", record, "no-such-volume"))
    job = shared.next_job("mrvolume", Operation.RESTORE)
    pod = shared.plane.pods.of_job(shared.namespace, job)
    missing = '0/1 nodes are available: persistentvolumeclaim "no-such-volume" not found.'
    shared.plane.pods.unschedulable(shared.namespace, pod, missing)
    assert missing.rstrip(".") in shared.wait_ready("MetadataRestore", "mrvolume", "Unschedulable")
    assert "restoreStatus" not in shared.status("MetadataRestore", "mrvolume")
    shared.finish(job, report(Operation.RESTORE))
    shared.wait_ready("MetadataRestore", "mrvolume", "RestoreSucceeded")


def test_a_pod_that_cannot_be_created_fails_in_the_words_of_the_guide(own: Kubedr) -> None:
    record = backed_up(own, "impossible", "9bbc8b1a")
    for number, rule in enumerate(own.plane.request("GET", own.role_path)["rules"]):
        if rule["resources"] == ["jobs"]:
            verbs = [{"op": "replace", "path": f"/rules/{number}/verbs", "value": ["get", "list", "watch"]}]
            own.plane.request("PATCH", own.role_path, verbs, content_type="application/json-patch+json")
    own.apply(own.restore("mrbad", record))
    own.wait_ready("MetadataRestore", "mrbad", "RestoreFailed")
    status = own.status("MetadataRestore", "mrbad")
    message = status["restoreErrorMessage"]
    assert message.startswith("Error in creating restore pod: jobs.batch is forbidden")
    assert status["restoreStatus"] == "Failed"
    assert own.events("mrbad") == [("Error", "RestoreFailed", message)]
