"""The worker as a process: its exit code, its termination message, its log, its end by signal and by time."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import minio
import pytest

from kubedr_ctrl.api.result import ExitCode, Reason, Result
from kubedr_ctrl.api.task import BackupTask, ForgetTask, Repository, SecretEnv
from kubedr_ctrl.worker import restic
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.main import TERMINATION_LOG_ENV, AnyTask, perform
from tests.servers.s3 import S3

COMMAND = "from kubedr_ctrl.worker.main import main; main()"
# As the command, but with the volumes where the test has them.
COMMAND_ELSEWHERE = """
import os, sys
from pathlib import Path
from kubedr_ctrl.worker.environment import Paths
from kubedr_ctrl.worker.main import run
sys.exit(run(sys.argv[1], Paths(*map(Path, sys.argv[2:])), os.environ))
"""


class Worker:
    """One worker process."""

    def __init__(self, environment: Environment, directory: Path) -> None:
        self._environment = environment
        self._termination_log = directory / "termination-log"
        self.log = ""

    async def start(self, task: str) -> asyncio.subprocess.Process:
        paths = self._environment.paths
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", COMMAND_ELSEWHERE, task, paths.data, paths.restore, paths.ca_certificates),
            env={
                **self._environment.variables,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "TMPDIR": str(paths.data.parent),
                TERMINATION_LOG_ENV: str(self._termination_log),
            },
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, task: AnyTask) -> tuple[int, Result]:
        return await self.end(await self.start(task.model_dump_json()))

    async def end(self, process: asyncio.subprocess.Process) -> tuple[int, Result]:
        _, stderr = await process.communicate()
        self.log = stderr.decode()
        result = Result.decode(self._termination_log.read_text())
        assert result, self.log
        assert process.returncode is not None
        return process.returncode, result


@pytest.fixture
def worker(environment: Environment, tmp_path: Path) -> Worker:
    return Worker(environment, tmp_path)


@pytest.fixture
def worker_with(with_variables: Callable[..., Environment], tmp_path: Path) -> Callable[..., Worker]:
    return lambda **changes: Worker(with_variables(**changes), tmp_path)


def locks(s3: S3, repository: Repository) -> int:
    client = minio.Minio(s3.url.removeprefix("http://"), s3.keys.access, s3.keys.secret, secure=False)
    return len(list(client.list_objects(repository.bucket, prefix="locks/", recursive=True)))


async def test_the_result_is_the_termination_message(worker: Worker, backup_task: BackupTask) -> None:
    exit_code, result = await worker.run(backup_task)
    assert exit_code == ExitCode.COMPLETED
    assert result.completed
    assert result.snapshot
    assert 20 << 20 < result.peak_rss_bytes < 90 << 20
    assert [json.loads(line)["event"] for line in worker.log.splitlines()] == [
        "started",
        "etcd snapshot taken",
        "restic started",
        "restic ended",
        "ended",
    ]


async def test_the_command_takes_one_argument(environment: Environment, repository: Repository, tmp_path: Path) -> None:
    task = ForgetTask(repository=repository, timeout_seconds=60, snapshot_ids=("00000000",))
    log = tmp_path / "log"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMMAND, task.model_dump_json()),
        env={**environment.variables, "PYTHONPATH": os.pathsep.join(sys.path), TERMINATION_LOG_ENV: str(log)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == ExitCode.COMPLETED
    result = Result.decode(log.read_text())
    assert result
    assert result.completed


async def test_sigterm_ends_restic_in_an_orderly_way(
    worker: Worker, environment: Environment, backup_task: BackupTask, s3: S3
) -> None:
    (environment.paths.data / "large").write_bytes(os.urandom(256 << 20))
    process = await worker.start(backup_task.model_dump_json())
    while not locks(s3, backup_task.repository):
        assert process.returncode is None
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    exit_code, result = await worker.end(process)
    assert (exit_code, result.reason) == (ExitCode.RETRY, Reason.TERMINATED)
    assert result.message == "the backup was told to stop (SIGTERM) before it was done"
    assert '"restic ended", "exit_status": -' not in worker.log, "restic ended by itself, not by a signal"
    assert locks(s3, backup_task.repository) == 0


async def test_the_time_limit_ends_restic_in_an_orderly_way(
    worker: Worker, environment: Environment, backup_task: BackupTask, s3: S3
) -> None:
    (environment.paths.data / "large").write_bytes(os.urandom(256 << 20))
    exit_code, result = await worker.run(backup_task.model_copy(update={"timeout_seconds": 1.25}))
    assert (exit_code, result.reason) == (ExitCode.FAILED, Reason.TIMED_OUT)
    assert result.message == "the backup was not done after 1.25 s, its time limit"
    assert locks(s3, backup_task.repository) == 0


async def test_a_restic_that_does_not_stop_is_killed(
    with_variables: Callable[..., Environment],
    backup_task: BackupTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(restic, "_STOP_SECONDS", 0.5)
    (tmp_path / "restic").write_text("#!/bin/sh\ntrap '' TERM\nexec sleep 60\n")
    (tmp_path / "restic").chmod(0o755)
    environment = with_variables(PATH=f"{tmp_path}:{os.environ['PATH']}")
    result = await perform(backup_task.model_copy(update={"timeout_seconds": 1}), environment)
    assert (result.exit_code, result.reason) == (ExitCode.FAILED, Reason.TIMED_OUT)
    assert '"exit_status": -9' in capsys.readouterr().err


async def test_no_secret_leaves_the_worker(
    worker_with: Callable[..., Worker], backup_task: BackupTask, environment: Environment, tmp_path: Path
) -> None:
    """Even where restic prints all it was given."""
    (tmp_path / "restic").write_text('#!/bin/sh\nenv >&2\necho "$@" >&2\nexit 1\n')
    (tmp_path / "restic").chmod(0o755)
    worker = worker_with(PATH=f"{tmp_path}:{os.environ['PATH']}")
    exit_code, result = await worker.run(backup_task)
    assert exit_code == ExitCode.FAILED
    assert "RESTIC_PASSWORD=***" in result.message + worker.log
    assert "KUBEDR_ETCD_KEY" not in worker.log, "restic has no business with etcd's key"
    said = worker.log + result.message + result.encode()
    for name in SecretEnv:
        for line in environment.variables[name].splitlines():
            assert line.startswith("-----") or line not in said, name


async def test_a_task_of_a_newer_controller_is_answered_too(worker: Worker) -> None:
    exit_code, result = await worker.end(await worker.start('{"operation": "backup", "timeoutSeconds": 5}'))
    assert (exit_code, result.operation, result.reason) == (ExitCode.FAILED, "backup", Reason.WORKER_ERROR)
    assert "the task cannot be read: backup.repository: Field required" in result.message
