"""Snapshots of a real etcd over TLS, and every way of not getting one."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from kubedr_ctrl.api.result import Reason
from kubedr_ctrl.worker import etcd as etcd_module
from kubedr_ctrl.worker.checksum import intact
from kubedr_ctrl.worker.ending import Failure
from kubedr_ctrl.worker.etcd import Credentials, snapshot
from kubedr_ctrl.worker.etcd_pb2 import RangeRequest, RangeResponse, SnapshotRequest, SnapshotResponse
from tests.servers.etcd import Etcd
from tests.servers.pki import Authority


@pytest.fixture
def credentials(etcd: Etcd) -> Credentials:
    return Credentials(
        etcd.authority.certificate.read_text(), etcd.client.certificate.read_text(), etcd.client.key.read_text()
    )


async def failure(credentials: Credentials | None, file: Path, *endpoints: str) -> Failure:
    with pytest.raises(Failure) as caught:
        await snapshot(endpoints, credentials, file)
    return caught.value


async def test_the_first_endpoint_that_answers_is_taken(etcd: Etcd, credentials: Credentials, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.db"
    state = await snapshot(("https://127.0.0.1:1", etcd.endpoint), credentials, file)
    assert intact(file)
    assert state.revision >= 1


async def test_a_refused_connection(credentials: Credentials, tmp_path: Path) -> None:
    refused = await failure(credentials, tmp_path / "s", "https://127.0.0.1:1")
    assert refused.message == "etcd at https://127.0.0.1:1 cannot be reached: connection refused"
    assert refused.reason is Reason.ETCD_UNREACHABLE


async def test_each_endpoint_is_told_of(
    credentials: Credentials, tmp_path: Path, black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_module, "PATIENCE_SECONDS", 1.0)
    silent = black_hole.replace("http:", "https:")
    refused = await failure(credentials, tmp_path / "s", "https://127.0.0.1:1", silent, "https://etcd.invalid:2379")
    assert refused.message == (
        "etcd at https://127.0.0.1:1 cannot be reached: connection refused; "
        f"etcd at {silent} cannot be reached: no answer within 1 s; "
        "etcd at https://etcd.invalid:2379 cannot be reached: its name cannot be resolved"
    )


async def test_a_server_that_the_ca_does_not_vouch_for(etcd: Etcd, credentials: Credentials, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    refused = await failure(replace(credentials, ca=stranger.certificate.read_text()), tmp_path / "s", etcd.endpoint)
    assert refused.reason is Reason.ETCD_CERTIFICATE_REFUSED
    assert refused.message.startswith(f"etcd at {etcd.endpoint} has a certificate that ca.crt does not vouch for: ")


async def test_a_client_certificate_of_another_authority(etcd: Etcd, credentials: Credentials, tmp_path: Path) -> None:
    client = Authority(tmp_path, "stranger").client("somebody")
    foreign = replace(credentials, certificate=client.certificate.read_text(), key=client.key.read_text())
    refused = await failure(foreign, tmp_path / "s", "https://127.0.0.1:1", etcd.endpoint)
    assert refused.reason is Reason.ETCD_CERTIFICATE_REFUSED
    assert f"etcd at {etcd.endpoint} refused the client certificate: " in refused.message


async def test_a_key_of_another_certificate(etcd: Etcd, credentials: Credentials, tmp_path: Path) -> None:
    key = Authority(tmp_path, "stranger").client("somebody").key
    refused = await failure(replace(credentials, key=key.read_text()), tmp_path / "s", etcd.endpoint)
    assert refused.reason is Reason.ETCD_CERTIFICATE_REFUSED
    assert refused.message.startswith("client.crt and client.key of etcd are no certificate with its private key")


async def test_a_ca_that_is_none(etcd: Etcd, credentials: Credentials, tmp_path: Path) -> None:
    refused = await failure(replace(credentials, ca="nothing"), tmp_path / "s", etcd.endpoint)
    assert refused.reason is Reason.ETCD_CERTIFICATE_REFUSED
    assert refused.message.startswith("ca.crt of etcd holds no certificate")


# A real etcd cannot be made to send a damaged snapshot, to break off, or to be quick about refusing a user.
Serve = Callable[[list[bytes], grpc.StatusCode | None], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    server = grpc.aio.server()

    async def start(blobs: list[bytes], end: grpc.StatusCode | None) -> str:
        async def count(
            _: RangeRequest, context: grpc.aio.ServicerContext[RangeRequest, RangeResponse]
        ) -> RangeResponse:
            if not blobs and end:
                await context.abort(end, "etcdserver: permission denied")
            return RangeResponse(count=3)

        async def send(
            _: SnapshotRequest, context: grpc.aio.ServicerContext[SnapshotRequest, SnapshotResponse]
        ) -> AsyncIterator[SnapshotResponse]:
            for blob in blobs:
                yield SnapshotResponse(blob=blob)
            if end:
                await context.abort(end, "etcdserver: stopped")

        handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            "etcdserverpb.KV": {
                "Range": grpc.unary_unary_rpc_method_handler(
                    count, RangeRequest.FromString, RangeResponse.SerializeToString
                )
            },
            "etcdserverpb.Maintenance": {
                "Snapshot": grpc.unary_stream_rpc_method_handler(
                    send, SnapshotRequest.FromString, SnapshotResponse.SerializeToString
                )
            },
        }
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, methods) for service, methods in handlers.items()]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return f"http://127.0.0.1:{port}"

    yield start
    await server.stop(None)


PAGES = bytes(range(256)) * 16
WHOLE = PAGES + hashlib.sha256(PAGES).digest()


async def test_http_needs_no_credentials(serve: Serve, tmp_path: Path) -> None:
    state = await snapshot((await serve([WHOLE[:1000], WHOLE[1000:]], None),), None, tmp_path / "s")
    assert state.keys == 3
    assert (tmp_path / "s").read_bytes() == WHOLE


@pytest.mark.parametrize(
    "blobs",
    [
        pytest.param([b"\1" + WHOLE[1:]], id="a byte is wrong"),
        pytest.param([PAGES], id="no checksum"),
        pytest.param([WHOLE[:700]], id="cut"),
        pytest.param([], id="empty"),
        pytest.param([hashlib.sha256(b"").digest()], id="nothing but a checksum"),
    ],
)
async def test_a_corrupt_snapshot_is_refused(serve: Serve, tmp_path: Path, blobs: list[bytes]) -> None:
    refused = await failure(None, tmp_path / "s", await serve(blobs, None))
    assert refused.reason is Reason.SNAPSHOT_CORRUPT


async def test_a_snapshot_that_breaks_off(serve: Serve, tmp_path: Path) -> None:
    endpoint = await serve([WHOLE[:512]], grpc.StatusCode.UNAVAILABLE)
    refused = await failure(None, tmp_path / "s", endpoint)
    assert refused.reason is Reason.ETCD_UNREACHABLE
    assert refused.message == (
        f"etcd at {endpoint} broke off its snapshot after 512 bytes: etcdserver: stopped (UNAVAILABLE)"
    )


async def test_a_user_without_the_right_to_read(serve: Serve, tmp_path: Path) -> None:
    endpoint = await serve([], grpc.StatusCode.PERMISSION_DENIED)
    refused = await failure(None, tmp_path / "s", endpoint)
    assert refused.reason is Reason.ETCD_CERTIFICATE_REFUSED
    assert "permission denied" in refused.message
