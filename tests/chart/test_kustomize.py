"""manifests/, for those who install with kustomize: the same as the chart, and components that go with it."""

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from tests.chart.helm import ROOT, Object, documents, only, render
from tests.chart.manifests import manifests
from tests.chart.test_audit import FOREIGN, NEWEST, OLDEST
from tests.servers.process import binary

MANIFESTS = ROOT / "manifests"
OVERLAY = MANIFESTS / "overlays" / "other-namespace"


def kustomize(directory: Path) -> list[Object]:
    done = subprocess.run([binary("kubectl"), "kustomize", directory], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return documents(done.stdout)


def substance(objects: list[Object]) -> dict[tuple[str, str, str], Object]:
    """Return the objects by kind, namespace and name, without the labels that say who installed them."""
    found = {}
    for item in objects:
        meta = item["metadata"]
        labels = {name for name in meta.get("labels", {}) if name.endswith("managed-by") or name.startswith("helm.sh/")}
        kept = {name: value for name, value in meta.get("labels", {}).items() if name not in labels}
        annotations = {name: value for name, value in meta.get("annotations", {}).items() if "helm.sh/" not in name}
        body = {**item, "metadata": {**meta, "labels": kept, "annotations": annotations}}
        found[item["kind"], meta.get("namespace", ""), meta["name"]] = body
    return found


def test_the_files_are_those_that_the_chart_makes() -> None:
    for path, text in manifests():
        assert (MANIFESTS / path).read_text() == text, f"{path}: run 'make docs'"


def test_what_is_installed_is_what_the_chart_installs() -> None:
    installed = [item for item in kustomize(MANIFESTS) if item["kind"] != "Namespace"]
    charted = [item for item in render() if item["metadata"]["name"] != "kubedr-check"]
    assert substance(installed) == substance(charted)


def test_an_overlay_moves_all_of_it_to_another_namespace() -> None:
    objects = kustomize(OVERLAY)
    assert "kubedr-system" not in str([item for item in objects if item["kind"] not in ("ConfigMap", *FOREIGN)])
    places = {item["metadata"].get("namespace") for item in objects if item["metadata"]["name"] == "kubedr-controller"}
    assert places == {"backup"}
    assert only("Namespace", objects)["metadata"]["name"] == "backup"
    assert only("Deployment", objects)["spec"]["replicas"] == 2
    assert only("PodDisruptionBudget", objects)["spec"]["minAvailable"] == 1
    identity = "kubedr-cluster-identity-backup"
    assert only("Role", objects, name=identity)["metadata"]["namespace"] == "kube-system"
    assert only("RoleBinding", objects, name=identity)["subjects"][0]["namespace"] == "backup"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("directory", [MANIFESTS, OVERLAY], ids=["default", "overlay"])
def test_kubernetes_own_schemas_accept_them(directory: Path, version: str) -> None:
    for item in kustomize(directory):
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, version, strict=True)
