"""The chart on a real API server, by the real helm: installed, upgraded, rolled back, uninstalled."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.helm import CHART, Object, helm
from tests.chart.test_rendering import EVERYTHING
from tests.pages import blocks
from tests.servers.apiserver import ApiError, ControlPlane, control_plane
from tests.servers.process import BINARIES

MERGE = "application/merge-patch+json"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backuplocations.kubedr.catalogicsoftware.com"


@pytest.fixture(name="bare", scope="module")
def _bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane without our kinds."""
    with control_plane(tmp_path_factory.mktemp("chart")) as plane:
        yield plane


def test_it_is_installed_upgraded_with_its_definitions_rolled_back_and_uninstalled(
    bare: ControlPlane, tmp_path: Path
) -> None:
    def release(*args: str | Path) -> str:
        return helm(*args, "--namespace=backup", f"--kubeconfig={bare.kubeconfig}")

    release("install", "kubedr", CHART, "--create-namespace")
    deployment = "/apis/apps/v1/namespaces/backup/deployments/kubedr-controller"
    assert bare.request("GET", deployment)["spec"]["replicas"] == 1

    # A cluster that still has an older definition.
    bare.request("PATCH", DEFINITION, {"spec": {"names": {"shortNames": ["old"]}}}, content_type=MERGE)
    values = tmp_path / "values.yaml"
    monitors = {name: {"enabled": False} for name in ("serviceMonitor", "podMonitor", "prometheusRule")}
    hooked: dict[str, Object] = {"locations": {}, "policies": {}}  # without a node the hook's pod would never run
    values.write_text(yaml.safe_dump(EVERYTHING | monitors | hooked))
    release("upgrade", "kubedr", CHART, "--values", values)
    assert bare.request("GET", DEFINITION)["spec"]["names"]["shortNames"] == ["bl"]
    assert bare.request("GET", deployment)["spec"]["replicas"] == 2

    location = {
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
        "kind": "BackupLocation",
        "metadata": {"name": "kept", "namespace": "backup"},
        "spec": {"url": "http://s3:9000", "bucketName": "bucket", "credentials": "creds"},
    }
    bare.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(location))
    release("rollback", "kubedr", "1")
    assert bare.request("GET", deployment)["spec"]["replicas"] == 1
    release("uninstall", "kubedr")
    with pytest.raises(ApiError, match="404"):
        bare.request("GET", deployment)
    assert bare.kubectl("-n", "backup", "get", "backuplocation", "kept", "-o", "name")

    (script,) = [text for text in blocks("uninstall.md", "sh") if "delete customresourcedefinitions" in text]
    subprocess.run(
        ["/bin/sh", "-ec", script], env={"PATH": str(BINARIES), "KUBECONFIG": str(bare.kubeconfig)}, check=True
    )
    with pytest.raises(ApiError, match="404"):
        bare.request("GET", DEFINITION)
