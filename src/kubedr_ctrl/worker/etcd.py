"""An etcd snapshot over gRPC, checked before anybody relies on it.

- Endpoints are tried in order; each has 5 s to let us in, and the message says of each what it was.
- Whether etcd lets us in is asked by a TLS handshake of our own first: its errors have types, whereas gRPC
  reports every one of them as UNAVAILABLE.
- The snapshot is hashed as it streams to the file and is good only if its checksum says so.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import grpc.aio

from kubedr_ctrl.api.result import Etcd, Reason
from kubedr_ctrl.worker.checksum import Checksum
from kubedr_ctrl.worker.ending import Failure
from kubedr_ctrl.worker.etcd_pb2 import RangeRequest, RangeResponse, SnapshotRequest, SnapshotResponse

PATIENCE_SECONDS = 5.0

_ALL_KEYS = RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
# HTTP/2's connection preface and an empty SETTINGS frame, RFC 9113 section 3.4: enough to be answered.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_OPTIONS = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True)
class Credentials:
    """PEM texts that authenticate etcd to us and us to etcd."""

    ca: str
    certificate: str
    key: str = field(repr=False)

    @property
    def for_grpc(self) -> grpc.ChannelCredentials:
        """The credentials as gRPC takes them."""
        return grpc.ssl_channel_credentials(self.ca.encode(), self.key.encode(), self.certificate.encode())

    @property
    def for_handshake(self) -> ssl.SSLContext:
        """The credentials for a handshake of our own; a Failure says which of the texts is no good."""
        try:
            context = ssl.create_default_context(cadata=self.ca)
        except (ssl.SSLError, ValueError) as error:
            raise Failure(Reason.ETCD_CERTIFICATE_REFUSED, f"ca.crt of etcd holds no certificate: {error}") from error
        context.set_alpn_protocols(["h2"])
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # no stricter than gRPC, which is what counts
        try:
            with _in_memory(self.certificate) as certificate, _in_memory(self.key) as key:
                context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            message = f"client.crt and client.key of etcd are no certificate with its private key: {error}"
            raise Failure(Reason.ETCD_CERTIFICATE_REFUSED, message) from error
        return context


async def snapshot(endpoints: tuple[str, ...], credentials: Credentials | None, file: Path) -> Etcd:
    """Write a checked snapshot to `file` and return what was known of etcd as it began.

    `credentials` are for https endpoints; without one they may be None.
    """
    problems: list[Failure] = []
    for endpoint in endpoints:
        async with _channel(endpoint, credentials) as channel:
            try:
                await _knock(endpoint, credentials)
                etcd = await _survey(endpoint, channel)
            except Failure as failure:
                problems.append(failure)
            else:
                await _stream(endpoint, channel, file)
                return etcd
    refused = any(problem.reason is Reason.ETCD_CERTIFICATE_REFUSED for problem in problems)
    raise Failure(
        Reason.ETCD_CERTIFICATE_REFUSED if refused else Reason.ETCD_UNREACHABLE,
        "; ".join(problem.message for problem in problems) or "no etcd endpoint is configured",
    )


async def _knock(endpoint: str, credentials: Credentials | None) -> None:
    """Return if etcd answers us; otherwise a Failure says why not."""
    host, port = _address(endpoint)
    tls = credentials.for_handshake if credentials and _secure(endpoint) else None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
            try:
                writer.write(_HELLO)
                # TLS 1.3: a server that refuses the client's certificate says so only now
                if not await reader.read(1):
                    raise ConnectionResetError
            finally:
                writer.close()
    except OSError as error:
        raise _explain(endpoint, error) from error


def _explain(endpoint: str, error: OSError) -> Failure:
    """Return what an error on the way to etcd means."""
    match error:
        case ssl.SSLCertVerificationError():
            return Failure(
                Reason.ETCD_CERTIFICATE_REFUSED,
                f"etcd at {endpoint} has a certificate that ca.crt does not vouch for: {error.verify_message}",
            )
        case ssl.SSLError() if "ALERT" in (error.reason or ""):
            return Failure(
                Reason.ETCD_CERTIFICATE_REFUSED,
                f"etcd at {endpoint} refused the client certificate: {error.reason}",
            )
        case ssl.SSLError():
            why = f"TLS handshake failed: {error.reason}"
        case ConnectionRefusedError():
            why = "connection refused"
        case socket.gaierror():
            why = "its name cannot be resolved"
        case TimeoutError():
            why = f"no answer within {PATIENCE_SECONDS:.0f} s"
        case ConnectionResetError():
            why = "connection closed"
        case _:
            why = error.strerror or str(error)
    return Failure(Reason.ETCD_UNREACHABLE, f"etcd at {endpoint} cannot be reached: {why}")


async def _survey(endpoint: str, channel: grpc.aio.Channel) -> Etcd:
    call = channel.unary_unary(
        "/etcdserverpb.KV/Range",
        request_serializer=RangeRequest.SerializeToString,
        response_deserializer=RangeResponse.FromString,
    )
    try:
        answer: RangeResponse = await call(_ALL_KEYS, timeout=PATIENCE_SECONDS)
    except grpc.aio.AioRpcError as error:
        raise _refusal(f"etcd at {endpoint} cannot be read", error) from error
    return Etcd(revision=answer.header.revision, keys=answer.count)


async def _stream(endpoint: str, channel: grpc.aio.Channel, file: Path) -> None:
    call = channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=SnapshotRequest.SerializeToString,
        response_deserializer=SnapshotResponse.FromString,
    )
    checksum = Checksum()
    part: SnapshotResponse
    with file.open("wb") as output:
        try:
            async for part in call(SnapshotRequest()):
                output.write(part.blob)
                checksum.update(part.blob)
        except grpc.aio.AioRpcError as error:
            what = f"etcd at {endpoint} broke off its snapshot after {checksum.size} bytes"
            raise _refusal(what, error) from error
    if not checksum.intact:
        raise Failure(
            Reason.SNAPSHOT_CORRUPT,
            f"the snapshot of etcd at {endpoint}, {checksum.size} bytes, does not match its own checksum: "
            "it was not backed up",
        )


def _refusal(what: str, error: grpc.aio.AioRpcError) -> Failure:
    denied = error.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)
    reason = Reason.ETCD_CERTIFICATE_REFUSED if denied else Reason.ETCD_UNREACHABLE
    return Failure(reason, f"{what}: {error.details()} ({error.code().name})")


def _channel(endpoint: str, credentials: Credentials | None) -> grpc.aio.Channel:
    host, port = _address(endpoint)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if credentials and _secure(endpoint):
        return grpc.aio.secure_channel(target, credentials.for_grpc, options=_OPTIONS)
    return grpc.aio.insecure_channel(target, options=_OPTIONS)


def _address(endpoint: str) -> tuple[str, int]:
    parts = urlsplit(endpoint)
    return parts.hostname or "", parts.port or 2379


def _secure(endpoint: str) -> bool:
    return endpoint.startswith("https:")


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Offer `text` as a file that no disk ever holds: OpenSSL takes a client's key from files only."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
