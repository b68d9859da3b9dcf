"""What others' tools have to say of what is installed, and of the Jobs that the controller makes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kubedr_ctrl.api.location import BackupLocation
from kubedr_ctrl.api.policy import MetadataBackupPolicy
from kubedr_ctrl.jobs.backup import backup_cronjob
from kubedr_ctrl.jobs.template import WorkerSetup
from tests.chart.helm import CHART, Object, hooks, render, rendered
from tests.chart.test_rendering import EVERYTHING
from tests.servers.process import binary

OLDEST = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].strip(">=-0")
NEWEST = kubernetes_validate.latest_version()
FOREIGN = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
"""Kinds of Prometheus' operator, which Kubernetes' schemas do not have."""

EXCEPTIONS = {
    "CKV_K8S_8": "helm test's pod runs to its end, so there is no liveness to probe; the controller has its probe.",
    "CKV_K8S_9": "Nor readiness.",
    "CKV_K8S_11": "A CPU limit would slow the controller down on idle nodes; its request holds its share.",
    "CKV_K8S_15": "Always would keep Jobs from starting while the registry is away; a release's tag never moves.",
    "CKV_K8S_38": "Controller and hooks need their token: they talk to the API server. Jobs of backups have none.",
    "CKV_K8S_43": "image.digest is the user's to give: a chart that is built from source knows none.",
}
"""What checkov finds and is right as it is."""


def a_cronjob() -> Object:
    """The CronJob of a policy, as the controller makes it."""
    place = {"url": "https://s3.example.com", "bucketName": "bucket", "credentials": "creds"}
    location = BackupLocation.model_validate({"metadata": {"name": "loc", "uid": "l"}, "spec": place})
    wanted = {
        "destination": "loc",
        "schedule": "@daily",
        "timeZone": "Europe/Berlin",
        "certsDir": "/etc/kubernetes/pki",
    }
    policy = MetadataBackupPolicy.model_validate({"metadata": {"name": "nightly", "uid": "p"}, "spec": wanted})
    return backup_cronjob(policy, location, "cluster", WorkerSetup("kubedr:1"))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_kubernetes_own_schemas_accept_what_is_installed(values: Object, version: str) -> None:
    for item in [*render(values), *hooks(values), a_cronjob()]:
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, version, strict=True)


def test_the_validation_can_fail() -> None:
    (deployment,) = (item for item in render() if item["kind"] == "Deployment")
    deployment["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


def checkov(path: Path) -> set[str]:
    """Return the IDs of the checks that failed."""
    done = subprocess.run(
        [binary("checkov"), "--file", path, "--framework=kubernetes", "--output=json", "--quiet", "--skip-download"],
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["passed"] > 50, done.stdout[-1000:]
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def test_checkov_finds_nothing_but_what_is_explained(tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text(rendered())
    assert checkov(tmp_path / "release.yaml") == EXCEPTIONS.keys()
