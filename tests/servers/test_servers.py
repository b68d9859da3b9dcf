"""The servers do what the tests that stand on them take for granted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers.apiserver import ApiError, ControlPlane
from tests.servers.process import ServerError, running

JOB: dict[str, Any] = {
    "metadata": {"name": "played"},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "worker", "image": "example.invalid/worker"}]}
        },
    },
}


@pytest.mark.parametrize(("exit_code", "condition"), [(0, "Complete"), (1, "Failed")])
def test_a_job_ends_as_its_pod_is_played(
    control_plane: ControlPlane, namespace: str, exit_code: int, condition: str
) -> None:
    control_plane.request("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", JOB)
    pod = control_plane.pods.of_job(namespace, "played")
    control_plane.pods.wait(namespace, pod, "ContainerCreating")
    control_plane.pods.run(namespace, pod)
    control_plane.pods.finish(namespace, pod, exit_code, "the last word")
    control_plane.kubectl("wait", "-n", namespace, f"--for=condition={condition}", "job/played", "--timeout=20s")
    status = json.loads(control_plane.kubectl("get", "pod", "-n", namespace, pod, "-o", "json"))["status"]
    assert status["containerStatuses"][0]["state"]["terminated"]["message"] == "the last word"


def test_an_evicted_and_an_unschedulable_pod_say_so(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.request("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", JOB)
    pod = control_plane.pods.of_job(namespace, "played")
    control_plane.pods.unschedulable(namespace, pod, "0/1 nodes are available")
    control_plane.pods.evict(namespace, pod)
    status = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")["status"]
    assert (status["reason"], status["conditions"][0]["reason"]) == ("Evicted", "Unschedulable")


def test_refusals_are_raised_with_their_http_status(control_plane: ControlPlane) -> None:
    with pytest.raises(ApiError) as refused:
        control_plane.request("GET", "/api/v1/namespaces/absent")
    assert refused.value.status == 404


def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such flag')"]
    with (
        pytest.raises(ServerError, match=r"exit code 1(.|\n)*no such flag"),
        running(argv, log=tmp_path / "x.log", ready=bool),
    ):
        pytest.fail("entered")


def test_a_server_is_gone_when_its_block_is_left_by_an_error(tmp_path: Path) -> None:
    marker = f"sleep-{tmp_path.name}"
    argv = [sys.executable, "-c", "import time; time.sleep(60)", marker]
    with pytest.raises(ZeroDivisionError), running(argv, log=tmp_path / "x.log", ready=lambda: True):
        raise ZeroDivisionError
    assert marker not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
