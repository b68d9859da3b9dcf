"""docs/security.md: its tables are those of what is installed and of what the controller starts."""

import re
from typing import Any

import pytest

from kubedr_ctrl import __version__
from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.names import GROUP
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.api.record import MetadataBackupRecord
from kubedr_ctrl.api.restore import MetadataRestore
from kubedr_ctrl.jobs.backup import backup_cronjob
from kubedr_ctrl.jobs.forget import forget_job
from kubedr_ctrl.jobs.init import init_job
from kubedr_ctrl.jobs.restore import restore_job
from kubedr_ctrl.jobs.template import WorkerSetup
from tests.chart.helm import ROOT, Object, hooks, only, render
from tests.chart.test_rendering import EVERYTHING
from tests.pages import rows
from tests.servers.apiserver import ApiError, ControlPlane

LEVELS = ("restricted", "baseline", "privileged")
GROUPS = {"": "core", GROUP: "ours"}
SECRETS = {
    "minio-creds/access_key": "S3",
    "minio-creds/restic_repo_password": "restic",
    "etcd-creds/client.key": "etcd",
}
PAGE = "security.md"


def rules(objects: list[Object]) -> list[tuple[str, ...]]:
    """What is granted, as the table writes it: role, API group, resources, verbs."""
    granted = []
    roles = [item for item in objects if item["kind"] in ("Role", "ClusterRole")]
    for role in roles:
        for rule in role["rules"]:
            resources = ", ".join(f"`{name}`" for name in rule.get("resources", rule.get("nonResourceURLs")))
            names = ", ".join(f"`{name}`" for name in rule.get("resourceNames", ()))
            (group,) = rule.get("apiGroups", [None])
            granted.append(
                (
                    f"`{role['metadata']['name']}`",
                    "" if group is None else GROUPS.get(group, group),
                    resources + (f" named {names}" if names else ""),
                    ", ".join(rule["verbs"]),
                )
            )
    ours = {role["metadata"]["name"] for role in roles}
    bindings = [item for item in objects if item["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    others = {binding["roleRef"]["name"] for binding in bindings} - ours
    return [*granted, *((f"`{name}`", "", "Kubernetes' own", "") for name in sorted(others))]


def test_the_table_has_each_permission_and_no_other() -> None:
    table = [tuple(row[:4]) for row in rows(PAGE, "role")]
    assert sorted(table) == sorted(rules([*render(EVERYTHING), *hooks(EVERYTHING)]))
    assert all(row[4] for row in rows(PAGE, "role"))


def test_without_authentication_of_metrics_nothing_is_granted_cluster_wide() -> None:
    kinds = {item["kind"] for item in [*render(), *hooks()]}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding"}


def test_what_the_page_says_is_not_granted_is_not() -> None:
    for _, _, resources, verbs in rules([*render(EVERYTHING), *hooks(EVERYTHING)]):
        names = set(re.findall(r"`([^`]+)`", resources))
        assert not names & {"*", "secrets", "configmaps", "pods/exec", "pods/log"}
        assert "*" not in verbs
        assert "pods" not in names or verbs == "get, list, watch"


def jobs() -> dict[str, Object]:
    """The pod template of each operation."""
    place = {"url": "https://s3.example.com", "bucketName": "bucket", "credentials": "minio-creds"}
    location = BackupLocation.model_validate({"metadata": {"name": "loc", "uid": "l"}, "spec": place})
    wanted = {"destination": "loc", "schedule": "@daily", "certsDir": "/etc/kubernetes/pki"}
    policy = MetadataBackupPolicy.model_validate({"metadata": {"name": "nightly", "uid": "p"}, "spec": wanted})
    snapshot = {"snapshotId": "4c1223d6", "policy": "nightly", "backuploc": "loc"}
    record = MetadataBackupRecord.model_validate({"metadata": {"name": "mbr-4c1223d6"}, "spec": snapshot})
    target = {"mbrName": "mbr-4c1223d6", "pvcName": "restored"}
    restore = MetadataRestore.model_validate({"metadata": {"name": "mr", "uid": "r"}, "spec": target})
    setup = WorkerSetup("kubedr:1")
    cronjob = backup_cronjob(policy, location, "cluster", setup)
    return {
        "init": init_job(location, setup, attempt="1")["spec"]["template"],
        "forget": forget_job(location, ["4c1223d6"], setup, attempt="1")["spec"]["template"],
        "restore": restore_job(restore, record, location, setup)["spec"]["template"],
        "backup": cronjob["spec"]["jobTemplate"]["spec"]["template"],
    }


def facts(pod: Object) -> dict[str, str]:
    """What the table says of a pod."""
    spec = pod["spec"]
    (container,) = spec["containers"]
    user = container["securityContext"]["runAsUser"]
    volumes = [volume for volume in spec["volumes"] if "emptyDir" not in volume]
    read_only = {mount["name"] for mount in container["volumeMounts"] if mount.get("readOnly")}
    hosts = [volume["name"] for volume in volumes if "hostPath" in volume]
    assert read_only >= set(hosts)
    references = [entry.get("valueFrom", {}).get("secretKeyRef") for entry in container["env"]]
    keys = [f"{reference['name']}/{reference['key']}" for reference in references if reference]
    forgiven = {taint["effect"] for taint in spec["tolerations"] if "tolerationSeconds" not in taint}
    return {
        "user": "root" if user == 0 else str(user),
        "network": "the node's" if spec.get("hostNetwork") else "its own",
        "the node's files": "`certsDir`, read-only" if hosts else "none",
        "volumes": "`pvcName`" if any("persistentVolumeClaim" in volume for volume in volumes) else "none",
        "secrets": ", ".join(SECRETS[key] for key in keys if key in SECRETS),
        "tolerates taints": "all of `NoSchedule`, and those of control-plane nodes" if forgiven else "no",
    }


def test_the_table_of_job_pods_is_theirs() -> None:
    told = {name: facts(pod) for name, pod in jobs().items()}
    table = rows(PAGE, "job pod")
    assert {row[0]: dict(zip(told, row[1:], strict=True)) for row in table} == {
        fact: {name: told[name][fact] for name in told} for fact in told["init"]
    }


@pytest.mark.parametrize("pod", jobs().values(), ids=jobs())
def test_what_the_page_says_of_all_job_pods_holds(pod: Object) -> None:
    spec = pod["spec"]
    security = spec["containers"][0]["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True


def pods() -> dict[str, Object]:
    """All pods that KubeDR ever has."""
    return {
        "controller": only("Deployment", render(EVERYTHING))["spec"]["template"],
        "`kubedr-check`": only("Pod", hooks(EVERYTHING)),
        "`kubedr-resources`": only("Job", hooks(EVERYTHING))["spec"]["template"],
        **jobs(),
    }


def admitted(plane: ControlPlane, pod: Object, level: str) -> bool:
    """Ask the API server whether a namespace of that level admits the pod."""
    # Other plugins ask for ServiceAccounts and PriorityClasses, which have no bearing on this.
    spec = {key: value for key, value in pod["spec"].items() if key not in ("serviceAccountName", "priorityClassName")}
    body = {"metadata": {"name": "tried"}, "spec": spec}
    with plane.namespace() as namespace:
        labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}
        plane.request("PATCH", f"/api/v1/namespaces/{namespace}", labels, content_type="application/merge-patch+json")
        try:
            plane.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body)
        except ApiError as error:
            if "violates PodSecurity" not in str(error):
                raise
            return False
    return True


@pytest.mark.parametrize(("name", "pod"), pods().items(), ids=pods())
def test_each_pod_is_admitted_by_the_level_that_the_page_says_and_by_no_stricter_one(
    control_plane: ControlPlane, name: str, pod: Object
) -> None:
    stated = {row[0]: row[1] for row in rows(PAGE, "pod")}
    assert stated.keys() == pods().keys()
    strictest = next(level for level in LEVELS if admitted(control_plane, pod, level))
    assert strictest == stated[name]


def test_what_the_page_says_of_the_image_holds() -> None:
    containerfile = (ROOT / "Containerfile").read_text()
    assert re.search(r"^ARG BASE=[^@\n]+$", containerfile, re.MULTILINE)
    assert containerfile.count("--require-hashes") == 2
    assert "--only-binary :all: --no-binary quantile-python" in containerfile
    assert "--no-build-isolation" in containerfile
    assert "\nRUN" not in containerfile.partition("\nFROM scratch\n")[2]
    for locked in ("runtime", "image"):
        requirements: list[Any] = re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{locked}.txt").read_text())
        packages = [requirement for requirement in requirements if "==" in requirement]
        assert len(packages) > 10
        assert all("--hash=sha256:" in package for package in packages)


def test_the_image_says_which_version_it_is() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in (ROOT / "Containerfile").read_text()
