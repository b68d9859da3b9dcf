"""A small kubelet for a control plane without nodes: it runs the worker of each pod, and keeps a log of its own.

The worker is the real one, as a process with the pod's variables, and directories in the place of the pod's mounts.
All share the machine's hostname, so that restic can tell the locks of workers that were killed.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from kubedr_ctrl.api.names import OPERATION_LABEL, OWNER_ANNOTATION, OWNER_UID_ANNOTATION
from kubedr_ctrl.api.result import Operation, Result
from kubedr_ctrl.resources import JOBS, PODS
from kubedr_ctrl.worker.main import TERMINATION_LOG_ENV
from soak.audit import Run
from tests.integration.worker.test_process import COMMAND_ELSEWHERE
from tests.servers.apiserver import ApiError, ControlPlane

AWAY = (OSError, HTTPException, ApiError)
"""What a request raises while the API server is away, or has only just come back."""
PERIOD = 0.2
WORKERS = 3
KILLED = 0.1
"""The part of the workers that is killed; half of those whose Job has lost one already."""
OUT_OF_MEMORY = 137

Object = dict[str, Any]
T = TypeVar("T")

_PARTS = ("data", "restore", "ca-bundle")


class Kubelet:
    """Runs what is pending in a namespace."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path, rng: Random) -> None:
        self._plane = plane
        self._namespace = namespace
        self._directory = directory
        self._rng = rng
        self._log = directory / "kubelet.jsonl"
        self._workers = ThreadPoolExecutor(WORKERS)
        self._known: set[str] = set()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._unlucky: set[str] = set()
        self.stopping = threading.Event()

    def runs(self) -> list[Run]:
        """Return what the log says."""
        return [Run(**json.loads(line)) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def follow(self) -> None:
        """Run each pending pod, and tell the worker of each that is deleted to stop."""
        unfinished = f"{PODS.path(self._namespace)}?fieldSelector=status.phase!=Succeeded,status.phase!=Failed"
        while not self.stopping.wait(PERIOD):
            try:
                pods = self._plane.request("GET", unfinished)["items"]
            except AWAY:
                continue
            living = {pod["metadata"]["uid"]: pod for pod in pods if "deletionTimestamp" not in pod["metadata"]}
            for uid in self._processes.copy().keys() - living.keys():
                if process := self._processes.pop(uid, None):
                    process.terminate()
            for uid in living.keys() - self._known:
                self._workers.submit(self._run, living[uid]).add_done_callback(_complain)
            self._known |= living.keys()

    def stop(self) -> None:
        """Kill what runs."""
        self.stopping.set()
        for process in self._processes.copy().values():
            _kill(process)
        self._workers.shutdown(cancel_futures=True)

    def _run(self, pod: Object) -> None:
        meta = pod["metadata"]
        name, uid, labels = meta["name"], meta["uid"], meta["labels"]
        job, job_name = labels["batch.kubernetes.io/controller-uid"], labels["batch.kubernetes.io/job-name"]

        def admit() -> tuple[Object, dict[str, str]]:
            about = self._plane.request("GET", JOBS.path(self._namespace, job_name))["metadata"]["annotations"]
            variables = {entry["name"]: self._value(entry, pod) for entry in pod["spec"]["containers"][0]["env"]}
            self._plane.pods.run(self._namespace, name)
            return about, variables

        admitted = self._patiently(admit)
        if admitted is None:
            return
        about, variables = admitted
        root = self._directory / name
        code, result = self._work(pod, root, variables, self._life(labels[OPERATION_LABEL], job))
        if code == OUT_OF_MEMORY:
            self._unlucky.add(job)
        run = Run(
            job=job,
            job_name=job_name,
            owner=about[OWNER_ANNOTATION],
            owner_uid=about[OWNER_UID_ANNOTATION],
            operation=labels[OPERATION_LABEL],
            outcome=result.outcome if result else "",
            snapshot=result.snapshot.id if result and result.snapshot else "",
            finished=f"{result.finished:%FT%T}" if result else "",
        )
        with self._log.open("a") as log:
            log.write(json.dumps(asdict(run)) + "\n")
        self._processes.pop(uid, None)
        message = result.encode() if result else ""
        reason = "OOMKilled" if code == OUT_OF_MEMORY else None
        self._patiently(lambda: self._plane.pods.finish(self._namespace, name, code, message, reason))
        shutil.rmtree(root)

    def _work(
        self, pod: Object, root: Path, variables: dict[str, str], life: float | None
    ) -> tuple[int, Result | None]:
        """Run the worker in a directory, for so many seconds; return its exit code and, if it had one, its Result."""
        container = pod["spec"]["containers"][0]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for mount in container["volumeMounts"]:
            target = root / mount["mountPath"].lstrip("/")
            if host := volumes[mount["name"]].get("hostPath"):
                shutil.copytree(host["path"], target)
            else:
                target.mkdir(parents=True)
        last_word = root / "termination-log"
        argv = [sys.executable, "-c", COMMAND_ELSEWHERE, *container["args"], *(root / part for part in _PARTS)]
        surroundings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TMPDIR": str(root / "tmp"),
            TERMINATION_LOG_ENV: str(last_word),
        }
        with (self._directory / "workers.log").open("ab") as log:
            process = subprocess.Popen(argv, env=surroundings | variables, stderr=log, start_new_session=True)
        self._processes[pod["metadata"]["uid"]] = process
        try:
            process.wait(life)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
        if process.returncode < 0:
            return 128 - process.returncode, None
        return process.returncode, Result.decode(last_word.read_text())

    def _life(self, operation: str, job: str) -> float | None:
        """Return after how many seconds the worker is to be killed, if at all."""
        doomed = self._rng.random() < (0.5 if job in self._unlucky else KILLED)
        return self._rng.uniform(0.1, 1.5) if doomed and operation == Operation.BACKUP else None

    def _value(self, variable: Object, pod: Object) -> str:
        if reference := variable["valueFrom"].get("secretKeyRef"):
            path = f"/api/v1/namespaces/{self._namespace}/secrets/{reference['name']}"
            return base64.b64decode(self._plane.request("GET", path)["data"][reference["key"]]).decode()
        label = re.fullmatch(r"metadata\.labels\['(.+)'\]", variable["valueFrom"]["fieldRef"]["fieldPath"])
        assert label, variable
        return str(pod["metadata"]["labels"][label[1]])

    def _patiently(self, ask: Callable[[], T]) -> T | None:
        """Return the answer once the API server gives one; None where what is asked about is gone."""
        while not self.stopping.is_set():
            try:
                return ask()
            except AWAY as error:
                if isinstance(error, ApiError) and error.status == 404:
                    return None
            self.stopping.wait(PERIOD)
        return None


def _complain(future: "Future[None]") -> None:
    if not future.cancelled():
        future.result()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def kubelet(plane: ControlPlane, namespace: str, directory: Path, rng: Random) -> Iterator[Kubelet]:
    """Run a kubelet until the block is left."""
    directory.mkdir()
    one = Kubelet(plane, namespace, directory, rng)
    thread = threading.Thread(target=one.follow, name="kubelet")
    thread.start()
    try:
        yield one
    finally:
        one.stop()
        thread.join()
