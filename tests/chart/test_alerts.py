"""The alerts, by promtool: when they fire, when they do not, and that each has its runbook."""

import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import yaml

from tests.chart.helm import CHART, ROOT, only, render
from tests.servers.process import binary

RULES = CHART / "files" / "alerts.yaml"


def promtool(*args: str | Path) -> str:
    done = subprocess.run([binary("promtool"), *args], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_the_alerts_fire_and_clear_when_they_should(tmp_path: Path) -> None:
    # What an alert says in words is not what these histories are about.
    bare = {"groups": [{"name": "kubedr", "rules": [{**rule, "annotations": {}} for rule in alerts()]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare))
    histories = (ROOT / "tests" / "chart" / "alerts.yaml").read_text().replace("RULES", str(tmp_path / "rules.yaml"))
    (tmp_path / "histories.yaml").write_text(histories)
    promtool("check", "rules", RULES)
    promtool("test", "rules", tmp_path / "histories.yaml")


def test_every_alert_has_a_history_and_a_runbook_that_its_link_leads_to() -> None:
    histories = (ROOT / "tests" / "chart" / "alerts.yaml").read_text()
    chapters = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert chapters == [alert["alert"] for alert in alerts()]
    rule = only(
        "PrometheusRule", render({"prometheusRule": {"enabled": True, "runbookUrl": "https://docs/runbooks.md"}})
    )
    for alert in rule["spec"]["groups"][0]["rules"]:
        assert f"alertname: {alert['alert']}" in histories
        assert alert["annotations"]["runbook_url"] == f"https://docs/runbooks.md#{alert['alert'].lower()}"


def test_every_metric_that_an_alert_asks_for_is_one_that_the_controller_has() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for alert in alerts():
        for metric in re.findall(r"\b(?:kubedr|leader)_\w+", alert["expr"]):
            assert f'"{metric}"' in source, f"{metric}, of {alert['alert']}"


def test_the_documented_scrape_configuration_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    block = text[text.index("    scrape_configs:") :].partition("\n\n")[0]
    # Debian builds its Prometheus without the discovery of Kubernetes; all else is looked at.
    block = re.sub(r"kubernetes_sd_configs: .*", "static_configs: [{targets: ['localhost:8080']}]", block)
    (tmp_path / "prometheus.yml").write_text(textwrap.dedent(block))
    promtool("check", "config", tmp_path / "prometheus.yml")
