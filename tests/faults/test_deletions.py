"""Jobs that Kubernetes itself deletes before their outcome is recorded: it is recorded all the same."""

import signal

from kubedr_ctrl.api.names import JOB_FINALIZER
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.resources import CRONJOBS, JOBS
from tests.servers.kubedr import Kubedr, Object, report


def guarded(kubedr: Kubedr, policy: str) -> str:
    """Begin a backup, and kill the controller as soon as the Job carries its finalizer; return the Job's name."""
    kubedr.start()
    kubedr.scheduled(policy)
    job = kubedr.backup_now(policy, f"{policy}-now")
    kubedr.wait_for(lambda: JOB_FINALIZER in kubedr.get("Job", job)["metadata"].get("finalizers", []), "the finalizer")
    kubedr.stop(signal.SIGKILL)
    return job


def patch(kubedr: Kubedr, path: str, spec: Object) -> None:
    kubedr.plane.request("PATCH", path, {"spec": spec}, content_type="application/merge-patch+json")


def recorded_once(kubedr: Kubedr, policy: str, job: str) -> tuple[str, str]:
    """Start the controller once the Job is being deleted; return reason and message of the one event."""
    kubedr.wait_for(lambda: "deletionTimestamp" in kubedr.get("Job", job)["metadata"], "the Job to be deleted")
    kubedr.start()
    kubedr.wait_for(lambda: kubedr.gone("Job", job), "the Job to go")
    ((_, reason, message),) = kubedr.events(policy)
    status = kubedr.status("MetadataBackupPolicy", policy)
    good = reason == "BackupSucceeded"
    assert status["backupStatus"] == ("Completed" if good else "Failed")
    assert (status["totals"]["backups"], status["totals"]["successful"]) == (1, good)
    shown = f'kubedr_num_backups{{policyName="{policy}"}}'
    kubedr.wait_for(lambda: kubedr.metrics()[shown] == 1, "the metric")
    return reason, message


def test_a_job_whose_time_to_live_is_over(kubedr: Kubedr) -> None:
    job = guarded(kubedr, "short-lived")
    patch(kubedr, f"{JOBS.path(kubedr.namespace)}/{job}", {"ttlSecondsAfterFinished": 0})
    kubedr.finish(job, report(Operation.BACKUP))
    reason, message = recorded_once(kubedr, "short-lived", job)
    # Kubernetes deletes the pods, and the report with them, before such a Job: what can still be told is where to look.
    assert (reason, "it carries the tag job=" in message) == ("BackupFailed", True)


def test_a_job_that_its_cronjob_keeps_no_longer(kubedr: Kubedr) -> None:
    job = guarded(kubedr, "crowded")
    patch(kubedr, f"{CRONJOBS.path(kubedr.namespace)}/crowded-backup-cronjob", {"successfulJobsHistoryLimit": 0})
    kubedr.finish(job, report(Operation.BACKUP))
    assert recorded_once(kubedr, "crowded", job)[0] == "BackupSucceeded"
