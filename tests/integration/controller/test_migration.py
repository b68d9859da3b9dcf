"""docs/migration.md, step by step, on an API server that has what the original KubeDR left there."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from kubedr_ctrl.api.result import Operation
from tests.chart.helm import CHART, helm
from tests.pages import blocks
from tests.servers.apiserver import ControlPlane, control_plane
from tests.servers.kubedr import MANIFESTS, Kubedr, report
from tests.servers.process import BINARIES, binary

GROUP = "kubedr.catalogicsoftware.com"
API_VERSION = f"{GROUP}/v1alpha1"
KINDS = {
    "backuplocations": "BackupLocation",
    "metadatabackuppolicies": "MetadataBackupPolicy",
    "metadatabackuprecords": "MetadataBackupRecord",
    "metadatarestores": "MetadataRestore",
}
STEPS = blocks("migration.md", "sh")

Object = dict[str, Any]


def definition(plural: str, kind: str) -> Object:
    """The CRD as an API server keeps it that was upgraded since: v1beta1 had fields that v1 does not let one create."""
    schema = {"type": "object", "properties": {"spec": {"type": "object"}, "status": {"type": "object"}}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "uid": str(uuid4()), "creationTimestamp": "2020-01-30T16:00:00Z"},
        "spec": {
            "group": GROUP,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "preserveUnknownFields": True,
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
        "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": ["v1alpha1"]},
    }


def resource(kind: str, name: str, spec: Object, finalizer: str) -> Object:
    metadata = {"name": name, "finalizers": [f"{finalizer}.finalizers.{GROUP}"]}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


PLACE = {"url": "http://10.106.189.174:9000", "bucketName": "testbucket62", "credentials": "minio-creds"}
LOCATION = resource("BackupLocation", "local-minio", PLACE, "backuplocation")
INITIALIZED = {"initStatus": "Completed", "initErrorMessage": "", "initTime": "Thu Jan 30 16:05:56 2020"}
POLICY = resource(
    "MetadataBackupPolicy",
    "test-backup",
    {
        "destination": "local-minio",
        "certsDir": "/etc/kubernetes/pki",
        "etcdEndpoint": "https://127.0.0.1:2379",
        "etcdCreds": "etcd-creds",
        "schedule": "*/10 * * * *",
        "options": {"master-node-label-name": "node-role.kubernetes.io/master"},
        "retainNumBackups": 80,
        "suspend": False,
    },
    "metadata-backup-policy",
)
RECORD = resource(
    "MetadataBackupRecord",
    "mbr-4c1223d6",
    {"snapshotId": "4c1223d6", "policy": "test-backup", "backuploc": "local-minio"},
    "mbr",
)
CRONJOB: Object = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "test-backup-backup-cronjob", "labels": {"kubedr.type": "backup"}},
    "spec": {
        "schedule": "0 0 1 1 *",
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "test-backup-kcx-backup", "image": "kubedrutil:0.2.11"}],
                    }
                }
            }
        },
    },
}


def webhook(kind: str, name: str) -> Object:
    """As the original's: called for each change, and nobody is there to answer."""
    hook = {
        "name": f"{name}.kb.io",
        "admissionReviewVersions": ["v1beta1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "clientConfig": {"service": {"name": "kubedr-webhook-service", "namespace": "kubedr-system", "path": "/"}},
        "rules": [
            {
                "apiGroups": [GROUP],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["backuplocations", "metadatabackuppolicies"],
            }
        ],
    }
    api_version = "admissionregistration.k8s.io/v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "webhooks": [hook]}


@pytest.fixture(name="upgraded")
def _upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the original's definitions."""
    with control_plane(tmp_path_factory.mktemp("migration")) as plane:
        etcd = plane.etcd
        flags = [f"--endpoints={etcd.endpoint}", f"--cacert={etcd.authority.certificate}"]
        flags += [f"--cert={etcd.client.certificate}", f"--key={etcd.client.key}"]
        for plural, kind in KINDS.items():
            key = f"/registry/apiextensions.k8s.io/customresourcedefinitions/{plural}.{GROUP}"
            value = json.dumps(definition(plural, kind))
            subprocess.run([binary("etcdctl"), *flags, "put", key], input=value, text=True, check=True)
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield plane


@pytest.fixture
def original(upgraded: ControlPlane) -> ControlPlane:
    """What the original made in its namespace, and the cluster-wide rights it had."""
    upgraded.kubectl("create", "namespace", "kubedr-system")
    upgraded.kubectl("-n", "kubedr-system", "apply", "-f", "-", stdin=yaml.safe_dump_all([LOCATION, POLICY, RECORD]))
    status = json.dumps({"status": INITIALIZED})
    path = f"/apis/{API_VERSION}/namespaces/kubedr-system/backuplocations/local-minio/status"
    upgraded.request("PATCH", path, json.loads(status), content_type="application/merge-patch+json")
    hooks = [
        webhook("MutatingWebhookConfiguration", "kubedr-mutating-webhook-configuration"),
        webhook("ValidatingWebhookConfiguration", "kubedr-validating-webhook-configuration"),
    ]
    upgraded.kubectl("-n", "kubedr-system", "apply", "-f", "-", stdin=yaml.safe_dump_all([*hooks, CRONJOB]))
    for command in (
        "deployment kubedr-controller-manager --image=kubedr",
        "role kubedr-leader-election-role --verb=get --resource=configmaps",
        "rolebinding kubedr-leader-election-rolebinding --role=x --serviceaccount=kubedr-system:default",
        "clusterrole kubedr-manager-role --verb=get --resource=pods",
        "clusterrole kubedr-proxy-role --verb=create --resource=tokenreviews.authentication.k8s.io",
        "clusterrolebinding kubedr-manager-rolebinding --clusterrole=x --serviceaccount=kubedr-system:default",
        "clusterrolebinding kubedr-proxy-rolebinding --clusterrole=x --serviceaccount=kubedr-system:default",
        "service clusterip kubedr-webhook-service --tcp=443",
        "service clusterip kubedr-controller-manager-metrics-service --tcp=8443",
    ):
        upgraded.kubectl("-n", "kubedr-system", "create", *command.split())
    return upgraded


def run(plane: ControlPlane, directory: Path, script: str) -> str:
    """Run a block of the page as somebody who copies it."""
    environment = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}", "KUBECONFIG": str(plane.kubeconfig)}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={**environment, "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_page_is_right_that_one_does_not_install_over_the_original(original: ControlPlane, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="preserveUnknownFields: Invalid value: true"):
        original.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    with pytest.raises(RuntimeError, match="cannot be imported into the current release"):
        helm("install", "kubedr", CHART, "--namespace=kubedr-system", f"--kubeconfig={original.kubeconfig}")
    with pytest.raises(RuntimeError, match="failed calling webhook"):
        original.kubectl("-n", "kubedr-system", "label", "backuplocation", "local-minio", "a=b")
    run(original, tmp_path, STEPS[0])
    original.kubectl("-n", "kubedr-system", "label", "backuplocation", "local-minio", "a=b")

    for plural in KINDS:
        patch = '{"spec":{"preserveUnknownFields":false}}'
        original.kubectl("patch", "crd", f"{plural}.{GROUP}", "--type=merge", f"--patch={patch}")
    original.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    kubedr = Kubedr(original, "kubedr-system", tmp_path)
    try:
        kubedr.start()
        kubedr.wait_ready("MetadataBackupPolicy", "test-backup", "LocationNotReady")
        kubedr.initialized("other")
        patch = '{"spec":{"destination":"other"}}'
        kubedr.kubectl("patch", "metadatabackuppolicy", "test-backup", "--type=merge", f"--patch={patch}")
        kubedr.wait_ready("MetadataBackupPolicy", "test-backup", "Scheduled")
        assert containers(kubedr) == {"worker"}
    finally:
        kubedr.stop_all()


def containers(kubedr: Kubedr) -> set[str]:
    cronjob = json.loads(kubedr.kubectl("get", "cronjob", "test-backup-backup-cronjob", "-o", "json"))
    return {item["name"] for item in cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]}


def test_the_steps_of_the_page_move_everything(original: ControlPlane, tmp_path: Path) -> None:
    stop, write_down, remove, rights, apply, wait = STEPS
    for step in (stop, write_down, remove, rights):
        run(original, tmp_path, step)

    left = original.kubectl("get", "all,roles,rolebindings", "-n", "kubedr-system", "-o", "name", "--ignore-not-found")
    assert left == ""
    everywhere = original.kubectl(
        "get", "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,crds",
        "-o", "name",
    )  # fmt: skip
    assert "kubedr" not in everywhere

    original.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    original.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    kubedr = Kubedr(original, "kubedr-system", tmp_path)
    try:
        kubedr.start()
        run(original, tmp_path, apply)
        job = kubedr.next_job("local-minio", Operation.INIT)
        task = json.loads(kubedr.get("Job", job)["spec"]["template"]["spec"]["containers"][0]["args"][0])
        assert task["adopt"] is True
        kubedr.finish(job, report(Operation.INIT))
        run(original, tmp_path, wait)

        assert kubedr.get("BackupLocation", "local-minio")["spec"].items() >= PLACE.items()
        assert kubedr.get("MetadataBackupPolicy", "test-backup")["spec"].items() >= POLICY["spec"].items()
        assert kubedr.get("MetadataBackupRecord", "mbr-4c1223d6")["spec"] == RECORD["spec"]
        assert containers(kubedr) == {"worker"}

        kubedr.apply(kubedr.restore("mrtest", "mbr-4c1223d6"))
        job = kubedr.next_job("mrtest", Operation.RESTORE)
        task = json.loads(kubedr.get("Job", job)["spec"]["template"]["spec"]["containers"][0]["args"][0])
        assert task["snapshotId"] == "4c1223d6"
    finally:
        kubedr.stop_all()


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("MetadataBackupPolicy", "test-backup", {"retainNumBackups": 0}),
        ("MetadataBackupPolicy", "test-backup", {"etcdEndpoint": ""}),
        ("MetadataBackupPolicy", "test-backup", {"etcdCreds": ""}),
        ("MetadataBackupPolicy", "test-backup", {"schedule": "TZ=UTC 0 3 * * *"}),
        ("MetadataBackupPolicy", "p" * 38, {}),
    ],
)
def test_what_the_page_says_is_refused_is(
    plane: ControlPlane, namespace: str, kind: str, name: str, change: Object
) -> None:
    document = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**POLICY["spec"], **change},
    }
    with pytest.raises(RuntimeError, match="is invalid"):
        plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump(document))
