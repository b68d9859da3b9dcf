"""Names that others rely on: the API group, labels, annotations, finalizers, derived names."""

import hashlib

GROUP = "kubedr.catalogicsoftware.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

APP_LABEL = "app.kubernetes.io/name"
APP = "kubedr"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

OPERATION_LABEL = f"{GROUP}/operation"
"""On Jobs and their Pods: which of `api.result.Operation` it is."""
OWNER_ANNOTATION = f"{GROUP}/owner"
"""On Jobs: the name of the resource that the Job works for; its kind follows from the operation."""
OWNER_UID_ANNOTATION = f"{GROUP}/owner-uid"
"""On Jobs: that resource's UID, so that a namesake created later is not taken for it."""
RESULT_ANNOTATION = f"{GROUP}/result"
"""On Jobs that ended: the one Result that status, event and metric tell, until they all have."""
RESULT_POD_ANNOTATION = f"{GROUP}/result-pod"
"""On Jobs that ended: the pod that the Result came from."""
COUNTED_ANNOTATION = f"{GROUP}/counted"
"""On Jobs: that the owner's status includes the Result, where its `recorded` has no room to say so."""
RECORDED_ANNOTATION = f"{GROUP}/recorded"
"""On Jobs: the outcome, once it stands in status and event."""
DIAGNOSIS_ANNOTATION = f"{GROUP}/diagnosis"
"""On Jobs that the controller ended: why, as `Reason: message`."""
SNAPSHOTS_ANNOTATION = f"{GROUP}/snapshots"
"""On Jobs that restore or forget: the snapshot IDs, separated by commas."""
LOCATION_ANNOTATION = f"{GROUP}/location"
"""On Jobs: the name of the BackupLocation that they work with."""
REPOSITORY_ANNOTATION = f"{GROUP}/repository"
"""On Jobs: the repository's address, as restic writes it."""
SPEC_HASH_ANNOTATION = f"{GROUP}/spec-hash"
"""On CronJobs: a hash of what was applied, so that an edit of the policy is told from an edit by hand."""

SET_LABEL = f"{GROUP}/set"
"""On locations and policies that `kubedrctl apply` made: what they belong to."""

LEASE = "kubedr-controller"
"""The Lease of the controller that leads."""

JOB_FINALIZER = f"{GROUP}/result"
RECORD_FINALIZER = f"mbr.finalizers.{GROUP}"
LOCATION_FINALIZER = f"location.finalizers.{GROUP}"

CRONJOB_SUFFIX = "-backup-cronjob"
MAX_CRONJOB_NAME = 52
"""Kubernetes appends 11 characters to a CronJob's name to name its Jobs, which may have 63."""
MAX_POLICY_NAME = MAX_CRONJOB_NAME - len(CRONJOB_SUFFIX)


def cronjob_name(policy: str) -> str:
    """Return the name of the CronJob that `policy` owns."""
    return policy + CRONJOB_SUFFIX


def record_name(snapshot_id: str) -> str:
    """Return the name of the record of a snapshot."""
    return f"mbr-{snapshot_id}"


def digest(*parts: str, length: int = 8) -> str:
    """Return a short, stable hash of `parts`, fit for a name."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]


def job_stem(owner: str, operation: str, uid: str) -> str:
    """Return what the names of all Jobs of one operation for one owner begin with, at most 45 characters."""
    tail = f"-{operation}-{digest(uid, length=5)}"
    return owner[: 45 - len(tail)].rstrip("-.").replace(".", "-") + tail


def job_name(stem: str, *identity: str) -> str:
    """Return a Job's name: the same for the same `identity`, so that creating it twice makes one Job."""
    return f"{stem}-{digest(*identity)}"
