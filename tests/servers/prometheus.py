"""A real Prometheus on loopback that scrapes what it is told to, once a second."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.servers.process import LOOPBACK, binary, free_port, running


class Prometheus:
    """A running Prometheus. What it refuses is raised with its own words."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ready(self) -> bool:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/-/ready", timeout=5) as response:
            return bool(response.status == 200)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that the expression has now."""
        series: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return series

    def value(self, expression: str) -> float | None:
        """Return the value of the one series that the expression has now, if it has one."""
        values = [float(series["value"][1]) for series in self.query(expression)]
        assert len(values) <= 1, f"{expression} has {values}"
        return values[0] if values else None

    def label_values(self, label: str, *selectors: str) -> list[str]:
        """Return the values that the label has in the selected series, or in all of them."""
        values: list[str] = self._get(f"label/{label}/values", **{"match[]": selectors})
        return values

    def _get(self, what: str, **parameters: str | tuple[str, ...]) -> Any:
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/api/v1/{what}?{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{parameters}: {error.read().decode()}") from error


@contextmanager
def prometheus(directory: Path, ports: Sequence[int], labels: dict[str, str], rules: Path) -> Iterator[Prometheus]:
    """Run Prometheus; it scrapes these ports, and adds these labels."""
    targets = {"targets": [f"{LOOPBACK}:{port}" for port in ports], "labels": labels}
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "kubedr", "static_configs": [targets]}],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    server = Prometheus(port)
    argv: list[str | Path] = [
        binary("prometheus"),
        f"--config.file={directory / 'prometheus.yaml'}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]
    with running(argv, log=directory / "prometheus.log", ready=server.ready):
        yield server
