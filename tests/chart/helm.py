"""The chart, rendered and installed by the real helm."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.servers.process import binary

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "kubedr"
KUBERNETES = "1.34.0"
"""What is rendered for: without a cluster helm would take a version of its own choice."""

Object = dict[str, Any]


def helm(*args: str | Path, stdin: str = "", program: str = "helm") -> str:
    """Run helm and return what it prints; its complaint is raised."""
    done = subprocess.run([binary(program), *args], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{done.stderr}{done.stdout}".strip())
    return done.stdout


def rendered(values: Object | None = None, *, namespace: str = "kubedr-system", program: str = "helm") -> str:
    """Return what `helm template` prints for an installation with these values."""
    given = ("--values=-", f"--namespace={namespace}", f"--kube-version={KUBERNETES}")
    return helm("template", "kubedr", CHART, *given, stdin=yaml.safe_dump(values or {}), program=program)


def render(values: Object | None = None, *, namespace: str = "kubedr-system") -> list[Object]:
    """Return the objects that an installation with these values has and keeps."""
    return [item for item in documents(rendered(values, namespace=namespace)) if not _hook(item)]


def hooks(values: Object | None = None) -> list[Object]:
    """Return the objects that are there for a moment only, as helm installs, upgrades or tests."""
    return [item for item in documents(rendered(values)) if _hook(item)]


def documents(text: str) -> list[Object]:
    """Return the objects in a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


def _hook(item: Object) -> bool:
    return "helm.sh/hook" in (item["metadata"].get("annotations") or {})


def only(kind: str, objects: list[Object], *, name: str = "") -> Object:
    """Return the one object of that kind, and of that name if one is given."""
    (found,) = (item for item in objects if item["kind"] == kind and name in ("", item["metadata"]["name"]))
    return found
