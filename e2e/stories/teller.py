"""What the stories have in common: resources with names of their own, waiting, and cleaning up."""

import json
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, TypeVar

import yaml

from e2e.cluster import NAMESPACE, Cluster
from e2e.machine import run

V = TypeVar("V")
GROUP = "kubedr.catalogicsoftware.com"
Object = dict[str, Any]


def take_away(cluster: Cluster, namespace: str) -> None:
    """Delete a namespace with an installation in it, whether or not a controller is there to let it go."""
    run("helm", "uninstall", "kubedr", f"--namespace={namespace}", "--wait", "--ignore-not-found")
    cluster.kubectl("-n", namespace, "delete", "deployments", "--all", "--cascade=foreground", "--timeout=60s")
    for item in cluster.kubectl("-n", namespace, "get", "bl,mbp,mbr,jobs", "-o", "name").split():
        try:
            cluster.kubectl("-n", namespace, "patch", item, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        except subprocess.CalledProcessError as error:
            if "NotFound" not in str(error.__notes__):  # gone by itself
                raise
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")


class Teller:
    """One story's share of the cluster."""

    def __init__(self, cluster: Cluster, title: str, *, namespace: str = NAMESPACE) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = "s-" + sha256(f"{title}{time.time()}".encode()).hexdigest()[:8]
        self.bucket = f"e2e-{self.name}"
        self.repository = f"s3:{cluster.s3.endpoint}/{self.bucket}"
        self._created: list[str] = []
        self.secret(self.name)

    def kubectl(self, *args: str, given: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *args, given=given)

    def apply(self, kind: str, name: str, api_version: str = f"{GROUP}/v1alpha1", **body: Any) -> None:
        document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body}
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump(document))
        if (entry := f"{kind.lower()}/{name}") not in self._created:
            self._created.append(entry)

    def secret(self, name: str, **changes: str) -> None:
        server = self.cluster.s3
        data = {
            "access_key": server.access_key,
            "secret_key": server.secret_key,
            "restic_repo_password": "correct horse",
        }
        self.apply("Secret", name, "v1", stringData={**data, **changes})

    def location(self, **spec: Any) -> str:
        wanted = {"url": self.cluster.s3.endpoint, "bucketName": self.bucket, "credentials": self.name}
        self.apply("BackupLocation", self.name, spec={**wanted, **spec})
        return self.name

    def policy(self, **spec: Any) -> str:
        self.apply("MetadataBackupPolicy", self.name, spec={"destination": self.name, "schedule": "0 0 1 1 *", **spec})
        return self.name

    def scheduled(self, **spec: Any) -> str:
        """Create a location and a policy and wait until backups can run."""
        self.location()
        self.wait_ready("BackupLocation")
        self.policy(**spec)
        return self.wait_ready("MetadataBackupPolicy")

    def backup_now(self, number: int = 1) -> str:
        job = f"{self.name}-{number}"
        self.kubectl("create", "job", job, f"--from=cronjob/{self.name}-backup-cronjob")
        return job

    def backup_changed(self, suffix: str = "changed", **container: Any) -> str:
        """Run a backup whose container differs from the CronJob's, as after an accident with the CronJob."""
        job = f"{self.name}-{suffix}"
        template = self.get("cronjob", f"{self.name}-backup-cronjob")["spec"]["jobTemplate"]
        template["spec"]["template"]["spec"]["containers"][0] |= container
        document = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {**template["metadata"], "name": job},
            "spec": template["spec"],
        }
        self.kubectl("create", "-f", "-", given=yaml.safe_dump(document))
        self._created.append(f"job/{job}")
        return job

    def get(self, kind: str, name: str = "") -> Object:
        item: Object = json.loads(self.kubectl("get", kind, name or self.name, "-o", "json"))
        return item

    def status(self, kind: str) -> Object:
        status: Object = self.get(kind).get("status", {})
        return status

    def ready(self, kind: str) -> tuple[str, str, str]:
        for condition in self.status(kind).get("conditions", []):
            if condition["type"] == "Ready":
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    def wait_ready(self, kind: str, status: str = "True", reason: str = "", timeout: float = 120) -> str:
        """Wait until the condition Ready is so; return its message."""

        def so() -> bool:
            now = self.ready(kind)
            return now[0] == status and reason in ("", now[1])

        self.wait_for(so, lambda: f"{kind} to be {status} {reason}; it is {self.ready(kind)}", timeout)
        return self.ready(kind)[2]

    def recorded(self, job: str, timeout: float = 180) -> str:
        """Wait until the Job's outcome is recorded; return the outcome."""
        key = f"{GROUP}/recorded"
        return self.wait_for(
            lambda: str(self.get("job", job)["metadata"]["annotations"].get(key, "")),
            lambda: f"{job} to be recorded: {self.kubectl('describe', 'pods', '-l', f'job-name={job}')[-3000:]}",
            timeout,
        )

    def events(self, name: str = "") -> list[tuple[str, str, str]]:
        """Return type, reason and message of our events on the story's resources, oldest first."""
        selector = f"--field-selector=involvedObject.name={name or self.name},source=kubedr"
        items = json.loads(self.kubectl("get", "events", selector, "-o", "json"))["items"]
        items.sort(key=lambda event: event["metadata"]["creationTimestamp"])
        return [(event["type"], event["reason"], event["message"]) for event in items]

    def metric(self, name: str) -> float | None:
        """Return the policy's sample of that metric, None if there is none."""
        series = f'{name}{{policyName="{self.name}"}} '
        for line in self.cluster.metrics().splitlines():
            if line.startswith(series):
                return float(line.removeprefix(series))
        return None

    def counters(self) -> tuple[float | None, ...]:
        return tuple(self.metric(f"kubedr_num_{kind}backups") for kind in ("", "successful_", "failed_"))

    def wait_for(self, value: Callable[[], V], what: Callable[[], str], timeout: float = 60) -> V:
        deadline = time.monotonic() + timeout
        while not (found := value()):
            assert time.monotonic() < deadline, f"waited {timeout} s for {what()}"
            time.sleep(0.2)
        return found

    def clean(self) -> None:
        """Delete what the story made, records first: they go once their snapshots are forgotten."""
        self.secret(self.name)
        kept = [entry for entry in self._created if entry.startswith(("backuplocation/", "secret/"))]
        others = [entry for entry in self._created if entry not in kept]
        records = json.loads(self.kubectl("get", "mbr", "-o", "json"))["items"]
        mine = [f"mbr/{item['metadata']['name']}" for item in records if item["spec"]["policy"] == self.name]
        for entries in (others, mine, kept):
            if entries:
                self.kubectl("delete", "--ignore-not-found", "--timeout=120s", *reversed(entries))
