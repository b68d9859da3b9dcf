"""The kubelet's part of a pod's life, played by writing the pod's status through the API."""

import datetime
import time
from collections.abc import Callable
from typing import Any

Status = dict[str, Any]


class Pods:
    """Plays pods; the one container of each is the first in its spec."""

    def __init__(self, request: Callable[..., dict[str, Any]]) -> None:
        self._request = request

    def of_job(self, namespace: str, job: str, *, timeout: float = 40) -> str:
        """Return the name of a Job's newest pod, as soon as there is one."""
        deadline = time.monotonic() + timeout
        query = f"labelSelector=batch.kubernetes.io/job-name%3D{job}"
        while True:
            items = self._request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")["items"]
            if items:
                newest = max(items, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
                return str(newest["metadata"]["name"])
            if time.monotonic() > deadline:
                raise TimeoutError(f"Job {namespace}/{job} has no pod after {timeout} s")
            time.sleep(0.05)

    def run(self, namespace: str, pod: str) -> None:
        """Let the container run."""
        self._container(namespace, pod, "Running", {"running": {"startedAt": _now()}})

    def finish(
        self, namespace: str, pod: str, exit_code: int = 0, message: str = "", reason: str | None = None
    ) -> None:
        """End the container with this termination message; 137 and OOMKilled is how the kernel's killer looks."""
        terminated = {
            "exitCode": exit_code,
            "reason": reason or ("Error" if exit_code else "Completed"),
            "message": message,
            "startedAt": _now(),
            "finishedAt": _now(),
        }
        self._container(namespace, pod, "Failed" if exit_code else "Succeeded", {"terminated": terminated})

    def wait(self, namespace: str, pod: str, reason: str, message: str = "") -> None:
        """Keep the container waiting, such as for ImagePullBackOff or CreateContainerConfigError."""
        self._container(namespace, pod, "Pending", {"waiting": {"reason": reason, "message": message}})

    def unschedulable(self, namespace: str, pod: str, message: str) -> None:
        """Let the scheduler find no node."""
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": _now(),
        }
        self.set_status(namespace, pod, {"phase": "Pending", "conditions": [condition]})

    def evict(self, namespace: str, pod: str, message: str = "The node was low on resource: memory.") -> None:
        """Let the kubelet evict the pod; the container leaves no message."""
        self.set_status(namespace, pod, {"phase": "Failed", "reason": "Evicted", "message": message})

    def set_status(self, namespace: str, pod: str, status: Status) -> None:
        """Merge `status` into the pod's status."""
        self._request(
            "PATCH",
            f"/api/v1/namespaces/{namespace}/pods/{pod}/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )

    def _container(self, namespace: str, pod: str, phase: str, state: Status) -> None:
        spec = self._request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")["spec"]
        container = spec["containers"][0]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": "running" in state,
            "restartCount": 0,
            "state": state,
        }
        self.set_status(namespace, pod, {"phase": phase, "containerStatuses": [status]})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
