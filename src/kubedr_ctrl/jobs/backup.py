"""The CronJob that a MetadataBackupPolicy owns.

Its pods run on a control-plane node's network, as etcd often listens on the loopback address only, and read
the certificates from the node. Backups go on while the controller is away: all that a backup needs stands in
the CronJob.
"""

import json

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import (
    API_VERSION,
    APP,
    APP_LABEL,
    MANAGED_BY_LABEL,
    SPEC_HASH_ANNOTATION,
    cronjob_name,
    digest,
)
from kubedr_ctrl.api.policy import MASTER_NODE_LABEL_OPTION, MetadataBackupPolicy
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.api.task import CERTIFICATES_DIR, DATA_DIR, BackupTask, SecretEnv
from kubedr_ctrl.jobs.template import (
    Manifest,
    Pod,
    WorkerSetup,
    job_metadata,
    job_spec,
    owner_reference,
    secret_env,
)

CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
"""How the nodes that run etcd are labelled: today, and before Kubernetes 1.20."""
CONTROL_PLANE_TAINTS = (
    "CriticalAddonsOnly",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/etcd",
    "node-role.kubernetes.io/master",
)
"""Taints by which distributions evict from their control-plane nodes what does not tolerate them."""
UNSEEN_JOBS = 100
"""How many ended Jobs the CronJob itself keeps: only of matter while no controller is there to see them."""


def backup_cronjob(
    policy: MetadataBackupPolicy, location: BackupLocation, cluster: str, setup: WorkerSetup
) -> Manifest:
    """Return the CronJob as the policy wants it, with a hash of itself by which an edit is noticed."""
    meta, spec = policy.metadata, policy.spec
    manifest: Manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": cronjob_name(meta.name),
            "labels": {APP_LABEL: APP, MANAGED_BY_LABEL: "kubedr-controller"},
            "ownerReferences": [owner_reference(MetadataBackupPolicy.NAMES.kind, API_VERSION, meta.name, meta.uid)],
        },
        "spec": {
            "schedule": spec.schedule,
            **({"timeZone": spec.time_zone} if spec.time_zone else {}),
            "suspend": spec.suspend,
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": UNSEEN_JOBS,
            "failedJobsHistoryLimit": UNSEEN_JOBS,
            "jobTemplate": {
                "metadata": job_metadata(Operation.BACKUP, meta, location),
                "spec": job_spec(_pod(policy, location, cluster), setup, Operation.BACKUP),
            },
        },
    }
    text = json.dumps(manifest, sort_keys=True)
    manifest["metadata"]["annotations"] = {SPEC_HASH_ANNOTATION: digest(text, length=16)}
    return manifest


def _pod(policy: MetadataBackupPolicy, location: BackupLocation, cluster: str) -> Pod:
    spec = policy.spec
    node_labels = _node_labels(spec.options)
    task = BackupTask(
        repository=location.spec.repository,
        timeout_seconds=spec.timeout_seconds,
        policy=policy.metadata.name,
        cluster=cluster,
        etcd_endpoints=spec.endpoints,
    )
    volumes: list[Manifest] = [{"name": "data", "emptyDir": {}}]
    mounts: list[Manifest] = [{"name": "data", "mountPath": DATA_DIR}]
    if spec.certs_dir:
        volumes.append({"name": "certificates", "hostPath": {"path": spec.certs_dir, "type": "Directory"}})
        mounts.append({"name": "certificates", "mountPath": CERTIFICATES_DIR, "readOnly": True})
    return Pod(
        task,
        location.spec,
        as_root=True,
        resources={name: amounts for name, amounts in spec.resources if amounts} if spec.resources else {},
        env=[
            secret_env(SecretEnv.ETCD_CA, spec.etcd_creds, "ca.crt"),
            secret_env(SecretEnv.ETCD_CERT, spec.etcd_creds, "client.crt"),
            secret_env(SecretEnv.ETCD_KEY, spec.etcd_creds, "client.key"),
        ],
        volumes=volumes,
        mounts=mounts,
        tolerations=[
            {"operator": "Exists", "effect": "NoSchedule"},
            *({"key": key, "operator": "Exists", "effect": "NoExecute"} for key in CONTROL_PLANE_TAINTS),
        ],
        spec={
            "hostNetwork": True,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": label, "operator": "Exists"}]} for label in node_labels
                        ]
                    }
                }
            },
        },
    )


def _node_labels(options: dict[str, str]) -> tuple[str, ...]:
    label = options.get(MASTER_NODE_LABEL_OPTION, "")
    return (label,) if label else CONTROL_PLANE_LABELS
