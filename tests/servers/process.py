"""A server process: started, awaited until it is ready, stopped.

- A server that does not become ready raises `ServerError` with the end of its log.
- A server never outlives the tests, even when these are killed: the kernel ends it with its parent.
- Ports are leased: no two test sessions on one machine are given the same one at the same time.
"""

import fcntl
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
BINARIES = (
    Path(os.environ.get("KUBEDR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "kubedr").expanduser()
    / "bin"
)
"""Where Kubernetes, etcd and restic are, as the cluster for end-to-end tests puts them there."""

_POLL_SECONDS = 0.03
# Below the range from which Linux takes the local ports of outgoing connections, lest one of these is in the way.
_PORTS = range(20000, 32000)
_LEASES = (Path(tempfile.gettempdir()) / "kubedr-test-ports").open("ab")
_leased: set[int] = set()


class ServerError(RuntimeError):
    """A server did not start; the message holds the end of its log."""


def binary(name: str) -> str:
    """Return the path of a program from `BINARIES` or else from PATH."""
    found = shutil.which(name, path=f"{BINARIES}:{os.environ['PATH']}")
    if found is None:
        raise ServerError(f"{name} is neither in {BINARIES} nor on PATH")
    return found


def free_port() -> int:
    """Lease a free TCP port of the loopback address until this Python process ends."""
    while True:
        port = random.choice(_PORTS)
        if port in _leased:
            continue
        try:
            fcntl.lockf(_LEASES, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            with socket.create_server((LOOPBACK, port)):
                pass
        except OSError:
            continue
        _leased.add(port)
        return port


class Server:
    """A server process that can be stopped and started again; `ready` may raise OSError for as long as it is not."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> None:
        self._argv = argv
        self._log = log
        self._ready = ready
        self._env = env or {}
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
            )
        _await_ready(self._process, self._log, self._ready, time.monotonic() + self._timeout)

    def stop(self) -> None:
        """Stop it, if it runs, and wait for its end."""
        if process := self._process:
            self._process = None
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Iterator[Server]:
    """Run a server until the block is left."""
    server = Server(argv, log=log, ready=ready, env=env, timeout=timeout)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _await_ready(process: "subprocess.Popen[bytes]", log: Path, ready: Callable[[], bool], deadline: float) -> None:
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        program = log.stem
        if process.poll() is not None:
            raise ServerError(f"{program} ended with exit code {process.returncode}; its log ends:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise ServerError(f"{program} did not become ready; its log ends:\n{tail(log)}")
        time.sleep(_POLL_SECONDS)


def tail(log: Path, lines: int = 30) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
