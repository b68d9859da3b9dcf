"""The chart from its installation to its end, by real helm, with backups running meanwhile: nothing is lost."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import NAMESPACE, Cluster
from e2e.machine import REPOSITORY, run
from e2e.stories.teller import Object, Teller, take_away

GO = "/data/go"
CHART = str(REPOSITORY / "charts" / "kubedr")


class Release(Teller):
    """A release in a namespace of its own, next to the one that the other stories use."""

    def __init__(self, cluster: Cluster, title: str, program: str) -> None:
        self._program = program
        namespace = f"helm-{sha256(title.encode()).hexdigest()[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": "privileged"}
        wanted = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
        cluster.kubectl("apply", "-f", "-", given=yaml.safe_dump(wanted))
        super().__init__(cluster, title, namespace=namespace)
        secret = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "secret", "etcd-creds", "-o", "json"))
        self.apply("Secret", "etcd-creds", "v1", data=secret["data"])

    def helm(self, *args: str, values: Object | None = None) -> str:
        given = ("--values=-",) if values else ()
        return run(self._program, f"--namespace={self.namespace}", *args, *given, given=yaml.safe_dump(values or {}))

    def values(self, policies: dict[str, Object], **more: Any) -> Object:
        repository, _, tag = self.cluster.image.partition(":")
        place = {"url": self.cluster.s3.endpoint, "bucketName": self.bucket, "credentials": self.name}
        return {
            "image": {"repository": repository, "tag": tag},
            "crds": {"enabled": False},
            "replicas": 2,
            "locations": {self.name: place},
            "policies": policies,
            **more,
        }

    def clean(self) -> None:
        take_away(self.cluster, self.namespace)

    def held_backup(self, number: int) -> str:
        """Start a backup that runs until `let_go`."""
        wait = f'until [ -e {GO} ]; do sleep 0.1; done; exec kubedr-worker "$0"'
        job = self.backup_changed(f"held-{number}", command=["sh", "-c", wait])
        self.kubectl("wait", "--for=jsonpath={.status.ready}=1", f"job/{job}", "--timeout=60s")
        return job

    def let_go(self, job: str) -> None:
        """Have a held backup go on; it must still be running."""
        assert self.get("job", job)["status"]["active"] == 1
        self.kubectl("exec", f"job/{job}", "--", "sh", "-c", f": > {GO}")

    def totals(self) -> tuple[int, int, int]:
        totals = self.status("MetadataBackupPolicy").get("totals", {})
        return totals.get("backups", 0), totals.get("successful", 0), totals.get("failed", 0)

    def count(self, kind: str) -> int:
        return len(json.loads(self.kubectl("get", kind, "-o", "json"))["items"])


@pytest.fixture(params=["helm", "helm4"])
def release(lent: Cluster, request: pytest.FixtureRequest) -> Iterator[Release]:
    release = Release(lent, request.node.name, request.param)
    yield release
    release.clean()


def test_from_installation_to_end_and_back_no_backup_is_lost(release: Release, tmp_path: Path) -> None:
    policy = {"destination": release.name, "schedule": "0 0 1 1 *"}
    first = release.values({release.name: policy, "other": policy})
    release.helm("package", CHART, "--version=0.0.9", "--app-version=0.0.9", f"--destination={tmp_path}")
    earlier = str(tmp_path / "kubedr-0.0.9.tgz")
    release.helm("install", "kubedr", earlier, "--wait", "--timeout=3m", values=first)
    release.wait_ready("BackupLocation")
    release.wait_ready("MetadataBackupPolicy")
    assert " leads\n" in release.helm("test", "kubedr", "--logs")

    running = release.held_backup(1)
    second = release.values({release.name: {**policy, "retainNumBackups": 7}}, controller={"logLevel": "DEBUG"})
    release.helm("upgrade", "kubedr", CHART, "--wait", "--timeout=3m", values=second)
    release.let_go(running)
    assert release.recorded(running) == "Completed"
    assert release.get("MetadataBackupPolicy")["spec"]["retainNumBackups"] == 7
    assert "other" not in release.kubectl("get", "mbp", "-o", "name")

    running = release.held_backup(2)
    release.helm("rollback", "kubedr", "1", "--wait", "--timeout=3m")
    release.let_go(running)
    assert release.get("MetadataBackupPolicy")["spec"]["retainNumBackups"] == 120
    assert "other" in release.kubectl("get", "mbp", "-o", "name")
    assert release.recorded(running) == "Completed"
    assert release.totals() == (2, 2, 0)

    release.helm("uninstall", "kubedr", "--wait", "--timeout=3m")
    assert release.count("deploy") == 0
    unseen = release.backup_now(3)  # the CronJob is still there, and so is the schedule
    release.kubectl("wait", "--for=condition=Complete", f"job/{unseen}", "--timeout=120s")
    release.helm("install", "kubedr", CHART, "--wait", "--timeout=3m", values=first)
    assert release.recorded(unseen) == "Completed"
    assert release.totals() == (3, 3, 0)
    assert release.count("mbr") == 3
    assert [event[1] for event in release.events()].count("BackupSucceeded") == 3
    assert " leads\n" in release.helm("test", "kubedr", "--logs")
