"""Writes the chart's README from the comments in values.yaml: `make docs`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

INTRODUCTION = """# KubeDR's Helm chart

    helm upgrade --install kubedr charts/kubedr --namespace kubedr-system --create-namespace \\
      --set image.repository=registry.example.com/kubedr
    kubectl label namespace kubedr-system pod-security.kubernetes.io/enforce=privileged --overwrite

One release watches its own namespace. The CustomResourceDefinitions are part of the release, so that `helm upgrade`
upgrades them, and stay when it is uninstalled, with all backup records in them. Of several releases in a cluster, in
namespaces of their own, one has them; the others set `crds.enabled: false`.

What is installed for Prometheus' operator and for Grafana is there only if it is asked for: charts cannot tell, when
they are rendered without a cluster, whether these will be.

## Values

| value | default | what it is |
|---|---|---|
"""


def described_values(path: Path) -> Iterator[tuple[str, Any, str]]:
    """Yield each value with its default and the comment `# -- …` above it."""
    values = yaml.safe_load(path.read_text())
    parents: list[tuple[int, str]] = []
    described: dict[str, str] = {}
    comment = ""
    for line in path.read_text().splitlines():
        if match := re.match(r" *# -- (.*)", line):
            comment = match[1]
        elif match := re.match(r"( *)(\w+):", line):
            depth = len(match[1])
            parents = [parent for parent in parents if parent[0] < depth]
            parents.append((depth, match[2]))
            if comment:
                described[".".join(name for _, name in parents)] = comment
            comment = ""

    def leaves(value: Any, name: str) -> Iterator[tuple[str, Any, str]]:
        if name in described or not isinstance(value, dict):
            yield name, value, described.get(name, "")
            return
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else key)

    yield from leaves(values, "")


def readme(chart: Path) -> str:
    """Return the README."""
    rows = (
        f"| `{name}` | `{yaml.safe_dump(default, default_flow_style=True).split(chr(10))[0].strip()}` | {description} |"
        for name, default, description in described_values(chart / "values.yaml")
    )
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    (directory / "README.md").write_text(readme(directory))
