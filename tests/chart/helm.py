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


def helm(*args: str | Path) -> str:
    """Run helm and return what it prints; its complaint is raised."""
    done = subprocess.run([binary("helm"), *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{done.stderr}{done.stdout}".strip())
    return done.stdout


def render(values: Object | None = None, *, release: str = "kubedr", namespace: str = "kubedr-system") -> list[Object]:
    """Return the objects that an installation with these values has."""
    given = ["--values", "-"] if values else []
    done = subprocess.run(
        [
            binary("helm"),
            "template",
            release,
            CHART,
            f"--namespace={namespace}",
            f"--kube-version={KUBERNETES}",
            *given,
        ],
        input=yaml.safe_dump(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def only(kind: str, objects: list[Object]) -> Object:
    """Return the one object of that kind."""
    (found,) = (item for item in objects if item["kind"] == kind)
    return found
