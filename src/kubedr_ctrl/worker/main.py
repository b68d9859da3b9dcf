"""`kubedr-worker TASK`: does the task and ends with one Result, whatever happens.

The Result goes to the container's termination message; the exit code tells the Job whether another try may
help. SIGTERM and the task's own time limit end restic in an orderly way and are reported as such.
"""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from kubedr_ctrl.api.base import Model
from kubedr_ctrl.api.result import ExitCode, Operation, Outcome, Reason, Result
from kubedr_ctrl.api.task import TASK, BackupTask, ForgetTask, InitTask, RestoreTask
from kubedr_ctrl.worker.backup import backup
from kubedr_ctrl.worker.ending import Failure, Report
from kubedr_ctrl.worker.environment import Environment, Paths
from kubedr_ctrl.worker.forget import forget
from kubedr_ctrl.worker.init import init
from kubedr_ctrl.worker.restore import restore

AnyTask = InitTask | BackupTask | RestoreTask | ForgetTask


class _Header(Model):
    operation: Operation


TERMINATION_LOG_ENV = "KUBEDR_TERMINATION_LOG"
"""Where the Result goes if not to Kubernetes' usual place."""
_TERMINATION_LOG = "/dev/termination-log"


def main() -> None:
    """Do the task in the first argument, with the secrets in the environment."""
    sys.exit(run(sys.argv[1], Paths(), os.environ))


def run(text: str, paths: Paths, variables: Mapping[str, str]) -> ExitCode:
    """Do the task whose JSON is `text`, write its Result and return the exit code."""
    environment = Environment(paths, dict(variables))
    try:
        task = TASK.validate_json(text)
    except ValidationError as error:
        result = _unreadable(text, error)
    else:
        result = asyncio.run(perform(task, environment))
    environment.log("ended", **result.wire())
    Path(variables.get(TERMINATION_LOG_ENV, _TERMINATION_LOG)).write_text(result.encode())
    return result.exit_code


def _unreadable(text: str, error: ValidationError) -> Result:
    """Return the Result of a task that makes no sense beyond its operation, as from a newer controller."""
    now = datetime.now(UTC)
    problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
    return Result(
        operation=_Header.model_validate_json(text).operation,
        outcome=Outcome.FAILED,
        reason=Reason.WORKER_ERROR,
        message=f"the task cannot be read: {'; '.join(problems)}",
        started=now,
        finished=now,
    )


async def perform(task: AnyTask, environment: Environment) -> Result:
    """Do the task and return its Result; a task that is cut short by SIGTERM or its time limit has one too."""
    environment.log("started", task=task.wire())
    started = datetime.now(UTC)
    report, reason, message = Report(), Reason.COMPLETED, ""
    work = asyncio.create_task(_operate(task, environment))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        async with asyncio.timeout(task.timeout_seconds) as limit:
            report = await work
    except Failure as failure:
        reason, message = failure.reason, failure.message
    except asyncio.CancelledError:
        reason, message = Reason.TERMINATED, f"the {task.operation} was told to stop (SIGTERM) before it was done"
    except Exception as error:
        if limit.expired():
            reason = Reason.TIMED_OUT
            message = f"the {task.operation} was not done after {task.timeout_seconds:g} s, its time limit"
        else:
            reason, message = Reason.WORKER_ERROR, f"{type(error).__name__}: {error}"
            environment.log("unexpected error", traceback=traceback.format_exc())
    return Result(
        operation=Operation(task.operation),
        outcome=Outcome.COMPLETED if reason is Reason.COMPLETED else Outcome.FAILED,
        reason=reason,
        message=environment.redact(message),
        started=started,
        finished=datetime.now(UTC),
        peak_rss_bytes=_peak_rss(),
        **vars(report),
    )


def _peak_rss() -> int:
    """Return the most memory this program has had; getrusage would tell of what the process ran before, too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


async def _operate(task: AnyTask, environment: Environment) -> Report:
    match task:
        case InitTask():
            return await init(task, environment)
        case BackupTask():
            return await backup(task, environment)
        case RestoreTask():
            return await restore(task, environment)
        case ForgetTask():
            return await forget(task, environment)
