"""What Flux and Argo CD are given: values that the chart takes, and the health of our kinds."""

from datetime import UTC, datetime
from typing import Any

import lupa
import pytest
import yaml

from kubedr_ctrl.reconcilers.plan import State, broken, conditions, progressing, ready
from tests.chart.helm import ROOT, only, render

GITOPS = ROOT / "manifests" / "gitops"
FLUX = {item["kind"]: item for item in yaml.safe_load_all((GITOPS / "flux.yaml").read_text())}
HEALTH = yaml.safe_load(yaml.safe_load((GITOPS / "argocd-cm.yaml").read_text())["data"]["resource.customizations"])
ARGO = yaml.safe_load((GITOPS / "argocd.yaml").read_text())


def test_the_chart_takes_the_values_of_both() -> None:
    for values in (FLUX["HelmRelease"]["spec"]["values"], ARGO["spec"]["source"]["helm"]["valuesObject"]):
        assert only("Deployment", render(values))["spec"]["replicas"] == 2


def test_both_look_for_the_chart_where_it_is() -> None:
    for path in (FLUX["HelmRelease"]["spec"]["chart"]["spec"]["chart"], ARGO["spec"]["source"]["path"]):
        assert (ROOT / path / "Chart.yaml").exists()


def health(state: State | None, *, generation: int = 1) -> tuple[str, str]:
    """Return what Argo CD makes of a resource whose controller last saw generation 1."""
    status: dict[str, Any] = {"observedGeneration": 1}
    if state:
        current = conditions((), state, generation=1, now=datetime(2026, 1, 30, tzinfo=UTC))
        status["conditions"] = [condition.wire() for condition in current]
    resource = {"metadata": {"generation": generation}, "status": status if state else {}}
    lua = lupa.LuaRuntime()
    lua.globals().obj = lua.table_from(resource, recursive=True)
    answer = lua.execute(HEALTH["kubedr.catalogicsoftware.com/*"]["health.lua"])
    return answer["status"], answer["message"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (ready("BackupSucceeded", "all is well"), ("Healthy", "all is well")),
        (ready("Suspended", "paused"), ("Suspended", "paused")),
        (progressing("Initializing", "not yet"), ("Progressing", "not yet")),
        (broken("BackupFailed", "the disk is full"), ("Degraded", "the disk is full")),
        (None, ("Progressing", "the controller has yet to look at it")),
    ],
)
def test_argo_cd_reads_the_health_off_the_conditions(state: State | None, expected: tuple[str, str]) -> None:
    assert health(state) == expected


def test_argo_cd_waits_until_the_controller_has_seen_an_edit() -> None:
    assert health(ready("BackupSucceeded", "all is well"), generation=2)[0] == "Progressing"
