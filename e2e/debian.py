"""Debian packages: unpacked into the cache where that is enough, installed only where it is not."""

import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e.machine import CACHE, run, step


def unpack(into: Path, *packages: str) -> None:
    """Unpack packages of this machine's own release, once; those the release does not have are left out."""
    if into.exists():
        return
    with step(f"unpack {', '.join(packages)}"), TemporaryDirectory(dir=CACHE) as scratch:
        _refresh()
        known = [
            name
            for name in packages
            if "Candidate: (none)" not in (run("apt-cache", "policy", name) or "Candidate: (none)")
        ]
        run("apt-get", "download", "-qq", *known, cwd=Path(scratch))
        root = Path(scratch, "root")
        for package in Path(scratch).glob("*.deb"):
            run("dpkg-deb", "-x", package, root)
        root.rename(into)


def install(command: str, package: str) -> None:
    """Install a package unless its command is there."""
    if not shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        with step(f"install {package}"):
            _refresh()
            run(
                "apt-get",
                "install",
                "-qq",
                "--no-install-recommends",
                package,
                env={"DEBIAN_FRONTEND": "noninteractive"},
            )


def bootstrap(suite: str, archive: Path) -> None:
    """Make a minimal root file system of a Debian release, from the mirror this machine itself uses."""
    install("mmdebstrap", "mmdebstrap")
    _refresh()
    targets = run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages").splitlines()
    mirror = next((uri for label, _, uri in (line.partition(" ") for line in targets) if label == "Debian"), None)
    if mirror is None:
        raise RuntimeError(
            "this machine reaches no image registry and is not a Debian one: nothing to make images from"
        )
    with step(f"bootstrap Debian {suite}"):
        slim = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")]
        slim.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
        run("mmdebstrap", "--variant=minbase", "--mode=root", *slim, suite, archive, f"deb {mirror} {suite} main")


@cache
def _refresh() -> None:
    run("apt-get", "update", "-qq")
