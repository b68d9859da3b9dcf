"""What docs/ has people apply and run, applied and run."""

import json
import os
import re
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from tests.pages import DOCS, blocks, rows
from tests.servers.apiserver import ControlPlane
from tests.servers.process import BINARIES

MANIFESTS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(blocks(page.name, "yaml"))
]
KEYS = ("ca.crt", "client.crt", "client.key")
MAKING_SECRETS = [text for text in blocks("distributions.md", "sh") if "create secret generic etcd-creds" in text]
STUBS = {"docker": 'shift 2 && exec "$@"', "talosctl": 'test "$1" = read && exec cat "$3"'}
"""What the commands call beside kubectl: `docker exec NODE COMMAND…` and `talosctl read --nodes=NODE FILE`."""


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_each_manifest_is_valid(plane: ControlPlane, namespace: str, manifest: str) -> None:
    text = manifest.replace("kubedr-system", namespace)
    plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@pytest.mark.parametrize("script", MAKING_SECRETS)
def test_each_command_makes_the_secret_and_makes_it_anew(
    plane: ControlPlane, namespace: str, tmp_path: Path, script: str
) -> None:
    node, here, programs = tmp_path / "node", tmp_path / "here", tmp_path / "bin"
    paths = set(re.findall(r"(?<==| )/(?:etc|var|system)/[\w./-]+", script.replace("$file", "")))
    names = re.findall(r"^for file in (.*); do$", script, re.MULTILINE)
    files = [node / f"{path}{name}"[1:] for path in paths for name in (names[0].split() if names else [""])]
    here.mkdir()
    programs.mkdir()
    for program, body in STUBS.items():
        (programs / program).write_text(f"#!/bin/sh\n{body}\n")
        (programs / program).chmod(0o755)
    script = re.sub(r"(?<==| )/(etc|var|system)/", rf"{node}/\1/", script.replace("kubedr-system", namespace))
    for issue in ("the first", "renewed"):
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"/{file.relative_to(node)} {issue}")
        subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=here,
            env={
                "PATH": f"{programs}:{BINARIES}:{os.environ['PATH']}",
                "KUBECONFIG": str(plane.kubeconfig),
                "HOME": str(tmp_path),
            },
            check=True,
        )
    data = json.loads(plane.kubectl("-n", namespace, "get", "secret", "etcd-creds", "-o", "json"))["data"]
    sources = [Path(b64decode(data.pop(key)).decode().removesuffix(" renewed")) for key in KEYS]
    assert not data
    assert not list(here.iterdir())
    (directory,) = {source.parent for source in sources}
    tabled = [row[2] for row in rows("distributions.md", "distribution")]
    named = f"`{directory}/`: " + ", ".join(f"`{source.name}`" for source in sources)
    assert named in tabled or directory == Path("/system/secrets/etcd")


def test_the_table_and_the_policies_name_the_same_directories_and_labels() -> None:
    shown = "\n".join(blocks("distributions.md", "yaml"))
    for distribution, *_, directory, label, _ in rows("distributions.md", "distribution"):
        for name in re.findall(r"`(/[^`]+)`", directory) + re.findall(r"`(node-role[^`]+)`", label):
            assert f": {name}\n" in shown, distribution
