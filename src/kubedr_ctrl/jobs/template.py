"""What the Jobs of all operations have in common: labels, the pod, where secrets come from.

The pod has no API token, a read-only root and no capabilities. It runs as root only where it must read keys
that belong to root or write into a volume that does. Secrets come by environment from Secrets, so a Secret or
key that is missing shows in the pod's status in the kubelet's own words, and the controller needs no access
to Secrets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.location import BackupLocation, BackupLocationSpec, CaBundle
from kubedr_ctrl.api.meta import ObjectMeta
from kubedr_ctrl.api.names import (
    APP,
    APP_LABEL,
    COMPONENT_LABEL,
    JOB_FINALIZER,
    LOCATION_ANNOTATION,
    MANAGED_BY_LABEL,
    OPERATION_LABEL,
    OWNER_ANNOTATION,
    OWNER_UID_ANNOTATION,
    REPOSITORY_ANNOTATION,
    SNAPSHOTS_ANNOTATION,
)
from kubedr_ctrl.api.result import ExitCode, Operation
from kubedr_ctrl.api.task import (
    CA_BUNDLE_PATH,
    JOB_UID_ENV,
    BackupTask,
    ForgetTask,
    InitTask,
    RestoreTask,
    SecretEnv,
)

Manifest = dict[str, Any]

CONTAINER = "worker"
DEADLINE_SLACK = 300
"""Seconds that a Job has beyond the worker's own time limit, for its pod to be scheduled and started."""
NODE_GONE_SECONDS = 30
"""How long a pod outlives the loss of its node."""


class PodDefaults(Model):
    """What an installation gives the pods of all Jobs, in Kubernetes' own words."""

    model_config = ConfigDict(extra="forbid")

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resources: dict[str, Any] = {}
    node_selector: dict[str, str] = {}
    """For all but backups, which have to run on a control-plane node."""
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class_name: str = ""


@dataclass(frozen=True)
class WorkerSetup:
    """What the workers of all Jobs have in common."""

    image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    """Environment variables that name proxies on the way to S3."""
    ca_bundle: CaBundle | None = None
    """Certificates for S3 endpoints whose BackupLocation names none."""
    pods: PodDefaults = PodDefaults()


@dataclass(frozen=True)
class Pod:
    """What one operation's pod needs beyond what all have."""

    task: InitTask | BackupTask | RestoreTask | ForgetTask
    location: BackupLocationSpec
    as_root: bool = False
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Of the container, in the place of the installation's."""
    env: Sequence[Manifest] = ()
    volumes: Sequence[Manifest] = ()
    mounts: Sequence[Manifest] = ()
    tolerations: Sequence[Manifest] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the pod's spec, such as hostNetwork and affinity."""


def labels(operation: Operation) -> dict[str, str]:
    """Return the labels of an operation's Jobs and Pods, by which the controller watches them."""
    return {
        APP_LABEL: APP,
        COMPONENT_LABEL: "worker",
        MANAGED_BY_LABEL: "kubedr-controller",
        OPERATION_LABEL: operation.value,
    }


def job_metadata(
    operation: Operation, owner: ObjectMeta, location: BackupLocation, snapshots: Sequence[str] = ()
) -> Manifest:
    """Return the labels and annotations of an operation's Jobs."""
    annotations = {
        OWNER_ANNOTATION: owner.name,
        OWNER_UID_ANNOTATION: owner.uid,
        LOCATION_ANNOTATION: location.metadata.name,
        REPOSITORY_ANNOTATION: location.spec.repository.address,
    }
    if snapshots:
        annotations[SNAPSHOTS_ANNOTATION] = ",".join(snapshots)
    return {"labels": labels(operation), "annotations": annotations}


def job(name: str, metadata: Manifest, spec: Manifest, owner: Manifest) -> Manifest:
    """Return a Job that the controller itself creates; it carries our finalizer from the start."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "name": name, "finalizers": [JOB_FINALIZER], "ownerReferences": [owner]},
        "spec": spec,
    }


def owner_reference(kind: str, api_version: str, name: str, uid: str) -> Manifest:
    """Return the reference that has an object deleted with its owner."""
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def job_spec(pod: Pod, setup: WorkerSetup, operation: Operation) -> Manifest:
    """Return the Job's spec: two tries at most, one if the worker itself says that it failed for good."""
    return {
        "activeDeadlineSeconds": int(pod.task.timeout_seconds) + DEADLINE_SLACK,
        "backoffLimit": 1,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [ExitCode.FAILED.value]},
                },
            ]
        },
        "template": {
            "metadata": {
                "labels": {**setup.pods.labels, **labels(operation)},
                **({"annotations": setup.pods.annotations} if setup.pods.annotations else {}),
            },
            "spec": {**_pod_spec(pod, setup), **pod.spec},
        },
    }


def _pod_spec(pod: Pod, setup: WorkerSetup) -> Manifest:
    ca_volumes, ca_mounts = _ca_bundle(pod.location.ca_bundle or setup.ca_bundle)
    defaults = setup.pods
    optional: Manifest = {"priorityClassName": defaults.priority_class_name}
    if "affinity" not in pod.spec:
        optional["nodeSelector"] = defaults.node_selector
    identity = {"runAsUser": 0, "runAsNonRoot": False} if pod.as_root else {"runAsUser": 65532, "runAsNonRoot": True}
    return {
        **{name: value for name, value in optional.items() if value},
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "imagePullSecrets": [{"name": name} for name in setup.pull_secrets],
        "tolerations": [
            *(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_GONE_SECONDS}
                for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            ),
            *pod.tolerations,
            *defaults.tolerations,
        ],
        "containers": [
            {
                "name": CONTAINER,
                "image": setup.image,
                "imagePullPolicy": setup.pull_policy,
                "command": ["kubedr-worker"],
                "args": [pod.task.model_dump_json(by_alias=True)],
                "env": [
                    {
                        "name": JOB_UID_ENV,
                        "valueFrom": {
                            "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}
                        },
                    },
                    secret_env(SecretEnv.ACCESS_KEY, pod.location.credentials, "access_key"),
                    secret_env(SecretEnv.SECRET_KEY, pod.location.credentials, "secret_key"),
                    secret_env(SecretEnv.PASSWORD, pod.location.credentials, "restic_repo_password"),
                    *({"name": name, "value": value} for name, value in setup.proxies),
                    *pod.env,
                ],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *ca_mounts, *pod.mounts],  # noqa: S108
                "resources": dict(pod.resources or defaults.resources),
                "securityContext": {
                    **identity,
                    "readOnlyRootFilesystem": True,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}, *ca_volumes, *pod.volumes],
    }


def secret_env(variable: SecretEnv, secret: str, key: str) -> Manifest:
    """Return an environment variable whose value is a Secret's key."""
    return {"name": variable.value, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _ca_bundle(bundle: CaBundle | None) -> tuple[list[Manifest], list[Manifest]]:
    if bundle is None:
        return [], []
    directory, _, file = CA_BUNDLE_PATH.rpartition("/")
    selector = bundle.config_map or bundle.secret
    source: Manifest
    if bundle.config_map is not None:
        source = {"configMap": {"name": bundle.config_map.name}}
    else:
        source = {"secret": {"secretName": bundle.secret.name if bundle.secret else ""}}
    (volume,) = source.values()
    volume["items"] = [{"key": selector.key if selector else "", "path": file}]
    return [{"name": "ca", **source}], [{"name": "ca", "mountPath": directory, "readOnly": True}]
