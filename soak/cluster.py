"""What is soaked: a control plane, S3, policies, and two replicas of the controller, each behind a fault proxy."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from kubedr_ctrl.api.names import OPERATION_LABEL
from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.api.task import Repository, SecretEnv
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.resources import JOBS
from soak.kubelet import Kubelet, Object, kubelet
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.servers.apiserver import control_plane
from tests.servers.kubedr import MANIFESTS, Kubedr, Replica
from tests.servers.pki import Authority
from tests.servers.process import binary
from tests.servers.s3 import S3, s3

LEASE_SECONDS = 5
RETAIN = 10
"""Backups that each policy keeps."""
_BUCKETS = ("east", "west")
_PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Candidate:
    """A replica, and the proxy through which it reaches the API server."""

    replica: Replica
    proxy: FaultProxy
    instance: Kubedr

    def start(self) -> None:
        """Start the replica with a fresh token, as they last an hour."""
        self.instance.kubeconfig(self.replica.name, self.proxy.server)
        self.replica.start()


@dataclass(frozen=True)
class Cluster:
    """All that runs."""

    instance: Kubedr
    kubelet: Kubelet
    candidates: tuple[Candidate, ...]
    policies: tuple[str, ...]
    s3: S3

    def apply(self, policy: str) -> None:
        """Create the policy."""
        instance = self.instance
        etcd, number = instance.plane.etcd, self.policies.index(policy)
        instance.apply(
            instance.policy(
                policy,
                _BUCKETS[number % len(_BUCKETS)],
                etcdEndpoint=etcd.endpoint,
                certsDir=str(etcd.authority.certificate.parent),
                retainNumBackups=RETAIN,
            )
        )

    def request(self, method: str, resource: Resource[Any], name: str, body: object = None) -> Object:
        """Ask the API server directly."""
        return self.instance.plane.request(method, resource.path(self.instance.namespace, name), body)

    def all(self, resource: Resource[Any], selector: str = "") -> list[Object]:
        """Return all objects of a kind, or those with the labels."""
        return self.instance.items(f"{resource.path(self.instance.namespace)}?labelSelector={selector}")

    def backups(self) -> list[Object]:
        """Return the Jobs that back up."""
        return self.all(JOBS, f"{OPERATION_LABEL}%3D{Operation.BACKUP}")

    def compact(self) -> None:
        """Have etcd forget all revisions but the latest."""
        etcd = self.instance.plane.etcd
        etcdctl = [
            *(binary("etcdctl"), f"--endpoints={etcd.endpoint}", f"--cacert={etcd.authority.certificate}"),
            *(f"--cert={etcd.client.certificate}", f"--key={etcd.client.key}", "--write-out=json"),
        ]
        status = json.loads(subprocess.check_output([*etcdctl, "endpoint", "status"], stderr=subprocess.DEVNULL))
        revision = str(status[0]["Status"]["header"]["revision"])
        subprocess.run([*etcdctl, "compact", revision], check=True, capture_output=True)

    def snapshots(self) -> frozenset[str]:
        """Return the snapshots in the repositories."""
        variables: dict[str, str] = {
            SecretEnv.ACCESS_KEY: self.s3.keys.access,
            SecretEnv.SECRET_KEY: self.s3.keys.secret,
            SecretEnv.PASSWORD: _PASSWORD,
        }
        found: set[str] = set()
        for bucket in _BUCKETS:
            argv = [binary("restic"), "-r", Repository(url=self.s3.url, bucket=bucket).address]
            listed = subprocess.check_output(
                [*argv, "--json", "--no-lock", "--no-cache", "snapshots"], env={**os.environ, **variables}
            )
            found.update(snapshot["short_id"] for snapshot in json.loads(listed))
        return frozenset(found)


@contextmanager
def cluster(directory: Path, rng: Random, policies: int) -> Iterator[Cluster]:
    """Run it all, until the block is left."""
    with ExitStack() as stack:
        plane = stack.enter_context(control_plane(directory / "control-plane"))
        store = stack.enter_context(s3(directory / "s3", Authority(directory / "pki")))
        plane.kubectl("apply", "-k", str(MANIFESTS / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        namespace = "kubedr-system"  # goes away with the control plane
        plane.kubectl("create", "namespace", namespace)
        plane.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
        instance = Kubedr(plane, namespace, directory)
        stack.callback(instance.stop_all)
        node = stack.enter_context(kubelet(plane, namespace, directory / "kubelet", rng))
        candidates = []
        for name in ("replica-a", "replica-b"):
            proxy = stack.enter_context(fault_proxy(plane))
            replica = instance.another(name, proxy.server, KUBEDR_LEASE_DURATION_SECONDS=str(LEASE_SECONDS))
            candidates.append(Candidate(replica, proxy, instance))
            replica.start()
        names = tuple(f"policy-{number:02}" for number in range(policies))
        whole = Cluster(instance, node, tuple(candidates), names, store)
        _prepare(whole)
        yield whole


def _prepare(whole: Cluster) -> None:
    instance, keys, etcd = whole.instance, whole.s3.keys, whole.instance.plane.etcd
    for candidate in whole.candidates:
        instance.wait_for(candidate.replica.ready, f"{candidate.replica.name} to be ready")
    instance.apply(
        _secret("minio-creds", access_key=keys.access, secret_key=keys.secret, restic_repo_password=_PASSWORD),
        _secret(
            "etcd-creds",
            **{
                "ca.crt": etcd.authority.certificate.read_text(),
                "client.crt": etcd.client.certificate.read_text(),
                "client.key": etcd.client.key.read_text(),
            },
        ),
        *(instance.location(bucket, url=whole.s3.url, bucketName=bucket) for bucket in _BUCKETS),
    )
    for bucket in _BUCKETS:
        instance.wait_ready("BackupLocation", bucket, "InitSucceeded", timeout=60)
    for policy in whole.policies:
        whole.apply(policy)
    for policy in whole.policies:
        instance.wait_ready("MetadataBackupPolicy", policy, "Scheduled")


def _secret(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
