"""Writes manifests/ from the chart, for those who install with kustomize: `make docs`.

A file there has the name of the template that it comes from. What only Helm needs is left out, and so is the namespace,
which a kustomization sets.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.chart.helm import rendered

VALUES = {
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    "crds": {"enabled": False},
}
PLACES = {
    "controller": ("serviceaccount", "rbac", "cluster-identity", "deployment", "service", "networkpolicy"),
    "components/monitoring": ("servicemonitor", "prometheusrule", "dashboard"),
    "components/high-availability": ("poddisruptionbudget",),
}
_NOT_KUSTOMIZE = re.compile(
    r"^    (app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n|^(  |    )namespace: kubedr-system\n", re.MULTILINE
)


_OWN = 'namespace="kubedr-system"'
"""In alerts, which here are for all namespaces, as a kustomization does not put its own into an expression."""


def manifests() -> Iterator[tuple[str, str]]:
    """Yield each file, by its path below manifests/, with its text."""
    documents: dict[str, list[str]] = {}
    for document in rendered(VALUES).split("---\n"):
        source, _, text = document.partition("\n")
        text = _NOT_KUSTOMIZE.sub("", text).replace(f"{{{_OWN}}}", "").replace(f"{_OWN},", "").strip()
        documents.setdefault(source.rpartition("/")[2], []).append(f"{text}\n")
    for directory, files in PLACES.items():
        for file in files:
            yield f"{directory}/{file}.yaml", "---\n".join(documents[f"{file}.yaml"])


if __name__ == "__main__":
    for path, text in manifests():
        Path(sys.argv[1], path).write_text(text)
