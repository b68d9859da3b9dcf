"""The image by itself: what is in it, and that whoever builds it again, by docker or buildah, gets the same."""

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import debian, docker, images
from e2e.machine import REPOSITORY, run
from e2e.pages import blocks
from kubedr_ctrl import __version__

PAGE = "docs/installation.md"
SBOM = "/usr/share/doc/kubedr/sbom.cdx.json"
AGAIN = "kubedr-again:test"

Entry = tuple[bytes, int, int, int, float, str, str]
"""Type, mode, owner, group, time, target and SHA-256 of a file in an image."""


@pytest.fixture(scope="module", autouse=True)
def _daemon() -> Iterator[None]:
    with docker.daemon():
        yield


@pytest.fixture(scope="module")
def image() -> str:
    """The image of this working tree."""
    return images.controller_image()


@pytest.fixture(scope="module")
def again() -> Iterator[str]:
    """The same, built anew as the page says."""
    more = ["--no-cache", "--network=host", f"--build-arg=BASE={docker.debian_image('trixie')}", *docker.secrets()]
    run("bash", "-c", _command("docker build", AGAIN, *more), cwd=REPOSITORY)
    yield AGAIN
    run("docker", "image", "rm", AGAIN)


def in_image(image: str, *command: str) -> str:
    """Run a command as pods do: read-only, as the image's own user."""
    limits = ("--network=none", "--read-only", "--cap-drop=ALL")
    return run("docker", "run", "--rm", *limits, "--env=KUBEDR_TERMINATION_LOG=/dev/stdout", image, *command)


def test_it_is_as_small_as_the_page_says(image: str) -> None:
    stated = re.search(r"less than (\d+) MB, and less than (\d+) MB to pull", (REPOSITORY / PAGE).read_text())
    assert stated
    [found] = json.loads(run("docker", "image", "inspect", image))
    compressed = run("bash", "-c", f"set -o pipefail; docker save {image} | gzip | wc -c")
    assert found["Size"] < int(stated[1]) * 10**6
    assert int(compressed) < int(stated[2]) * 10**6


def test_its_user_is_nobody_in_particular(image: str) -> None:
    assert in_image(image, "python", "-c", "import os; print(os.getuid(), os.getgid())") == "65532 65532\n"


def test_kubedrctl_starts(image: str) -> None:
    assert in_image(image, "kubedrctl", "--version") == f"kubedrctl, version {__version__}\n"


def test_the_worker_starts(image: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as ended:
        in_image(image, "kubedr-worker", '{"operation": "init"}')
    assert "the task cannot be read" in ended.value.stdout


def test_the_controller_starts_and_looks_for_a_cluster(image: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as ended:
        in_image(image)
    assert "Invalid kube-config file" in ended.value.stderr


def test_certificate_authorities_are_found_by_python(image: str) -> None:
    """Python looks for them in a directory, by hash; restic reads one file."""
    found = "import pathlib, ssl; print(len([*pathlib.Path(ssl.get_default_verify_paths().capath).glob('*.0')]))"
    assert int(in_image(image, "python", "-c", found)) > 100
    assert "BEGIN CERTIFICATE" in in_image(image, "cat", "/etc/ssl/certs/ca-certificates.crt")


def test_names_are_looked_up_in_the_hosts_file_first(image: str) -> None:
    """As Kubernetes' hostAliases rely on; without this file the C library asks DNS first."""
    assert re.search(r"^hosts:\s+files dns", in_image(image, "cat", "/etc/nsswitch.conf"), re.MULTILINE)


def test_the_labels_say_what_it_is(image: str) -> None:
    [found] = json.loads(run("docker", "image", "inspect", image))
    labels = {key.removeprefix("org.opencontainers.image."): text for key, text in found["Config"]["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    base, _, digest = docker.debian_image("trixie").partition("@")
    assert (labels["base.name"], labels.get("base.digest", "")) == (base, digest)


def test_the_sbom_names_all_that_is_in_it_and_no_more(image: str) -> None:
    """That it keeps to its schema is seen to when the image is built."""
    sbom: dict[str, Any] = json.loads(in_image(image, "cat", SBOM))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.7")
    stated = {
        (part["purl"].split("/")[0], part["name"], part["version"]) for part in sbom["components"] if "purl" in part
    }
    installed = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    packages = {line.partition(" ") for line in in_image(image, "python", "-c", installed).splitlines()}
    status = in_image(image, "cat", "/var/lib/dpkg/status")
    known = re.findall(r"^Package: (\S+)$.*?^Version: (\S+)$", status, re.MULTILINE | re.DOTALL)
    assert {(name, version) for kind, name, version in stated if kind == "pkg:pypi"} == {
        (name, version) for name, _, version in packages
    }
    assert len(packages) > 30
    assert len(known) > 30
    assert {("pkg:deb", *each) for each in known} <= stated


def test_built_again_it_has_the_same_layers(image: str, again: str) -> None:
    if in_image(image, "cat", "/var/lib/dpkg/status") != in_image(again, "cat", "/var/lib/dpkg/status"):
        pytest.skip("Debian has published other packages since the image was built")
    layers = "--format={{json .RootFS.Layers}}"
    assert run("docker", "image", "inspect", layers, image) == run("docker", "image", "inspect", layers, again)


def test_buildah_makes_the_same_files(again: str, tmp_path: Path) -> None:
    debian.install("buildah", "buildah")
    run("docker", "save", f"--output={tmp_path}/base.tar", docker.debian_image("trixie").partition("@")[0])
    storage = tmp_path / "storage.conf"
    storage.write_text(f"[storage]\ndriver='overlay'\ngraphroot='{tmp_path}/graph'\nrunroot='{tmp_path}/run'\n")
    more = ["--quiet", "--isolation=chroot", "--network=host", "--build-arg=BASE=$base", *docker.secrets()]
    steps = (
        f"base=$(buildah pull --quiet docker-archive:{tmp_path}/base.tar)",
        _command("buildah build", AGAIN, *more),
        f"buildah push --quiet {AGAIN} docker-archive:{tmp_path}/buildah.tar",
        "buildah rmi --all --force",
    )
    # In a mount namespace of its own, as it leaves mounts in its storage.
    environment = {"CONTAINERS_STORAGE_CONF": str(storage)}
    run("unshare", "--mount", "bash", "-ec", "\n".join(steps), cwd=REPOSITORY, env=environment)
    run("docker", "save", f"--output={tmp_path}/docker.tar", again)
    by_docker, by_buildah = files(tmp_path / "docker.tar"), files(tmp_path / "buildah.tar")
    assert len(by_docker) > 1000
    assert by_buildah == by_docker


@pytest.mark.parametrize("locked", ["runtime", "image"])
def test_arm64_has_a_wheel_of_every_dependency(locked: str, tmp_path: Path) -> None:
    """But for the one that is built from source, and has nothing to compile."""
    requirements: list[str] = re.split(r"\n(?=\S)", (REPOSITORY / "requirements" / f"{locked}.txt").read_text())
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("\n".join(each for each in requirements if not each.startswith("quantile-python")))
    platforms = [f"--platform=manylinux{version}_aarch64" for version in ("2014", "_2_17", "_2_28", "_2_41")]
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
        *(f"--dest={tmp_path}", "--python-version=313", *platforms, f"--requirement={wanted}"),
    )
    assert len([*tmp_path.glob("*.whl")]) > 30


def files(archive: Path) -> dict[str, Entry]:
    """Return all files of an image saved with `docker save`, by name."""
    found: dict[str, Entry] = {}
    with tarfile.open(archive) as saved:
        [manifest] = json.load(_content(saved, "manifest.json"))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_content(saved, layer)) as entries:
                for entry in entries:
                    digest = hashlib.sha256(_content(entries, entry).read()).hexdigest() if entry.isreg() else ""
                    found[entry.name.strip("/")] = (
                        *(entry.type, entry.mode, entry.uid, entry.gid, entry.mtime, entry.linkname),
                        digest,
                    )
    return found


def _content(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> Any:
    content = archive.extractfile(member)
    assert content
    return content


def _command(begin: str, tag: str, *more: str) -> str:
    """Return the page's command that begins so, for another tag and with what it takes on this machine."""
    [command] = [block.text for block in blocks(PAGE) if block.text.startswith(begin)]
    return command.replace("registry.example.com/kubedr:0.1.0", tag).replace(begin, " ".join([begin, *more]))
