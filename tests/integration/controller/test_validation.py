"""What `kubectl apply` itself refuses, and with which words; and what it must go on accepting."""

import json
from typing import Any

import pytest
import yaml

from tests.servers.apiserver import ControlPlane

API_VERSION = "kubedr.catalogicsoftware.com/v1alpha1"
LOCATION = {"url": "http://s3.example.com:9000", "bucketName": "kubedr", "credentials": "minio-creds"}
POLICY = {"destination": "local-minio", "schedule": "*/10 * * * *"}
RECORD = {"snapshotId": "b0f347ef", "policy": "test-backup", "backuploc": "local-minio"}
RESTORE = {"mbrName": "mbr-b0f347ef", "pvcName": "mrtest"}

# As the original KubeDR's user guide has them.
ORIGINAL = """
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: BackupLocation
metadata:
  name: local-minio
spec:
  url: http://10.106.189.174:9000
  bucketName: testbucket62
  credentials: minio-creds
---
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: MetadataBackupPolicy
metadata:
  name: test-backup
spec:
  destination: local-minio
  certsDir: /etc/kubernetes/pki
  etcdEndpoint: https://127.0.0.1:2379
  etcdCreds: etcd-creds
  schedule: "*/1 * * * *"
  retainNumBackups: 80
  options:
    master-node-label-name: node-role.kubernetes.io/master
---
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: MetadataBackupRecord
metadata:
  name: mbr-4c1223d6
  finalizers: [mbr.finalizers.kubedr.catalogicsoftware.com]
spec:
  snapshotId: 4c1223d6
  policy: test-backup
  backuploc: local-minio
---
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: MetadataRestore
metadata:
  name: mrtest
spec:
  mbrName: mbr-4c1223d6
  pvcName: mrtest-pvc
"""


def apply(plane: ControlPlane, namespace: str, kind: str, spec: dict[str, Any], name: str = "tried") -> str:
    document = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump(document))


@pytest.mark.parametrize(
    ("kind", "spec", "change", "words"),
    [
        ("BackupLocation", LOCATION, {"url": "s3.example.com"}, "url must be the S3 endpoint as http"),
        ("BackupLocation", LOCATION, {"url": "ftp://s3.example.com"}, "url must be the S3 endpoint as http"),
        ("BackupLocation", LOCATION, {"bucketName": "No_Bucket"}, "bucketName must be a name that S3 accepts"),
        ("BackupLocation", LOCATION, {"bucketName": "ab"}, "spec.bucketName"),
        ("BackupLocation", LOCATION, {"prefix": "/absolute"}, "prefix must be a path inside the bucket"),
        ("BackupLocation", LOCATION, {"credentials": ""}, "spec.credentials"),
        ("BackupLocation", LOCATION, {"credentials": "Not A Name"}, "must be the name of an object"),
        ("BackupLocation", LOCATION, {"existingRepository": "Maybe"}, "Adopt"),
        ("BackupLocation", LOCATION, {"caBundle": {}}, "either configMap or secret"),
        ("MetadataBackupPolicy", POLICY, {"schedule": "tomorrow"}, "schedule must be a CronJob's: five fields"),
        ("MetadataBackupPolicy", POLICY, {"schedule": "TZ=UTC * * * * *"}, "a time zone goes into timeZone"),
        ("MetadataBackupPolicy", POLICY, {"etcdEndpoint": "127.0.0.1:2379"}, "etcdEndpoint must be a URL"),
        ("MetadataBackupPolicy", POLICY, {"certsDir": "pki"}, "certsDir must be an absolute path"),
        ("MetadataBackupPolicy", POLICY, {"certsDir": "/etc/../root"}, "certsDir must be an absolute path"),
        ("MetadataBackupPolicy", POLICY, {"backupTimeout": "soon"}, "backupTimeout must be a duration"),
        ("MetadataBackupPolicy", POLICY, {"backupTimeout": "1s"}, "backupTimeout must be a duration of 10s or more"),
        ("MetadataBackupPolicy", POLICY, {"retainNumBackups": 0}, "spec.retainNumBackups"),
        ("MetadataBackupPolicy", POLICY, {"destination": ""}, "spec.destination"),
        ("MetadataBackupRecord", RECORD, {"snapshotId": "../../etc"}, "spec.snapshotId"),
        ("MetadataRestore", RESTORE, {"pvcName": "Not/A/Name"}, "must be the name of an object"),
    ],
)
def test_what_is_wrong_is_refused_with_a_word_on_the_remedy(
    plane: ControlPlane, namespace: str, kind: str, spec: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(RuntimeError) as refused:
        apply(plane, namespace, kind, {**spec, **change})
    assert words in str(refused.value)
    apply(plane, namespace, kind, spec)


def test_a_name_too_long_for_a_cronjob_is_refused(plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(RuntimeError, match=r"metadata\.name must have at most 37 characters"):
        apply(plane, namespace, "MetadataBackupPolicy", POLICY, name="p" * 38)
    apply(plane, namespace, "MetadataBackupPolicy", POLICY, name="p" * 37)


@pytest.mark.parametrize(
    ("kind", "spec", "change", "words"),
    [
        ("BackupLocation", LOCATION, {"url": "http://other.example.com"}, "create a new BackupLocation"),
        ("BackupLocation", LOCATION, {"bucketName": "other"}, "create a new BackupLocation"),
        ("BackupLocation", LOCATION, {"prefix": "other"}, "create a new BackupLocation"),
        ("BackupLocation", {**LOCATION, "prefix": "some"}, {"prefix": ""}, "create a new BackupLocation"),
        ("MetadataBackupRecord", RECORD, {"policy": "other"}, "a record says what was backed up and cannot change"),
        ("MetadataRestore", RESTORE, {"pvcName": "other"}, "create another MetadataRestore"),
    ],
)
def test_what_must_not_change_does_not(
    plane: ControlPlane, namespace: str, kind: str, spec: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    apply(plane, namespace, kind, spec)
    with pytest.raises(RuntimeError) as refused:
        apply(plane, namespace, kind, {**spec, **change})
    assert words in str(refused.value)


def test_manifests_of_the_original_apply_unchanged_and_defaults_are_its_own(
    plane: ControlPlane, namespace: str
) -> None:
    plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=ORIGINAL)
    apply(plane, namespace, "MetadataBackupPolicy", POLICY, name="short")
    spec = json.loads(plane.kubectl("-n", namespace, "get", "mbp", "short", "-o", "json"))["spec"]
    assert spec == {
        **POLICY,
        "etcdEndpoint": "https://127.0.0.1:2379",
        "etcdCreds": "etcd-creds",
        "retainNumBackups": 120,
        "suspend": False,
        "backupTimeout": "1h",
    }


@pytest.mark.parametrize("schedule", ["@daily", "@every 1h", "0 */6 * * *", "5,10 1-3 * JAN MON-FRI", "  0 0 1 1 *  "])
def test_schedules_that_kubernetes_knows_are_accepted(plane: ControlPlane, namespace: str, schedule: str) -> None:
    apply(plane, namespace, "MetadataBackupPolicy", {**POLICY, "schedule": schedule})


def test_short_names_and_category(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("-n", namespace, "apply", "-f", "-", stdin=ORIGINAL)
    for short in ("bl", "mbp", "mbr", "mr"):
        assert plane.kubectl("-n", namespace, "get", short, "--no-headers").count("\n") == 1
    assert plane.kubectl("-n", namespace, "get", "kubedr", "--no-headers", "-o", "name").count("\n") == 4
