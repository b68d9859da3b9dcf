"""Each of the four kinds in each of its states, brought about with the real controller; pods are played."""

from datetime import UTC, datetime, timedelta

from kubedr_ctrl.api.names import API_VERSION
from kubedr_ctrl.api.result import Operation, Reason
from kubedr_ctrl.resources import POLICIES
from tests.servers.kubedr import Kubedr, Object, failure, install_kinds, loosen, report

SCHEDULE = "0 22 * * *" if datetime.now(UTC).hour < 12 else "0 10 * * *"
"""Some hours away, lest a CronJob runs while its policy is looked at."""
EXISTS = (
    "Fatal: create key in repository at s3:http://10.106.189.174:9000/testbucket62 failed: "
    "repository master key and config already initialized\n"
)
UNREACHABLE = "S3 at http://10.106.189.174:9000 did not answer within 10 s"
WRONG_KEY = (
    "subprocess.CalledProcessError: Command '['restic', '--json', '-r', 's3:http://10.106.189.174:9000/testbucket62', "
    "'--verbose', 'backup', '/data']' returned non-zero exit status 1. (Fatal: unable to open config file: Stat: The "
    "access key ID you provided does not exist in our records. Is there a repository at the following location? "
    "s3:http://10.106.189.174:9000/testbucket62)"
)
TIMEOUT = (
    "subprocess.CalledProcessError: Command '['restic', '-r', 's3:http://10.106.189.174:9000/testbucket62', "
    "'--verbose', 'restore', '--target', '/restore', '4c1223d6']' returned non-zero exit status 1. (Fatal: unable to "
    "open config file: Stat: Get http://10.106.189.174:9000/testbucket62/?location=: dial tcp 10.106.189.174:9000: "
    "i/o timeout Is there a repository at the following location? s3:http://10.106.189.174:9000/testbucket62)"
)
NO_VOLUME = '0/1 nodes are available: persistentvolumeclaim "no-volume" not found.'

STATES = {
    "BackupLocation": {
        "exists-already": "InitFailed",
        "in-use": "DeletionBlocked",
        "initializing": "Initializing",
        "ready": "InitSucceeded",
        "refused": "JobRejected",
        "secret-missing": "ConfigurationMissing",
        "unreachable": "InitFailed",
    },
    "MetadataBackupPolicy": {
        "cannot-start": "ConfigurationMissing",
        "completed": "BackupSucceeded",
        "failed": "BackupFailed",
        "holder": "Scheduled",
        "location-missing": "LocationNotFound",
        "location-waiting": "LocationNotReady",
        "overdue": "BackupOverdue",
        "refused": "CronJobRejected",
        "suspended": "Suspended",
        "unreadable": "Unreadable",
    },
    "MetadataBackupRecord": {
        "mbr-34abbf1b": "Available",
        "mbr-4c1223d6": "Available",
        "mbr-5bbc8b1a": "LocationNotFound",
        "mbr-b0f347ef": "Forgetting",
    },
    "MetadataRestore": {
        "completed": "RestoreSucceeded",
        "failed": "RestoreFailed",
        "location-missing": "LocationNotFound",
        "record-missing": "RecordNotFound",
        "refused": "RestoreFailed",
        "running": "Restoring",
        "volume-missing": "Unschedulable",
    },
}
"""By kind and name: the reason of the condition Ready."""


def bring_about(kubedr: Kubedr) -> None:
    """Bring about `STATES` and stop the controller, so that none of them passes."""
    _refuse_jobs(kubedr)
    _locations(kubedr)
    _policies(kubedr)
    _restores(kubedr)
    _deletions(kubedr)
    _stuck(kubedr)
    for kind, reasons in STATES.items():
        for name, reason in reasons.items():
            kubedr.wait_ready(kind, name, reason)
    kubedr.stop()


def _locations(kubedr: Kubedr) -> None:
    names = ("exists-already", "unreachable", "initializing", "in-use", "ready", "refused")
    kubedr.apply(*map(kubedr.location, names))
    ended = {
        "exists-already": failure(Operation.INIT, EXISTS, Reason.REPOSITORY_EXISTS),
        "unreachable": failure(Operation.INIT, UNREACHABLE, Reason.S3_UNREACHABLE),
        "in-use": report(Operation.INIT),
        "ready": report(Operation.INIT),
    }
    for name, message in ended.items():
        _end(kubedr, kubedr.next_job(name, Operation.INIT), message)


def _policies(kubedr: Kubedr) -> None:
    destinations = {"location-missing": "nowhere", "location-waiting": "initializing", "holder": "in-use"}
    names = ("cannot-start", "completed", "failed", "holder", "location-missing", "location-waiting", "overdue")
    kubedr.apply(*(_policy(kubedr, name, destinations.get(name, "ready")) for name in names))
    kubedr.apply(
        _policy(kubedr, "refused", "ready", schedule="99 * * * *"),
        _policy(kubedr, "suspended", "ready", suspend=True),
    )
    for name in ("holder", "cannot-start", "overdue"):
        kubedr.wait_ready("MetadataBackupPolicy", name, "Scheduled")
    _back_up(kubedr, "completed", "4c1223d6")
    _back_up(kubedr, "suspended", "b0f347ef")
    _back_up(kubedr, "failed", "34abbf1b")
    _end(kubedr, kubedr.backup_now("failed", "failed-2"), failure(Operation.BACKUP, WRONG_KEY))
    _set_back(kubedr, "overdue", timedelta(days=2))
    odd = _policy(kubedr, "unreadable", "ready", retainNumBackups="many")
    loosen(kubedr.plane, POLICIES, "retainNumBackups")
    try:
        kubedr.persist(lambda: kubedr.apply(odd), "the loosened schema to be in force")
        kubedr.wait_ready("MetadataBackupPolicy", "unreadable", "Unreadable")
    finally:
        install_kinds(kubedr.plane)


def _policy(kubedr: Kubedr, name: str, destination: str, **spec: object) -> Object:
    return kubedr.policy(name, destination, **{"schedule": SCHEDULE, "certsDir": "/etc/kubernetes/pki", **spec})


def _back_up(kubedr: Kubedr, policy: str, snapshot: str) -> None:
    kubedr.persist(lambda: kubedr.backup_now(policy, f"{policy}-1"), "the CronJob")
    _end(kubedr, f"{policy}-1", report(Operation.BACKUP, snapshot=snapshot))


def _set_back(kubedr: Kubedr, policy: str, by: timedelta) -> None:
    """Have the policy's schedule been in force for that long: the controller believes what stands in the status."""
    since = (datetime.now(UTC) - by).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = f"{POLICIES.path(kubedr.namespace, policy)}/status"
    status = {"status": {"activeSchedule": {"since": since}}}
    kubedr.plane.request("PATCH", path, status, content_type="application/merge-patch+json")


def _restores(kubedr: Kubedr) -> None:
    lost = {"snapshotId": "5bbc8b1a", "policy": "completed", "backuploc": "nowhere"}
    record = {"apiVersion": API_VERSION, "kind": "MetadataBackupRecord", "metadata": {"name": "mbr-5bbc8b1a"}}
    kubedr.apply(
        {**record, "spec": lost},
        kubedr.restore("record-missing", "mbr-7bbc8b1a"),
        kubedr.restore("location-missing", "mbr-5bbc8b1a"),
        kubedr.restore("volume-missing", "mbr-4c1223d6", "no-volume"),
        *(kubedr.restore(name, "mbr-4c1223d6") for name in ("running", "completed", "failed", "refused")),
    )
    _end(kubedr, kubedr.next_job("completed", Operation.RESTORE), report(Operation.RESTORE))
    _end(kubedr, kubedr.next_job("failed", Operation.RESTORE), failure(Operation.RESTORE, TIMEOUT))
    pods, namespace = kubedr.plane.pods, kubedr.namespace
    pods.run(namespace, pods.of_job(namespace, kubedr.next_job("running", Operation.RESTORE)))
    volumeless = pods.of_job(namespace, kubedr.next_job("volume-missing", Operation.RESTORE))
    pods.unschedulable(namespace, volumeless, NO_VOLUME)


def _deletions(kubedr: Kubedr) -> None:
    kubedr.kubectl("delete", "bl", "in-use", "--wait=false")
    kubedr.kubectl("delete", "mbr", "mbr-b0f347ef", "--wait=false")


def _stuck(kubedr: Kubedr) -> None:
    """Pods that do not start for want of a Secret: after half a minute their Jobs are ended."""
    kubedr.apply(kubedr.location("secret-missing"))
    jobs = {
        kubedr.next_job("secret-missing", Operation.INIT): "minio-creds",
        kubedr.backup_now("cannot-start", "cannot-start-1"): "etcd-creds",
    }
    for job, secret in jobs.items():
        pod = kubedr.plane.pods.of_job(kubedr.namespace, job)
        kubedr.plane.pods.wait(kubedr.namespace, pod, "CreateContainerConfigError", f'secret "{secret}" not found')


def _end(kubedr: Kubedr, job: str, message: str) -> None:
    """End the Job's pod with that report, and wait until status and event tell it."""
    kubedr.finish(job, message)
    kubedr.recorded(job)


def _refuse_jobs(kubedr: Kubedr) -> None:
    """Have the API server refuse Jobs for what is called `refused`, as a policy of the cluster's owner may."""
    name = "images-by-digest"
    group = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": kubedr.namespace}}}
    jobs = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    rule = {"expression": "!object.metadata.name.startsWith('refused-')", "message": "the image has no digest"}
    policy = {"matchConstraints": {"resourceRules": [jobs]}, "validations": [rule]}
    binding = {"policyName": name, "validationActions": ["Deny"], "matchResources": here}
    kubedr.apply(
        {**group, "kind": "ValidatingAdmissionPolicy", "spec": policy},
        {**group, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    )

    def in_force() -> bool:
        try:
            kubedr.kubectl("create", "job", "refused-probe", "--image=kubedr", "--dry-run=server")
        except RuntimeError as refused:
            return "digest" in str(refused)
        return False

    kubedr.wait_for(in_force, "Jobs to be refused")
