"""Runs restic and tells how that ended.

- A run ends with restic's own exit status, whatever happens: restic is asked to stop (SIGTERM), upon which it
  removes its lock, and is killed only if it has not stopped within 10 s.
- What is decided is decided by exit status and by JSON; prose is only passed on.
- Secrets reach restic by environment variables.

Exit statuses: https://restic.readthedocs.io/en/stable/075_scripting.html#exit-codes
"""

import asyncio
import json
import re
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.api.task import Repository, SecretEnv
from kubedr_ctrl.worker.ending import Failure
from kubedr_ctrl.worker.environment import Environment

LOCKED = 11
WRONG_PASSWORD = 12
REASONS = {
    1: Reason.RESTIC_FAILED,
    3: Reason.SOURCE_UNREADABLE,
    10: Reason.REPOSITORY_NOT_FOUND,
    LOCKED: Reason.REPOSITORY_LOCKED,
    WRONG_PASSWORD: Reason.WRONG_PASSWORD,
}
"""What restic's exit statuses mean; any other is ResticFailed too."""

_PATIENCE_SECONDS = 5.0
_STOP_SECONDS = 10.0
_LINE_LIMIT = 1 << 20
_KEPT_LINES = 200
_ETCD_SECRETS = {SecretEnv.ETCD_CA, SecretEnv.ETCD_CERT, SecretEnv.ETCD_KEY}
_RETRY_NOTICE = re.compile(r".* returned error, retrying after [^:]+: (?P<cause>.*)")
_STOP_NOTICE = re.compile(r".*signal \w+ received, cleaning up")


@dataclass(frozen=True)
class Run:
    """A run of restic that has ended."""

    argv: tuple[str, ...]
    exit_status: int
    stdout: tuple[str, ...]
    """Lines, without those that only show progress."""
    stderr: tuple[str, ...]

    def messages(self) -> list[dict[str, Any]]:
        """Return what restic said in JSON on standard output, one message a line."""
        return [message for line in self.stdout if (message := _json(line))]

    def message(self) -> str:
        """Return restic's words on standard error, as it would have written them without --json."""
        return "\n".join(_prose(line) for line in self.stderr)

    def failure(self, diagnosis: Failure | None = None) -> Failure:
        """Return the failure that this run was, in the form that users know from KubeDR.

        `diagnosis` is what was known to be wrong with S3 before restic was started.
        """
        error = subprocess.CalledProcessError(self.exit_status, list(self.argv))
        reason = REASONS.get(self.exit_status, Reason.RESTIC_FAILED)
        if diagnosis and reason is Reason.RESTIC_FAILED:
            reason = diagnosis.reason
        return Failure(reason, f"subprocess.CalledProcessError: {error} ({self._said(diagnosis)})")

    def _said(self, diagnosis: Failure | None) -> str:
        """Return the words on standard error in one line.

        restic that is stopped while it retries gives "context canceled" for a reason, which is us; the
        cause it named when it began to retry is what it would have said in the end.
        """
        notices = [notice for line in self.stderr if (notice := _RETRY_NOTICE.fullmatch(line))]
        lines = [_prose(line) for line in self.stderr if not _RETRY_NOTICE.fullmatch(line)]
        words = " ".join(" ".join(lines).split())
        if notices:
            return words.replace("context canceled", notices[-1]["cause"])
        return "; ".join(part for part in (words, diagnosis.message if diagnosis else "") if part)


class Restic:
    """restic, set to one repository."""

    def __init__(self, repository: Repository, environment: Environment, host: str = "") -> None:
        self.address = repository.address
        self._environment = environment
        self._variables: dict[str, str] = {
            **{name: value for name, value in environment.variables.items() if name not in _ETCD_SECRETS},
            **{name: environment.secret(name) for name in SecretEnv if name not in _ETCD_SECRETS},
            "RESTIC_CACHE_DIR": str(Path(tempfile.gettempdir()) / "restic-cache"),
            "RESTIC_PROGRESS_FPS": "1",
        }
        if host:
            self._variables["RESTIC_HOST"] = host
        if repository.region:
            self._variables["AWS_DEFAULT_REGION"] = repository.region
        if ca_bundle := environment.paths.ca_bundle:
            self._variables["RESTIC_CACERT"] = str(ca_bundle)

    async def work(self, *arguments: str, diagnosis: Failure | None = None) -> Run:
        """Run `restic arguments` and return the run if it went well; raise its Failure otherwise.

        With a `diagnosis` S3 is known not to let us in, and restic is given 5 s to say so itself. A lock
        that is in the way is removed if restic finds that who left it is gone.
        """
        patience = _PATIENCE_SECONDS if diagnosis else None
        run = await self.run(*arguments, patience=patience)
        if run.exit_status == LOCKED:
            await self.run("-r", self.address, "unlock")
            run = await self.run(*arguments, patience=patience)
        if run.exit_status:
            raise run.failure(diagnosis)
        return run

    async def run(self, *arguments: str, patience: float | None = None) -> Run:
        """Run `restic arguments` to its end, however that is; ask it to stop after `patience` seconds."""
        argv = ("restic", *arguments)
        self._environment.log("restic started", argv=argv)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._variables,
            limit=_LINE_LIMIT,
        )
        async with asyncio.TaskGroup() as readers:
            stdout = readers.create_task(self._read(process.stdout))
            stderr = readers.create_task(self._read(process.stderr, logged=True))
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await process.wait()
            finally:
                status = await self._stop(process)
        return Run(argv, status, stdout.result(), stderr.result())

    async def _read(self, stream: asyncio.StreamReader | None, *, logged: bool = False) -> tuple[str, ...]:
        assert stream is not None  # noqa: S101 - it is a pipe
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        async for raw in stream:
            line = raw.decode(errors="replace").removeprefix("\x1b[2K").rstrip("\n")
            if not _shows_progress(line):
                lines.append(line)
                if logged:
                    self._environment.log("restic said", words=_prose(line))
        return tuple(line for line in lines if not _STOP_NOTICE.fullmatch(line))

    async def _stop(self, process: asyncio.subprocess.Process) -> int:
        """Return restic's exit status, having seen to it that there is one."""
        if process.returncode is None:
            process.terminate()
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
        status = await process.wait()
        self._environment.log("restic ended", exit_status=status)
        return status


def _json(line: str) -> dict[str, Any] | None:
    """Return the JSON object in a line, its fractions as restic wrote them, or None if there is none."""
    try:
        value = json.loads(line, parse_float=str)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _shows_progress(line: str) -> bool:
    message = _json(line)
    return message is not None and message.get("message_type") in ("status", "verbose_status")


def _prose(line: str) -> str:
    """Return the words in a line of standard error: `exit_error` and `error` messages wrap them in JSON."""
    match _json(line):
        case {"message_type": "exit_error", "message": str(words)}:
            return words
        case {"message_type": "error", "error": {"message": str(words)}}:
            return words
        case _:
            return line


def read_json(lines: Iterable[str]) -> Any:
    """Return the one JSON value that restic's `cat` and `key list` spread over lines."""
    return json.loads("\n".join(lines))
