"""The two images of the bed: our own, from the Containerfile, and the node's, where kind's cannot be pulled.

Both are named after what they are made of, so that what has not changed is not built again.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e import binaries, docker
from e2e.binaries import KIND, KUBERNETES
from e2e.machine import BIN, CACHE, REPOSITORY, run, step

_NODE = Path(__file__).parent / "node"
_CONTEXT = (
    *("Containerfile", ".dockerignore", "pyproject.toml"),
    *("requirements/image.txt", "requirements/runtime.txt", "src"),
)


def controller_image() -> str:
    """Build the image of controller and worker and return its tag."""
    tag = f"kubedr:{_digest(REPOSITORY / name for name in _CONTEXT)}"
    if not docker.has_image(tag):
        base = docker.debian_image("trixie")
        with step(f"build {tag}"):
            docker.build(tag, REPOSITORY, REPOSITORY / "Containerfile", base=base)
            docker.forget_others(tag)
    return tag


def node_image() -> str:
    """Return the tag of an image for kind's nodes: kind's own, or one built here."""
    tag = f"kubedr/node:{KUBERNETES}-{_digest([_NODE], repr(binaries.MODULES))}"
    if docker.has_image(tag):
        return tag
    if docker.registry_has(official := f"kindest/node:{KUBERNETES}"):
        return official
    binaries.ensure(*binaries.FOR_NODES)
    base = docker.debian_image("bookworm")
    with step(f"build {tag}"), TemporaryDirectory(dir=CACHE) as scratch:
        context = Path(scratch)
        shutil.copytree(_NODE, context, dirs_exist_ok=True)
        shutil.copytree(Path(binaries.module("sigs.k8s.io/kind", KIND)["Dir"], "images/base/files"), context / "kind")
        shutil.rmtree(context / "kind" / "etc" / "containerd")
        (context / "bin").mkdir()
        for name in binaries.FOR_NODES:
            os.link(BIN / name, context / "bin" / name)
        listed = run(BIN / "kubeadm", "config", "images", "list", f"--kubernetes-version={KUBERNETES}").split()
        for image in listed:
            name = image.rpartition("/")[2].partition(":")[0]
            target = name if name in ("coredns", "pause") else "component"
            docker.build(image, context, context / "Containerfile", target=target, base=base)
        run("docker", "save", "--output", context / "components.tar", *listed)
        run("docker", "image", "rm", *listed)
        settings = context / "containerd.toml"
        settings.write_text(
            settings.read_text().replace("@PAUSE@", next(image for image in listed if "/pause:" in image))
        )
        (context / "version").write_text(KUBERNETES)
        docker.build(tag, context, context / "Containerfile", target="node", base=base)
        docker.forget_others(tag)
    return tag


def _digest(paths: Iterable[Path], more: str = "") -> str:
    """Hash files, and those below folders, with their names; and a text."""
    files = sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    digest = hashlib.sha256(more.encode())
    for file in files:
        if file.suffix != ".pyc":
            digest.update(f"{file.relative_to(REPOSITORY)} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
