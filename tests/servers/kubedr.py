"""The real controller as a process, against a real API server, with the roles from manifests/ and no more.

There is no node: tests play the pods' part. What a worker would report is made by `report`.
"""

import math
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
from kubedr_ctrl.kube.codec import Resource
from kubedr_ctrl.resources import JOBS, LOCATIONS, POLICIES, RECORDS, RESTORES
from tests.servers.apiserver import ApiError, ControlPlane
from tests.servers.process import LOOPBACK, free_port, tail

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
PATHS = {resource.kind: resource for resource in (LOCATIONS, POLICIES, RECORDS, RESTORES, JOBS)}
REPO = "s3:http://10.106.189.174:9000/testbucket62"

Object = dict[str, Any]
V = TypeVar("V")


def report(operation: Operation, *, snapshot: str = "34abbf1b", at: datetime | None = None, **changes: Any) -> str:
    """Return the termination message of a worker that succeeded, unless `changes` say otherwise."""
    now = at or datetime.now(UTC)
    result = Result(operation=operation, outcome=Outcome.COMPLETED, reason=Reason.COMPLETED, started=now, finished=now)
    if operation is Operation.INIT and "outcome" not in changes:
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


class Samples(dict[str, float]):
    """The samples of /metrics by series, as they are written there; what is not there is no number."""

    def __init__(self, exposition: str) -> None:
        lines = (line for line in exposition.splitlines() if line and not line.startswith("#"))
        super().__init__((series, float(value)) for series, _, value in (line.rpartition(" ") for line in lines))

    def __missing__(self, series: str) -> float:
        return math.nan


class Replica:
    """One process of the controller."""

    def __init__(self, name: str, namespace: str, kubeconfig: Path, **environment: str) -> None:
        """`environment` is set for the process beside what it needs to run."""
        self.name = name
        self.port = free_port()
        self.log = kubeconfig.with_name(f"{namespace}-{name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._dismissed = False
        self._environment = {
            "KUBECONFIG": str(kubeconfig),
            "KUBEDR_NAMESPACE": namespace,
            "KUBEDR_WORKER_IMAGE": "kubedr:test",
            "KUBEDR_POD_NAME": name,
            "KUBEDR_PORT": str(self.port),
            **environment,
        }

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._dismissed = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "kubedr_ctrl.app"],
                stderr=log,
                env={**os.environ, **self._environment},
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._dismissed = self._dismissed or number in (signal.SIGKILL, signal.SIGTERM)
        self._process.send_signal(number)

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> float:
        """Stop the process and wait for its end; return the seconds that took."""
        assert self._process is not None
        began = time.monotonic()
        self.send(with_signal)
        self._process.wait(timeout=30)
        self._process = None
        return time.monotonic() - began

    def stop_if_running(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether the process ended by itself."""
        return self._process is not None and not self._dismissed and self._process.poll() is not None

    def logs(self) -> str:
        return self.log.read_text()

    def http(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=5) as response:
            return str(response.read().decode())

    def metrics(self) -> Samples:
        return Samples(self.http("/metrics"))

    def ready(self) -> bool:
        return self.http("/readyz") == "ok\n"

    def leads(self) -> bool:
        return self.metrics()['leader_election_master_status{name="kubedr-controller"}'] == 1


class Kubedr:
    """A namespace with the controller in it, and what tests do there."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path, server: str = "") -> None:
        """`server` is where the controller finds the API server, if it is not to ask it directly."""
        self.plane = plane
        self.namespace = namespace
        self.role_path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/kubedr-controller"
        self._directory = directory
        self._replicas: list[Replica] = []
        self._install()
        self.replica = self.another("kubedr-controller-0", server)

    # The controller.

    def another(self, name: str, server: str = "", **environment: str) -> Replica:
        """Return one more replica, not started."""
        kubeconfig = self.kubeconfig(name, server)
        self._replicas.append(Replica(name, self.namespace, kubeconfig, **environment))
        return self._replicas[-1]

    def start(self) -> None:
        """Start the controller and wait until it is ready."""
        self.replica.start()
        self.wait_for(self.replica.ready, "the controller to be ready")

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> float:
        """Stop the controller; return the seconds that took."""
        return self.replica.stop(with_signal)

    def stop_all(self) -> None:
        """Kill what still runs."""
        for replica in self._replicas:
            replica.stop_if_running()

    def http(self, path: str) -> str:
        return self.replica.http(path)

    def metrics(self) -> Samples:
        return self.replica.metrics()

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
            except (RuntimeError, OSError) as error:
                last = error
            for replica in self._replicas:
                if replica.ended:
                    raise AssertionError(f"{replica.name} ended: {tail(replica.log)}")
            if time.monotonic() > deadline:
                said = "\n".join(f"{r.name} said:\n{tail(r.log)}" for r in self._replicas if r.log.exists())
                raise AssertionError(f"waited {timeout} s for {what} ({last}); {said}")
            time.sleep(0.05)

    def persist(self, do: Callable[[], object], what: str, timeout: float = 20) -> None:
        """Do something anew until the API server accepts it."""

        def done() -> bool:
            do()
            return True

        self.wait_for(done, what, timeout)

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
        """Apply the roles of manifests/ to the test's namespace."""
        for file in ("serviceaccount.yaml", "rbac.yaml", "cluster-identity.yaml"):
            text = (MANIFESTS / "controller" / file).read_text().replace("kubedr-system", self.namespace)
            for item in yaml.safe_load_all(text):
                item["metadata"].setdefault("namespace", self.namespace)
                for subject in item.get("subjects", ()):
                    subject["namespace"] = self.namespace
                self.plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(item))

    def kubeconfig(self, name: str, server: str = "") -> Path:
        """Write a kubeconfig of the controller's ServiceAccount and return its path."""
        config = yaml.safe_load(self.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {
            "token": self.kubectl("create", "token", "kubedr-controller", "--duration=1h").strip()
        }
        if server:
            config["clusters"][0]["cluster"]["server"] = server
        path = self._directory / f"{self.namespace}-{name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


@contextmanager
def kubedr(plane: ControlPlane, directory: Path, server: str = "") -> Iterator[Kubedr]:
    """A namespace of its own with a running controller; both go away with the block."""
    with installed(plane, directory, server) as instance:
        instance.start()
        yield instance


@contextmanager
def installed(plane: ControlPlane, directory: Path, server: str = "") -> Iterator[Kubedr]:
    """A namespace of its own in which the controller is not started yet."""
    with plane.namespace() as namespace:
        instance = Kubedr(plane, namespace, directory, server)
        try:
            yield instance
        finally:
            instance.stop_all()


def install_kinds(plane: ControlPlane) -> None:
    """Install our four kinds, as they are in manifests/."""
    plane.kubectl("apply", "-k", str(MANIFESTS / "crds"))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def loosen(plane: ControlPlane, kind: Resource[Any], field: str) -> None:
    """Let the API server accept anything for a field of spec, as a later version of the kind might."""
    properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    anything = {"x-kubernetes-preserve-unknown-fields": True}
    plane.request(
        "PATCH",
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.plural}.{kind.group}",
        [{"op": "replace", "path": f"{properties}/{field}", "value": anything}],
        content_type="application/json-patch+json",
    )
