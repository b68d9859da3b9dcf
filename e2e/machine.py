"""What the test bed may touch on this machine: one cache directory, and processes that it started itself.

- Everything it keeps lives below `CACHE`; what belongs to the cluster that is up, below `RUN`.
- A program is found in the cache before it is looked for on the machine.
- A process started here outlives the command that started it and is known by process ID and start time, so that
  nothing else is ever stopped in its place.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

CACHE = Path(
    os.environ.get("KUBEDR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubedr"
).absolute()
BIN = CACHE / "bin"
RUN = CACHE / "run"
DOCKER = CACHE / "docker" / "usr"
"""Docker from Debian's packages, for machines where no daemon answers."""
DOCKER_SOCKET = RUN / "docker.sock"
KUBECONFIG = RUN / "kubeconfig"
REPOSITORY = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """Return the environment in which the bed's programs run."""
    private = alive("dockerd")
    path = [BIN, *([DOCKER / "bin"] if private else []), os.environ["PATH"]]
    return {
        **os.environ,
        "PATH": ":".join(map(str, path)),
        "KUBECONFIG": str(KUBECONFIG),
        "DOCKER_BUILDKIT": "1",
        **({"DOCKER_HOST": f"unix://{DOCKER_SOCKET}", "DOCKER_CONFIG": str(RUN)} if private else {}),
    }


def run(
    *argv: str | Path, given: str | None = None, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a command to its end and return its output.

    `given` is its standard input. Raises `subprocess.CalledProcessError`, with the command's last words as a note.
    """
    done = subprocess.run(
        argv,
        input=given or "",
        cwd=cwd,
        env=environment() | dict(env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        done.check_returncode()
    except subprocess.CalledProcessError as error:
        error.add_note((done.stderr or done.stdout)[-4000:].strip())
        raise
    return done.stdout


def start(name: str, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Start a server that goes on when this command has ended; its log is `RUN/<name>.log`."""
    RUN.mkdir(parents=True, exist_ok=True)
    full = environment() | dict(env or {})
    log = (os.POSIX_SPAWN_OPEN, 1, RUN / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    pid = os.posix_spawn(
        shutil.which(argv[0], path=full["PATH"]) or argv[0],
        [str(word) for word in argv],
        full,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
    )
    (RUN / f"{name}.pid").write_text(f"{pid} {_started(pid)}")


def alive(name: str) -> int | None:
    """Return the process ID of a server started by `start` if it still runs."""
    try:
        pid, started = (RUN / f"{name}.pid").read_text().split()
    except FileNotFoundError:
        return None
    return int(pid) if _started(int(pid)) == started else None


def stop(name: str) -> None:
    """Stop a server and wait until it is gone; does nothing if it is not running."""
    if pid := alive(name):
        os.kill(pid, signal.SIGTERM)
        with suppress(TimeoutError):
            wait(f"{name} to stop", lambda: not alive(name), seconds=30)
        if alive(name):
            os.kill(pid, signal.SIGKILL)
    (RUN / f"{name}.pid").unlink(missing_ok=True)


def wait(what: str, ready: Callable[[], bool], *, seconds: float) -> None:
    """Return as soon as `ready` says so; raises `TimeoutError` naming what was waited for."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


@contextmanager
def step(doing: str) -> Iterator[None]:
    """Say on standard error what takes a while: every half minute, and at its end how long it took."""
    begun, over = time.monotonic(), threading.Event()

    def tell(mark: str) -> None:
        print(f"{mark} {doing} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)

    def remind() -> None:
        while not over.wait(30):
            tell("  …")

    threading.Thread(target=remind, daemon=True).start()
    try:
        yield
        tell("  ✓")
    finally:
        over.set()


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it has ended (proc_pid_stat(5), fields 3 and 22)."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else fields[18]
