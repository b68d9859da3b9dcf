"""The real controller as a process, against a real API server, with the roles from manifests/ and no more.

There is no node: tests play the pods' part. What a worker would report is made by `report`.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kubedr_ctrl.api.names import API_VERSION
from kubedr_ctrl.api.result import Etcd, Operation, Outcome, Reason, Result, Snapshot
from kubedr_ctrl.resources import JOBS, LOCATIONS, POLICIES, RECORDS, RESTORES
from tests.servers.apiserver import ApiError, ControlPlane
from tests.servers.process import LOOPBACK, free_port, tail

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "manifests"
PATHS = {resource.kind: resource for resource in (LOCATIONS, POLICIES, RECORDS, RESTORES, JOBS)}
REPO = "s3:http://10.106.189.174:9000/testbucket62"

Object = dict[str, Any]
V = TypeVar("V")


def report(operation: Operation, *, snapshot: str = "34abbf1b", at: datetime | None = None, **changes: Any) -> str:
    """Return the termination message of a worker that succeeded, unless `changes` say otherwise."""
    now = at or datetime.now(UTC)
    result = Result(operation=operation, outcome=Outcome.COMPLETED, reason=Reason.COMPLETED, started=now, finished=now)
    if operation is Operation.INIT:
        result = result.model_copy(update={"repository_id": "aec1c2d0"})
    if operation is Operation.BACKUP and "outcome" not in changes:
        figures = Snapshot(
            id=snapshot,
            files_new=0,
            files_changed=1,
            data_added=1573023,
            total_bytes_processed=15736864,
            total_duration_secs="0.318463127",
        )
        update = {"snapshot": figures, "etcd": Etcd(revision=815, keys=42), "certificates": ("ca.crt",)}
        result = result.model_copy(update={**update, "certificate_count": 1})
    return result.model_copy(update=changes).encode()


def failure(operation: Operation, message: str, reason: Reason = Reason.RESTIC_FAILED) -> str:
    """Return the termination message of a worker that failed."""
    return report(operation, outcome=Outcome.FAILED, reason=reason, message=message)


class Kubedr:
    """A namespace with the controller in it, and what tests do there."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path) -> None:
        self.plane = plane
        self.namespace = namespace
        self.port = free_port()
        self.role_path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/kubedr-controller"
        self._log = directory / f"controller-{namespace}.log"
        self._kubeconfig = directory / f"kubeconfig-{namespace}"
        self._process: subprocess.Popen[bytes] | None = None
        self._install()

    # The controller.

    def start(self) -> None:
        """Start the controller and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "kubedr_ctrl.app"],
                stderr=log,
                env={
                    **os.environ,
                    "KUBECONFIG": str(self._kubeconfig),
                    "KUBEDR_NAMESPACE": self.namespace,
                    "KUBEDR_WORKER_IMAGE": "kubedr:test",
                    "KUBEDR_PORT": str(self.port),
                },
            )
        self.wait_for(lambda: self.http("/readyz") == "ok\n", "the controller to be ready")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> float:
        """Stop the controller; return the seconds that took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(with_signal)
        self._process.wait(timeout=30)
        self._process = None
        return time.monotonic() - began

    def stop_if_running(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)

    def logs(self) -> str:
        return self._log.read_text()

    def http(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics by series, as they are written there."""
        lines = (line for line in self.http("/metrics").splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}

    # What users do.

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.plane.kubectl("-n", self.namespace, *args, stdin=stdin)

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def location(self, name: str, **spec: Any) -> Object:
        wanted = {"url": "http://10.106.189.174:9000", "bucketName": "testbucket62", "credentials": "minio-creds"}
        return self._object("BackupLocation", name, {**wanted, **spec})

    def policy(self, name: str, destination: str, **spec: Any) -> Object:
        return self._object("MetadataBackupPolicy", name, {"destination": destination, "schedule": "0 0 1 1 *", **spec})

    def restore(self, name: str, record: str, volume: str = "restored") -> Object:
        return self._object("MetadataRestore", name, {"mbrName": record, "pvcName": volume})

    def backup_now(self, policy: str, job: str) -> str:
        """Run a backup as the user guide says; return the Job's name."""
        self.kubectl("create", "job", job, f"--from=cronjob/{policy}-backup-cronjob")
        return job

    # What tests look at.

    def get(self, kind: str, name: str) -> Object:
        path = PATHS[kind].path(self.namespace, name)
        return self.plane.request("GET", path)

    def gone(self, kind: str, name: str) -> bool:
        try:
            self.get(kind, name)
        except ApiError as error:
            return error.status == 404
        return False

    def items(self, path: str) -> list[Object]:
        items: list[Object] = self.plane.request("GET", path)["items"]
        return items

    def jobs(self, owner: str, operation: Operation) -> list[Object]:
        """Return the Jobs that work for `owner`, oldest first."""
        selector = f"labelSelector=kubedr.catalogicsoftware.com%2Foperation%3D{operation}"
        jobs = self.items(f"{JOBS.path(self.namespace)}?{selector}")
        mine = [job for job in jobs if job["metadata"]["annotations"]["kubedr.catalogicsoftware.com/owner"] == owner]
        return sorted(mine, key=lambda job: (job["metadata"]["creationTimestamp"], job["metadata"]["resourceVersion"]))

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """Return type, reason and message of the events on the resource of that name."""
        events = self.items(f"/api/v1/namespaces/{self.namespace}/events?fieldSelector=involvedObject.name%3D{name}")
        ours = [event for event in events if event["involvedObject"]["apiVersion"] == API_VERSION]
        return [(event["type"], event["reason"], event["message"]) for event in ours]

    def status(self, kind: str, name: str) -> Object:
        status: Object = self.get(kind, name).get("status", {})
        return status

    def ready(self, kind: str, name: str) -> tuple[str, str, str]:
        """Return status, reason and message of the condition Ready, empty strings while there is none."""
        for condition in self.status(kind, name).get("conditions", []):
            if condition["type"] == "Ready":
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    def wait_for(self, value: Callable[[], V], what: str, timeout: float = 20) -> V:
        """Return the first true value; what the controller logged is shown if there is none."""
        deadline = time.monotonic() + timeout
        while True:
            last: object = None
            try:
                if found := value():
                    return found
            except (ApiError, OSError, TimeoutError) as error:
                last = error
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"the controller ended: {tail(self._log)}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout} s for {what} ({last}); the controller said:\n{tail(self._log)}")
            time.sleep(0.05)

    def wait_ready(self, kind: str, name: str, reason: str, timeout: float = 20) -> str:
        """Wait until the condition Ready has that reason; return its message."""
        self.wait_for(lambda: self.ready(kind, name)[1] == reason, f"{kind} {name} to be {reason}", timeout)
        return self.ready(kind, name)[2]

    def recorded(self, job: str) -> str:
        """Wait until the Job's outcome is recorded; return that outcome."""
        key = "kubedr.catalogicsoftware.com/recorded"
        return self.wait_for(
            lambda: str(self.get("Job", job)["metadata"]["annotations"].get(key, "")), f"Job {job} to be recorded"
        )

    # What a kubelet does.

    def finish(self, job: str, message: str = "", exit_code: int | None = None, reason: str | None = None) -> str:
        """End the newest pod of a Job with that termination message; return the pod's name."""
        pod = self.plane.pods.of_job(self.namespace, job)
        failed = '"outcome":"Failed"' in message
        code = int(failed) if exit_code is None else exit_code
        self.plane.pods.finish(self.namespace, pod, code, message, reason)
        return pod

    def next_job(self, owner: str, operation: Operation, *, after: int = 0, timeout: float = 20) -> str:
        """Wait for the Job that follows the first `after` of them; return its name."""
        jobs = self.wait_for(lambda: self.jobs(owner, operation)[after:], f"{operation} Job for {owner}", timeout)
        return str(jobs[0]["metadata"]["name"])

    def initialized(self, name: str, **spec: Any) -> None:
        """Create a location whose repository is initialized."""
        self.apply(self.location(name, **spec))
        self.finish(self.next_job(name, Operation.INIT), report(Operation.INIT))
        self.wait_ready("BackupLocation", name, "InitSucceeded")

    def scheduled(self, name: str, **spec: Any) -> None:
        """Create a policy whose CronJob is there, with a location of its own."""
        self.initialized(f"{name}-loc")
        self.apply(self.policy(name, f"{name}-loc", **spec))
        self.wait_ready("MetadataBackupPolicy", name, "Scheduled")

    # Parts.

    def _object(self, kind: str, name: str, spec: Object) -> Object:
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}

    def _install(self) -> None:
        """Apply the roles of manifests/ to the test's namespace and make a kubeconfig of their ServiceAccount."""
        for file in ("rbac.yaml", "cluster-identity.yaml"):
            text = (MANIFESTS / "controller" / file).read_text().replace("kubedr-system", self.namespace)
            self.plane.kubectl("apply", "-f", "-", stdin=text.replace("kubedr-cluster-identity", self.namespace))
        token = self.kubectl("create", "token", "kubedr-controller", "--duration=1h").strip()
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        self._kubeconfig.write_text(yaml.safe_dump(config))


@contextmanager
def kubedr(plane: ControlPlane, directory: Path) -> Iterator[Kubedr]:
    """A namespace of its own with a running controller; both go away with the block."""
    with plane.namespace() as namespace:
        instance = Kubedr(plane, namespace, directory)
        try:
            instance.start()
            yield instance
        finally:
            instance.stop_if_running()
