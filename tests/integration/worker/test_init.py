"""Initialisation against a real S3 server, in all the ways in which users get it wrong."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from kubedr_ctrl.api.result import ExitCode, Reason
from kubedr_ctrl.api.task import InitTask, Repository, SecretEnv
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.main import perform
from tests.servers.process import free_port
from tests.servers.s3 import S3

Changed = Callable[..., Environment]


def task(repository: Repository, *, adopt: bool = False, creator: str = "nobody") -> InitTask:
    return InitTask(repository=repository, timeout_seconds=30, adopt=adopt, creator=creator)


async def test_the_bucket_is_created_and_the_repository_initialised(
    environment: Environment, location: Repository
) -> None:
    result = await perform(task(location), environment)
    assert (result.outcome, result.message) == ("Completed", "")
    assert re.fullmatch("[0-9a-f]{64}", result.repository_id or "")


async def test_an_existing_repository_is_refused_in_the_words_of_the_guide(
    environment: Environment, repository: Repository
) -> None:
    result = await perform(task(repository), environment)
    assert (result.reason, result.exit_code) == (Reason.REPOSITORY_EXISTS, ExitCode.FAILED)
    assert result.message == (
        f"Fatal: create key in repository at {repository.address} failed: "
        "repository master key and config already initialized\n"
    )


async def test_an_existing_repository_is_adopted_under_its_own_id(
    environment: Environment, location: Repository
) -> None:
    made = await perform(task(location), environment)
    adopted = await perform(task(location, adopt=True), environment)
    assert adopted.completed, adopted
    assert adopted.repository_id == made.repository_id


async def test_a_repository_with_another_password_is_not_adopted(
    with_variables: Changed, repository: Repository
) -> None:
    other = with_variables(**{SecretEnv.PASSWORD: "not the one"})
    result = await perform(task(repository, adopt=True), other)
    assert result.reason is Reason.WRONG_PASSWORD
    assert repository.address in result.message
    assert (await perform(task(repository), other)).reason is Reason.REPOSITORY_EXISTS


async def test_a_second_pod_of_the_same_job_finds_its_work_done(
    environment: Environment, repository: Repository
) -> None:
    result = await perform(task(repository, creator=socket.gethostname()), environment)
    assert result.completed, result
    assert result.repository_id


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {SecretEnv.ACCESS_KEY: "NONE"},
            (
                "S3 at {url} does not know the access key: correct access_key in the credentials Secret "
                "(InvalidAccessKeyId)"
            ),
        ),
        (
            {SecretEnv.SECRET_KEY: "wrong-secret"},
            "S3 at {url} refused the secret key: correct secret_key in the credentials Secret (SignatureDoesNotMatch)",
        ),
    ],
)
async def test_wrong_keys_are_told_apart(
    with_variables: Changed, location: Repository, changed: dict[str, str], message: str
) -> None:
    result = await perform(task(location), with_variables(**changed))
    assert result.message == message.format(url=location.url)
    assert (result.reason, result.exit_code) == (Reason.S3_ACCESS_DENIED, ExitCode.FAILED)


async def test_a_key_that_may_not_create_the_bucket(with_variables: Changed, location: Repository, s3: S3) -> None:
    keys = {SecretEnv.ACCESS_KEY: s3.reader.access, SecretEnv.SECRET_KEY: s3.reader.secret}
    result = await perform(task(location), with_variables(**keys))
    assert result.reason is Reason.BUCKET_NOT_FOUND
    assert "client.MakeBucket: Access Denied." in result.message


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1", "cannot be reached: connection refused"),
        ("http://s3.invalid:9000", "cannot be reached: its name cannot be resolved"),
    ],
)
async def test_an_endpoint_that_cannot_be_reached(environment: Environment, bucket: str, url: str, why: str) -> None:
    result = await perform(task(Repository(url=url, bucket=bucket)), environment)
    assert result.message == f"S3 at {url} {why}"
    assert (result.reason, result.exit_code) == (Reason.S3_UNREACHABLE, ExitCode.RETRY)


async def test_a_black_hole_is_given_up_within_ten_seconds(
    environment: Environment, bucket: str, black_hole: str
) -> None:
    begin = time.monotonic()
    result = await perform(task(Repository(url=black_hole, bucket=bucket)), environment)
    assert time.monotonic() - begin < 10
    assert result.message == f"S3 at {black_hole} did not answer within 5 s"
    assert result.reason is Reason.S3_UNREACHABLE


# What SeaweedFS cannot be made to say on demand is said by a stand-in.
@pytest.fixture
def answering() -> Iterator[Callable[[int, str, str], str]]:
    servers: list[HTTPServer] = []

    def start(status: int, content_type: str, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", free_port()), Handler)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "content_type", "body", "reason", "why"),
    [
        (
            403,
            "application/xml",
            "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>",
            Reason.S3_ACCESS_DENIED,
            "denies the access key this bucket",
        ),
        (
            403,
            "application/xml",
            "<Error><Code>RequestTimeTooSkewed</Code><Message>Skewed.</Message></Error>",
            Reason.S3_ACCESS_DENIED,
            "set the clocks right",
        ),
        (
            503,
            "application/xml",
            "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
            Reason.S3_UNREACHABLE,
            "failed: Reduce your request rate. (SlowDown)",
        ),
        (404, "text/html", "<h1>It works!</h1>", Reason.S3_UNREACHABLE, "does not answer as S3 does"),
    ],
)
async def test_other_answers(
    environment: Environment,
    answering: Callable[[int, str, str], str],
    status: int,
    content_type: str,
    body: str,
    reason: Reason,
    why: str,
) -> None:
    place = Repository(url=answering(status, content_type, body), bucket="testbucket")
    result = await perform(task(place), environment)
    assert result.reason is reason
    assert why in result.message
