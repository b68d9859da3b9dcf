"""Docker: the machine's own daemon where one answers, else a private one that leaves no trace.

The private one is Debian's package, unpacked: sockets, data and network of its own, and not one firewall rule.
"""

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e import debian, machine
from e2e.machine import CACHE, DOCKER, DOCKER_SOCKET, RUN, environment, run, step

NETWORK = "kubedr"

# Docker grants a privileged container every capability the kernel knows, and runc fails where the machine itself
# was not given CAP_SYS_RESOURCE.
_RUNC = """#!/bin/sh
previous=
for word; do
  case $previous in --bundle | -b) file=$word/config.json ;; --process | -p) file=$word ;; esac
  previous=$word
done
[ -f "$file" ] && sed -i 's/"CAP_SYS_RESOURCE",//g; s/,"CAP_SYS_RESOURCE"]/]/g' "$file"
exec runc "$@"
"""


@contextmanager
def daemon() -> Iterator[None]:
    """Have a daemon that answers for the time of the block."""
    begin = not _answers()
    try:
        start()
        yield
    finally:
        if begin:
            stop()


def start() -> None:
    """Have a daemon that answers, until `stop`."""
    if _answers():
        return
    debian.unpack(DOCKER.parent, "docker.io", "docker-cli", "docker-buildx", "containerd", "runc", "libdevmapper1.02.1")
    RUN.mkdir(parents=True, exist_ok=True)
    runc = RUN / "runc"
    runc.write_text(_RUNC)
    runc.chmod(0o755)
    plugins = {"cliPluginsExtraDirs": [f"{DOCKER}/libexec/docker/cli-plugins"]}
    (RUN / "config.json").write_text(json.dumps(plugins))
    libraries = f"{DOCKER}/lib/x86_64-linux-gnu:{DOCKER.parent}/lib/x86_64-linux-gnu"
    with step("start a private Docker daemon"):
        machine.start(
            "dockerd",
            DOCKER / "sbin" / "dockerd",
            f"--host=unix://{DOCKER_SOCKET}",
            f"--data-root={CACHE / 'docker-data'}",
            f"--exec-root={RUN / 'docker'}",
            f"--pidfile={RUN / 'docker.pid'}",
            "--bridge=none",
            "--iptables=false",
            "--ip-masq=false",
            "--ip-forward=false",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--add-runtime=bed={runc}",
            "--default-runtime=bed",
            env={"PATH": f"{DOCKER}/bin:{DOCKER}/sbin:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries},
        )
        machine.wait(f"the Docker daemon (its log: {RUN / 'dockerd.log'})", _answers, seconds=60)


def stop() -> None:
    """Stop the private daemon if it is running; images stay."""
    machine.stop("dockerd")


def create_network() -> str:
    """Have the cluster's network and return the address at which containers reach this machine."""
    if not _has_network():
        run("docker", "network", "create", NETWORK)
    [network] = json.loads(run("docker", "network", "inspect", NETWORK))
    return str(network["IPAM"]["Config"][0]["Gateway"])


def remove_network() -> None:
    """Take the network away."""
    if _has_network():
        run("docker", "network", "rm", NETWORK)


def has_image(tag: str) -> bool:
    """Say whether the daemon has an image."""
    return bool(run("docker", "image", "ls", "--quiet", tag))


def forget_others(tag: str) -> None:
    """Remove what an image's repository holds beside it: earlier builds."""
    repository = tag.partition(":")[0]
    for other in run("docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}", repository).split():
        if other != tag:
            run("docker", "image", "rm", other)


def registry_has(tag: str) -> bool:
    """Ask an image's registry for it; no answer within ten seconds is a no."""
    try:
        run("timeout", "10", "docker", "manifest", "inspect", tag)
    except subprocess.CalledProcessError:
        return False
    return True


def debian_image(suite: str) -> str:
    """Return a minimal Debian image: the registry's, by digest, or one made of the machine's own mirror."""
    tag, official = f"kubedr/debian:{suite}", f"debian:{suite}-slim"
    if not has_image(tag):
        if registry_has(official):
            run("docker", "pull", "--quiet", official)
            [pulled] = json.loads(run("docker", "image", "inspect", official))
            return f"{official}@{pulled['RepoDigests'][0].partition('@')[2]}"
        with TemporaryDirectory(dir=CACHE) as scratch:
            archive = Path(scratch, "root.tar")
            debian.bootstrap(suite, archive)
            run("docker", "import", archive, tag)
    return tag


def build(tag: str, context: Path, containerfile: Path, *, target: str = "", base: str) -> None:
    """Build an image; its steps see this machine's certificate authorities, as they share its network."""
    name, _, digest = base.partition("@")
    labels = {"name": name, "digest": digest} if digest else {}
    run(
        *(
            "docker",
            "build",
            "--network=host",
            "--quiet",
            f"--tag={tag}",
            f"--file={containerfile}",
            f"--target={target}",
        ),
        *secrets(),
        *(f"--label=org.opencontainers.image.base.{key}={value}" for key, value in labels.items()),
        *(f"--build-arg=BASE={base}", context),
    )


def secrets() -> list[str]:
    """Return what has a build see this machine's certificate authorities."""
    authorities = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    return [f"--secret=id=ca-certificates,src={authorities}"] if authorities else []


def _has_network() -> bool:
    return bool(run("docker", "network", "ls", "--quiet", "--filter", f"name=^{NETWORK}$"))


def _answers() -> bool:
    try:
        subprocess.run(["docker", "version"], env=environment(), capture_output=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
