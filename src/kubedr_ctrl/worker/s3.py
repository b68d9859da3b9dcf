"""A signed request to the repository's bucket: does S3 let us in, and if not, why?

restic retries a wrong key, a missing bucket or a dead endpoint for a quarter of an hour; this takes 10 s at
the most, and milliseconds as a rule.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import minio
import urllib3
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.api.task import Repository, SecretEnv
from kubedr_ctrl.worker.ending import Failure
from kubedr_ctrl.worker.environment import Environment
from kubedr_ctrl.worker.proxies import proxy_for

PATIENCE_SECONDS = 5.0

# Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_REFUSALS = {
    "InvalidAccessKeyId": "does not know the access key: correct access_key in the credentials Secret",
    "SignatureDoesNotMatch": "refused the secret key: correct secret_key in the credentials Secret",
    "AccessDenied": "denies the access key this bucket: allow it to list, read, write and delete there",
    "RequestTimeTooSkewed": "has another time than this node: set the clocks right",
}


async def probe(repository: Repository, environment: Environment) -> Failure | None:
    """Return None if the bucket can be read with the keys of the environment, otherwise what is wrong."""
    client = _client(repository, environment)
    try:
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            await asyncio.to_thread(_read_config, client, repository)
    except TimeoutError:
        return _unreachable(repository, f"did not answer within {2 * PATIENCE_SECONDS:.0f} s")
    except S3Error as error:
        return _refused(repository, error)
    except (ServerError, InvalidResponseError) as error:
        return _unreachable(repository, f"does not answer as S3 does: {str(error)[:200]}")
    except HTTPError as error:
        return _unreachable(repository, _explain(error))
    return None


def _client(repository: Repository, environment: Environment) -> minio.Minio:
    url = urlsplit(repository.url)
    bundle = environment.paths.ca_bundle
    settings: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=PATIENCE_SECONDS, read=PATIENCE_SECONDS),
        "retries": False,
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": str(bundle) if bundle else None,
    }
    proxy = proxy_for(repository.url, environment.variables)
    pool = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
    return minio.Minio(
        url.netloc,
        access_key=environment.secret(SecretEnv.ACCESS_KEY),
        secret_key=environment.secret(SecretEnv.SECRET_KEY),
        secure=url.scheme == "https",
        region=repository.region or None,
        http_client=pool,
    )


def _read_config(client: minio.Minio, repository: Repository) -> None:
    """Read restic's `config`, which is the first thing restic itself does; there may be none yet."""
    name = "/".join(part for part in (repository.prefix.strip("/"), "config") if part)
    try:
        with client.get_object(repository.bucket, name) as response:
            response.read()
    except S3Error as error:
        if error.code != "NoSuchKey":
            raise


def _refused(repository: Repository, error: S3Error) -> Failure:
    if error.code == "NoSuchBucket":
        return Failure(
            Reason.BUCKET_NOT_FOUND, f"S3 at {repository.url} has no bucket {repository.bucket} (NoSuchBucket)"
        )
    if error.response.status >= 500:
        return _unreachable(repository, f"failed: {error.message} ({error.code})")
    why = _REFUSALS.get(error.code or "", f"refused the request: {error.message}")
    return Failure(Reason.S3_ACCESS_DENIED, f"S3 at {repository.url} {why} ({error.code})")


def _unreachable(repository: Repository, why: str) -> Failure:
    return Failure(Reason.S3_UNREACHABLE, f"S3 at {repository.url} {why}")


def _explain(error: HTTPError) -> str:
    """Return what an error on the way to S3 means."""
    match error:
        case NameResolutionError():
            return "cannot be reached: its name cannot be resolved"
        case NewConnectionError():
            return f"cannot be reached: {_cause(error)}"
        case ConnectTimeoutError() | ReadTimeoutError():
            return f"did not answer within {PATIENCE_SECONDS:.0f} s"
        case SSLError():
            return f"cannot be trusted: {_cause(error)}"
        case _:
            return f"cannot be reached: {error}"


def _cause(error: HTTPError) -> str:
    cause = error.__cause__ or (error.args[0] if error.args else None)
    if isinstance(cause, OSError):
        return (getattr(cause, "verify_message", None) or cause.strerror or str(cause)).lower()
    return str(error)
