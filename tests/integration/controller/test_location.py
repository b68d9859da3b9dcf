import re

from kubedr_ctrl.api.result import Operation, Reason
from tests.integration.controller.states import EXISTS
from tests.servers.kubedr import REPO, Kubedr, failure, report

CTIME = re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d \d{4}")


def test_success_shows_in_status_and_event_as_the_guide_says(shared: Kubedr) -> None:
    shared.apply(shared.location("good"))
    job = shared.next_job("good", Operation.INIT)
    shared.wait_for(lambda: shared.status("BackupLocation", "good").get("initStatus") == "Initializing", "a status")
    shared.finish(job, report(Operation.INIT))
    shared.wait_ready("BackupLocation", "good", "InitSucceeded")
    status = shared.status("BackupLocation", "good")
    assert status["initStatus"] == "Completed"
    assert status["initErrorMessage"] == ""
    assert CTIME.fullmatch(status["initTime"])
    assert status["observedGeneration"] == 1
    shared.recorded(job)
    assert shared.events("good") == [("Normal", "InitSucceeded", f"Repo at {REPO} is successfully initialized")]
    assert shared.metrics()['kubedr_location_ready{locationName="good"}'] == 1


def test_failure_shows_in_status_and_event_and_heals_with_another_try(shared: Kubedr) -> None:
    shared.apply(shared.location("bad"))
    first = shared.next_job("bad", Operation.INIT)
    shared.finish(first, failure(Operation.INIT, EXISTS, Reason.REPOSITORY_EXISTS))
    message = shared.wait_ready("BackupLocation", "bad", "InitFailed")
    assert message.startswith(f"{EXISTS.strip()}. If it is yours, set spec.existingRepository to Adopt")
    status = shared.status("BackupLocation", "bad")
    assert status["initStatus"] == "Failed"
    assert status["initErrorMessage"] == EXISTS
    shared.recorded(first)
    assert shared.events("bad") == [("Error", "InitFailed", EXISTS.strip())]

    second = shared.next_job("bad", Operation.INIT, after=1, timeout=30)
    assert shared.status("BackupLocation", "bad")["initStatus"] == "Failed"  # no flapping while it is tried again
    shared.finish(second, report(Operation.INIT))
    shared.wait_ready("BackupLocation", "bad", "InitSucceeded")
    assert shared.status("BackupLocation", "bad")["initErrorMessage"] == ""


def test_an_edit_is_tried_at_once(shared: Kubedr) -> None:
    shared.apply(shared.location("edited"))
    first = shared.next_job("edited", Operation.INIT)
    shared.finish(first, failure(Operation.INIT, "S3 refused the access key", Reason.S3_ACCESS_DENIED))
    shared.recorded(first)
    shared.apply(shared.location("edited", credentials="other-creds"))
    second = shared.next_job("edited", Operation.INIT, after=1, timeout=5)
    env = shared.get("Job", second)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {entry["valueFrom"]["secretKeyRef"]["name"] for entry in env if "secretKeyRef" in entry["valueFrom"]} == {
        "other-creds"
    }


def test_a_missing_secret_is_named_within_a_minute_and_heals(shared: Kubedr) -> None:
    shared.apply(shared.location("no-secret", credentials="nope"))
    job = shared.next_job("no-secret", Operation.INIT)
    pod = shared.plane.pods.of_job(shared.namespace, job)
    shared.plane.pods.wait(shared.namespace, pod, "CreateContainerConfigError", 'secret "nope" not found')
    assert 'secret "nope" not found; create' in shared.wait_ready("BackupLocation", "no-secret", "ConfigurationMissing")
    shared.wait_ready("BackupLocation", "no-secret", "InitFailed", timeout=60)
    assert shared.status("BackupLocation", "no-secret")["initErrorMessage"] == 'secret "nope" not found'
    shared.recorded(job)
    assert shared.events("no-secret") == [("Error", "InitFailed", 'secret "nope" not found')]
    shared.finish(shared.next_job("no-secret", Operation.INIT, after=1, timeout=60), report(Operation.INIT))
    shared.wait_ready("BackupLocation", "no-secret", "InitSucceeded")


def test_a_location_that_policies_name_stays_and_says_why(shared: Kubedr) -> None:
    shared.scheduled("holder")
    shared.kubectl("delete", "bl", "holder-loc", "--wait=false")
    assert "holder" in shared.wait_ready("BackupLocation", "holder-loc", "DeletionBlocked")
    shared.kubectl("delete", "mbp", "holder")
    shared.wait_for(lambda: shared.gone("BackupLocation", "holder-loc"), "the location to go")
    assert 'kubedr_location_ready{locationName="holder-loc"}' not in shared.metrics()
