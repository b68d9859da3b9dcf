"""The dashboard: each of its queries is put to a real Prometheus, which scrapes two replicas of the real controller."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from string import Template
from typing import Any

import pytest

from kubedr_ctrl.api.result import Operation
from tests.chart.helm import CHART, ROOT, only, render
from tests.chart.test_alerts import RULES
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import failure, installed, report
from tests.servers.prometheus import Prometheus, prometheus

Object = dict[str, Any]

DASHBOARD: Object = json.loads((CHART / "files" / "dashboard.json").read_text())
PANELS: list[Object] = [inner for panel in DASHBOARD["panels"] for inner in (panel, *panel.get("panels", []))]
QUERIES = {
    f"{panel['title']}, {target['refId']}": str(target["expr"])
    for panel in PANELS
    for target in panel.get("targets", [])
}
VARIABLES: dict[str, Object] = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
SEEN = "count_over_time((max(kubedr_num_{}) == {})[5m:])"
"""Where subqueries will find it, too: they look at full seconds only."""
EVERYTHING = {name: str(VARIABLES[name]["allValue"]) for name in ("namespace", "policy")}


@dataclass(frozen=True)
class Scene:
    """One policy with a good backup, and one that failed while nobody led and that another replica took in."""

    prometheus: Prometheus
    namespace: str

    def chosen(self, query: str, **variables: str) -> str:
        """Return the query as Grafana asks it; a variable that Grafana would not know is an error."""
        shown = {"__range": "5m", "__rate_interval": "5m"}
        return Template(query).substitute(EVERYTHING | shown | variables)

    def value(self, name: str) -> float | None:
        """Return the one value of that query."""
        return self.prometheus.value(self.chosen(QUERIES[name]))


@pytest.fixture(name="scene", scope="module")
def _scene(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("dashboard")
    with installed(plane, directory) as kubedr:
        first, second = (kubedr.another(name, KUBEDR_LEASE_DURATION_SECONDS="3") for name in ("first", "second"))
        first.start()
        kubedr.wait_for(first.leads, "the first to lead")
        with prometheus(directory, [first.port, second.port], {"namespace": kubedr.namespace}, RULES) as server:
            kubedr.scheduled("nightly")
            kubedr.wait_for(lambda: server.query(SEEN.format("backups", 0)), "Prometheus to know of no backup")
            kubedr.finish(kubedr.backup_now("nightly", "good"), report(Operation.BACKUP))
            kubedr.recorded("good")

            kubedr.backup_now("nightly", "bad")
            first.stop()
            kubedr.finish("bad", failure(Operation.BACKUP, "Fatal: wrong password"))
            kubedr.wait_for(lambda: kubedr.get("Job", "bad")["status"].get("conditions"), "the Job to end")
            second.start()
            kubedr.recorded("bad")
            first.start()
            kubedr.wait_for(first.ready, "the first to stand by")

            kubedr.wait_for(lambda: server.query(SEEN.format("failed_backups", 1)), "Prometheus to know of the failure")
            kubedr.wait_for(lambda: server.query("count(kubedr_build_info) == 2"), "Prometheus to see both replicas")
            kubedr.wait_for(lambda: server.query('ALERTS{alertname="KubedrBackupFailed"}'), "the alert to be pending")
            yield Scene(server, kubedr.namespace)


@pytest.mark.parametrize("policy", [EVERYTHING["policy"], "nightly", "(nightly|other)"])
def test_every_query_is_answered_whatever_is_chosen(scene: Scene, policy: str) -> None:
    for namespace in (EVERYTHING["namespace"], scene.namespace):
        queries = {name: scene.chosen(query, namespace=namespace, policy=policy) for name, query in QUERIES.items()}
        assert not [name for name, query in queries.items() if not scene.prometheus.query(query)]


def test_a_policy_that_is_not_chosen_is_not_shown(scene: Scene) -> None:
    queries = {name: scene.chosen(query, policy="other") for name, query in QUERIES.items() if "$policy" in query}
    assert queries
    assert not [name for name, query in queries.items() if scene.prometheus.query(query)]


def test_every_variable_has_values(scene: Scene) -> None:
    found = {}
    for name in EVERYTHING:
        query = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]["query"]["query"])
        assert query
        found[name] = scene.prometheus.label_values(query[2], scene.chosen(query[1]))
    assert found == {"namespace": [scene.namespace], "policy": ["nightly"]}


def test_every_metric_that_is_asked_for_is_one_that_the_controller_has(scene: Scene) -> None:
    asked = {name for query in QUERIES.values() for name in re.findall(r"\b[a-z]+_[a-z_]*[a-z]\b(?=[{ ])", query)}
    assert "kubedr_backup_overdue" in asked
    assert asked <= {*scene.prometheus.label_values("__name__")}


def test_what_it_tells_at_a_glance_is_true_with_two_replicas(scene: Scene) -> None:
    assert scene.value("Overdue, A") == 0
    assert scene.value("Latest backup failed, A") == 1
    assert scene.value("Never succeeded, A") == 0
    assert scene.value("Locations not ready, A") == 0
    assert scene.value("Controller, A") == 1


def test_its_history_has_each_backup_once_though_the_leader_changed(scene: Scene) -> None:
    assert scene.value("Good backups, A") == 1
    assert scene.value("Failed backups, A") == 1
    assert scene.value("Duration, A") == pytest.approx(0.318463127)


def test_it_can_be_imported_as_it_is() -> None:
    # What Grafana writes when a dashboard is exported for others, and asks about when that is imported.
    assert not DASHBOARD.keys() & {"__inputs", "__requires", "id"}
    for panel in PANELS:
        assert panel.get("datasource", {}).get("uid", "${datasource}") == "${datasource}", panel["title"]
    ids = [panel["id"] for panel in PANELS]
    assert len({*ids}) == len(ids)


def test_every_panel_says_what_it_is_and_what_no_data_means() -> None:
    for panel in PANELS:
        if panel["type"] != "row":
            assert panel["description"]
        if "targets" in panel:
            assert panel["fieldConfig"]["defaults"]["noValue"]


def test_no_panel_lies_on_another() -> None:
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_the_chart_installs_it_with_a_link_to_the_runbooks() -> None:
    link = "https://example.com/runbooks.md"
    values = {"dashboards": {"enabled": True}, "prometheusRule": {"runbookUrl": link}}
    written = json.dumps(DASHBOARD)
    assert (ROOT / "docs" / "runbooks.md").exists()
    assert "docs/runbooks.md" in written
    installed_ = json.loads(only("ConfigMap", render(values))["data"]["kubedr.json"])
    assert installed_ == json.loads(written.replace("docs/runbooks.md", link))
