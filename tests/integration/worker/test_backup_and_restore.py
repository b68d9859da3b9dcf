"""Backups and restores against a real etcd, a real restic and a real S3 server."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubedr_ctrl.api.result import ExitCode, Reason
from kubedr_ctrl.api.task import BackupTask, ForgetTask, InitTask, Repository, RestoreTask, SecretEnv
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.main import perform
from tests.servers.etcd import Etcd
from tests.servers.process import binary
from tests.servers.s3 import S3

Changed = Callable[..., Environment]


def restic(repository: Repository, environment: Environment, *arguments: str) -> Any:
    """Ask restic itself, independently of the worker."""
    output = subprocess.run(
        [binary("restic"), "--json", "--no-cache", "-r", repository.address, *arguments],
        env=dict(environment.variables),
        capture_output=True,
        check=True,
    ).stdout
    return json.loads(output) if output.strip() else None


def put(etcd: Etcd, key: str, value: str) -> None:
    flags = [f"--endpoints={etcd.endpoint}", f"--cacert={etcd.authority.certificate}"]
    flags += [f"--cert={etcd.client.certificate}", f"--key={etcd.client.key}"]
    subprocess.run([binary("etcdctl"), *flags, "put", key, value], check=True, capture_output=True)


def revision_of(snapshot: Path) -> int:
    """Ask etcd's own tool, which fails on what is no snapshot."""
    argv = [binary("etcdutl"), "snapshot", "status", str(snapshot), "--write-out=json"]
    revision: int = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)["revision"]
    return revision


def leave_lock_behind(repository: Repository, environment: Environment) -> None:
    """Kill a restic that holds its lock, as the kernel or a node's end does."""
    argv = [binary("restic"), "--json", "--no-cache", "-r", repository.address, "backup", "--stdin"]
    with subprocess.Popen(
        argv, env=dict(environment.variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.readline()  # it is at work, hence it holds its lock
        process.kill()


def add_certificates(environment: Environment, *names: str) -> None:
    for name in names:
        file = environment.paths.certificates / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content of {name}")


async def test_a_backup_comes_back_whole(
    environment: Environment, backup_task: BackupTask, repository: Repository, etcd: Etcd
) -> None:
    for number in range(3):
        put(etcd, f"/registry/test/{number}", "value")
    add_certificates(environment, "ca.crt", "ca.key", "etcd/ca.crt")

    saved = await perform(backup_task, environment)

    assert (saved.outcome, saved.reason, saved.message) == ("Completed", "Completed", "")
    assert saved.exit_code is ExitCode.COMPLETED
    assert saved.certificates == ("ca.crt", "ca.key", "etcd/ca.crt")
    assert saved.certificate_count == 3
    assert saved.etcd
    assert saved.etcd.keys >= 3
    assert saved.snapshot
    assert re.fullmatch("[0-9a-f]{8}", saved.snapshot.id)
    assert saved.snapshot.files_new == 4
    assert saved.snapshot.total_bytes_processed > environment.paths.snapshot.stat().st_size
    assert re.fullmatch(r"\d+\.\d+", saved.snapshot.total_duration_secs)

    (snapshot,) = restic(repository, environment, "snapshots", saved.snapshot.id)
    assert snapshot["hostname"] == "nightly"
    assert snapshot["tags"] == [
        "policy=nightly",
        "job=2c1a6c3e-0000-4000-8000-00000000job1",
        "cluster=4b7d1f9a-cluster",
    ]

    stranger = environment.paths.restore / environment.paths.data.relative_to("/") / "certificates" / "mine.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("was here before")
    task = RestoreTask(repository=repository, timeout_seconds=60, snapshot_id=saved.snapshot.id)
    restored = await perform(task, environment)

    assert restored.completed, restored
    root = environment.paths.restored_snapshot.parent
    assert (root / "certificates/etcd/ca.crt").read_text() == "content of etcd/ca.crt"
    assert stranger.read_text() == "was here before"
    assert revision_of(environment.paths.restored_snapshot) >= saved.etcd.revision


async def test_the_next_backup_finds_the_one_before(
    environment: Environment, backup_task: BackupTask, repository: Repository
) -> None:
    first = await perform(backup_task, environment)
    second = await perform(backup_task, environment)
    assert first.snapshot
    assert second.snapshot
    (snapshot,) = restic(repository, environment, "snapshots", second.snapshot.id)
    assert snapshot["parent"].startswith(first.snapshot.id)
    assert second.snapshot.files_new == 0


async def test_names_of_certificates_are_the_first_twenty(environment: Environment, backup_task: BackupTask) -> None:
    add_certificates(environment, *(f"{number:02}.crt" for number in range(25)))
    result = await perform(backup_task, environment)
    assert result.certificates == tuple(f"{number:02}.crt" for number in range(20))
    assert result.certificate_count == 25


async def test_an_endpoint_with_a_private_ca_and_a_prefix_and_a_region_works(
    environment: Environment, backup_task: BackupTask, repository: Repository, s3: S3
) -> None:
    place = Repository(url=s3.tls_url, bucket=repository.bucket, prefix="clusters/prod/", region="us-east-1")
    init = InitTask(repository=place, timeout_seconds=30, creator="nobody")
    untrusted = await perform(init, environment)
    assert untrusted.reason is Reason.S3_UNREACHABLE
    assert "cannot be trusted" in untrusted.message

    environment.paths.ca_certificates.write_bytes(s3.authority.certificate.read_bytes())
    initialised = await perform(init, environment)
    assert initialised.completed, initialised
    saved = await perform(backup_task.model_copy(update={"repository": place}), environment)
    assert saved.completed, saved


@pytest.mark.usefixtures("impatience")
async def test_s3_can_be_behind_a_proxy(
    with_variables: Changed, backup_task: BackupTask, repository: Repository, s3: S3
) -> None:
    # Only the proxy knows this name. The S3 server is its own proxy here, as it takes a request in absolute form too.
    place = Repository(url="http://s3.only-the-proxy-knows.example", bucket=repository.bucket, prefix="proxied")
    behind = with_variables(HTTP_PROXY=s3.url, NO_PROXY="10.0.0.0/8")
    initialised = await perform(InitTask(repository=place, timeout_seconds=30, creator="nobody"), behind)
    assert initialised.completed, initialised
    saved = await perform(backup_task.model_copy(update={"repository": place}), behind)
    assert saved.completed, saved

    around = with_variables(HTTP_PROXY=s3.url, NO_PROXY="only-the-proxy-knows.example")
    lost = await perform(backup_task.model_copy(update={"repository": place}), around)
    assert lost.reason is Reason.S3_UNREACHABLE
    assert "no such host" in lost.message


async def test_forgotten_snapshots_are_gone_and_forgetting_them_again_is_fine(
    environment: Environment, backup_task: BackupTask, repository: Repository
) -> None:
    saved = await perform(backup_task, environment)
    assert saved.snapshot
    task = ForgetTask(repository=repository, timeout_seconds=60, snapshot_ids=(saved.snapshot.id, "00000000"))
    for _ in range(2):
        forgotten = await perform(task, environment)
        assert forgotten.completed, forgotten
    ids = [snapshot["short_id"] for snapshot in restic(repository, environment, "snapshots")]
    assert saved.snapshot.id not in ids


async def test_the_lock_of_a_killed_restic_is_not_in_the_way(environment: Environment, repository: Repository) -> None:
    leave_lock_behind(repository, environment)
    task = ForgetTask(repository=repository, timeout_seconds=60, snapshot_ids=("00000000",))
    result = await perform(task, environment)
    assert result.completed, result


GUIDE = (
    r"subprocess\.CalledProcessError: Command '\[%s\]' returned non-zero exit status 1\. "
    r"\(Fatal: unable to open config file: Stat: %s "
    r"Is there a repository at the following location\? %s\)"
)


def words(*argv: str) -> str:
    return ", ".join(re.escape(repr(word)) for word in argv)


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize(
    ("variables_changed", "reason", "said"),
    [
        (
            {SecretEnv.ACCESS_KEY: "WRONGKEY"},
            Reason.S3_ACCESS_DENIED,
            r"The access key ID you provided does not exist in our records\.",
        ),
        (
            {SecretEnv.SECRET_KEY: "wrong-secret"},
            Reason.S3_ACCESS_DENIED,
            r"The request signature we calculated does not match the signature you provided\..*",
        ),
    ],
)
async def test_a_failed_backup_reads_as_in_the_guide(
    with_variables: Changed,
    backup_task: BackupTask,
    repository: Repository,
    variables_changed: dict[str, str],
    reason: Reason,
    said: str,
) -> None:
    environment = with_variables(**variables_changed)
    result = await perform(backup_task, environment)
    command = words("restic", "--json", "-r", repository.address, "--verbose", "backup")
    tags = words("--tag", "policy=nightly") + ", '--tag', '[^']*', '--tag', '[^']*', "
    argv = f"{command}, {tags}{words(str(environment.paths.data))}"
    assert re.fullmatch(GUIDE % (argv, said, re.escape(repository.address)), result.message), result.message
    assert (result.outcome, result.reason, result.exit_code) == ("Failed", reason, ExitCode.FAILED)
    assert result.snapshot is None


@pytest.mark.usefixtures("impatience")
async def test_a_failed_restore_reads_as_in_the_guide(environment: Environment) -> None:
    repository = Repository(url="http://127.0.0.1:1", bucket="testbucket110")
    task = RestoreTask(repository=repository, timeout_seconds=60, snapshot_id="5bbc8b1a")
    result = await perform(task, environment)
    argv = words(
        *("restic", "-r", repository.address, "--verbose", "restore"),
        *("--target", str(environment.paths.restore), "5bbc8b1a"),
    )
    said = (
        r'Get "http://127\.0\.0\.1:1/testbucket110/\?location=": dial tcp 127\.0\.0\.1:1: connect: connection refused'
    )
    assert re.fullmatch(GUIDE % (argv, said, re.escape(repository.address)), result.message), result.message
    assert (result.reason, result.exit_code) == (Reason.S3_UNREACHABLE, ExitCode.RETRY)


@pytest.mark.usefixtures("impatience")
async def test_a_backup_to_a_missing_bucket_says_so(
    environment: Environment, backup_task: BackupTask, location: Repository
) -> None:
    result = await perform(backup_task.model_copy(update={"repository": location}), environment)
    assert result.reason is Reason.BUCKET_NOT_FOUND
    assert "Stat: The specified bucket does not exist" in result.message
    assert result.exit_code is ExitCode.FAILED


@pytest.mark.usefixtures("impatience")
async def test_a_black_hole_is_named_where_restic_has_no_words_for_it(
    environment: Environment, backup_task: BackupTask, black_hole: str
) -> None:
    place = Repository(url=black_hole, bucket="testbucket")
    result = await perform(backup_task.model_copy(update={"repository": place}), environment)
    assert result.reason is Reason.S3_UNREACHABLE
    assert result.message.startswith("subprocess.CalledProcessError: Command '['restic', ")
    assert result.message.endswith(f"; S3 at {black_hole} did not answer within 1 s)")


async def test_a_bucket_without_a_repository(
    environment: Environment, backup_task: BackupTask, repository: Repository
) -> None:
    place = repository.model_copy(update={"prefix": "elsewhere"})
    result = await perform(backup_task.model_copy(update={"repository": place}), environment)
    assert result.reason is Reason.REPOSITORY_NOT_FOUND
    assert "returned non-zero exit status 10. (Fatal: repository does not exist" in result.message


async def test_a_wrong_password(with_variables: Changed, backup_task: BackupTask) -> None:
    result = await perform(backup_task, with_variables(**{SecretEnv.PASSWORD: "not the one"}))
    assert result.reason is Reason.WRONG_PASSWORD
    assert result.message.endswith("returned non-zero exit status 12. (Fatal: wrong password or no key found)")


async def test_a_key_that_may_only_read(with_variables: Changed, backup_task: BackupTask, s3: S3) -> None:
    keys = {SecretEnv.ACCESS_KEY: s3.reader.access, SecretEnv.SECRET_KEY: s3.reader.secret}
    result = await perform(backup_task, with_variables(**keys))
    assert result.reason is Reason.RESTIC_FAILED
    assert "Access Denied" in result.message
    assert '"message_type"' not in result.message


async def test_a_snapshot_that_is_not_there(environment: Environment, repository: Repository) -> None:
    task = RestoreTask(repository=repository, timeout_seconds=60, snapshot_id="5bbc8b1a")
    result = await perform(task, environment)
    assert result.reason is Reason.RESTIC_FAILED
    assert 'no matching ID found for prefix "5bbc8b1a"' in result.message


async def test_a_restored_snapshot_that_is_corrupt_is_not_called_restored(
    environment: Environment, repository: Repository
) -> None:
    environment.paths.snapshot.write_bytes(bytes(4096 + 32))
    restic(repository, environment, "backup", "--quiet", str(environment.paths.data))
    (snapshot,) = restic(repository, environment, "snapshots", "latest", "--path", str(environment.paths.data))
    task = RestoreTask(repository=repository, timeout_seconds=60, snapshot_id=snapshot["short_id"])
    result = await perform(task, environment)
    assert result.reason is Reason.SNAPSHOT_CORRUPT
    assert "etcd-snapshot.db" in result.message


# The real restic cannot be made to fail in these ways on demand (root reads every file, a foreign lock takes a
# second machine): a stand-in ends as restic documents it.
@pytest.mark.parametrize(
    ("status", "stderr", "reason", "exit_code", "words"),
    [
        (
            3,
            """\
{"message_type":"error","error":{"message":"open /data/x: permission denied"},"during":"archival","item":"/data/x"}
{"message_type":"exit_error","code":3,"message":"Warning: at least one source file could not be read"}""",
            Reason.SOURCE_UNREADABLE,
            ExitCode.FAILED,
            "(open /data/x: permission denied Warning: at least one source file could not be read)",
        ),
        (
            11,
            '{"message_type":"exit_error","code":11,"message":"unable to create lock: repository is locked"}',
            Reason.REPOSITORY_LOCKED,
            ExitCode.RETRY,
            "(unable to create lock: repository is locked)",
        ),
    ],
)
async def test_what_restic_cannot_do(
    with_variables: Changed,
    backup_task: BackupTask,
    tmp_path: Path,
    status: int,
    stderr: str,
    reason: Reason,
    exit_code: ExitCode,
    words: str,
) -> None:
    play_restic(tmp_path, f"cat >&2 <<'EOF'\n{stderr}\nEOF\nexit {status}")
    result = await perform(backup_task, with_variables(PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert (result.outcome, result.reason, result.exit_code) == ("Failed", reason, exit_code)
    assert f"returned non-zero exit status {status}." in result.message
    assert result.message.endswith(words)


def play_restic(directory: Path, script: str) -> None:
    file = directory / "restic"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("name", list(SecretEnv))
async def test_a_secret_that_is_absent_is_named(
    with_variables: Changed, backup_task: BackupTask, name: SecretEnv
) -> None:
    result = await perform(backup_task, with_variables(**{name: None}))
    assert result.reason is Reason.WORKER_ERROR
    assert f"environment variable {name} " in result.message


async def test_an_unforeseen_error_is_reported_by_type_and_message(
    environment: Environment, backup_task: BackupTask, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = replace(environment, paths=replace(environment.paths, data=Path("/proc/none")))
    result = await perform(backup_task, nowhere)
    assert result.reason is Reason.WORKER_ERROR
    assert result.message.startswith("FileNotFoundError: ")
    assert "Traceback" in capsys.readouterr().err
