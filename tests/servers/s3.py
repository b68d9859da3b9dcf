"""A real S3 server, SeaweedFS, on loopback; and an address where nothing ever answers."""

import http.client
import json
import socket
import ssl
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.pki import Authority
from tests.servers.process import LOOPBACK, free_port, running

_SERVICES = ("master", "volume", "filer", "admin", "s3")
_PORTS = (*(f"{service}.port{kind}" for service in _SERVICES for kind in ("", ".grpc")), "s3.port.https")


@dataclass(frozen=True)
class Keys:
    """What signs requests."""

    access: str
    secret: str


@dataclass(frozen=True)
class S3:
    """A running S3 server."""

    url: str
    """Plain HTTP."""
    tls_url: str
    """HTTPS, with a certificate of `authority`."""
    authority: Authority
    keys: Keys
    """May do everything."""
    reader: Keys
    """May read what is there and write nothing."""


@contextmanager
def s3(directory: Path, authority: Authority) -> Iterator[S3]:
    """Run an S3 server; its data are in `directory`."""
    data = directory / "data"
    data.mkdir(parents=True)
    certificate = authority.server("s3")
    keys, reader = Keys("ADMINACCESSKEY", "admin-secret-key"), Keys("READERACCESSKEY", "reader-secret-key")
    identities = directory / "identities.json"
    identities.write_text(
        json.dumps({"identities": [_identity("admin", keys, "Admin"), _identity("reader", reader, "Read", "List")]})
    )
    ports = {name: free_port() for name in _PORTS}
    argv: list[str | Path] = [
        Path(sysconfig.get_path("scripts")) / "weed",
        "mini",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *(f"-{name}={port}" for name, port in ports.items()),
        f"-s3.cert.file={certificate.certificate}",
        f"-s3.key.file={certificate.key}",
        f"-s3.config={identities}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",  # it would report to its makers
    ]

    port, tls_port = ports["s3.port"], ports["s3.port.https"]

    def ready() -> bool:
        return _answers(http.client.HTTPConnection(LOOPBACK, port, timeout=5)) and _answers(
            http.client.HTTPSConnection(
                LOOPBACK, tls_port, timeout=5, context=ssl.create_default_context(cafile=authority.certificate)
            )
        )

    try:
        with running(argv, log=directory / "weed.log", ready=ready, env={"HOME": str(directory)}):
            yield S3(f"http://{LOOPBACK}:{port}", f"https://{LOOPBACK}:{tls_port}", authority, keys, reader)
    finally:
        for port in ports.values():  # it leaves its sockets behind
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


def _identity(name: str, keys: Keys, *actions: str) -> dict[str, object]:
    credentials = [{"accessKey": keys.access, "secretKey": keys.secret}]
    return {"name": name, "credentials": credentials, "actions": actions}


def _answers(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 403
    finally:
        connection.close()


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the URL of an endpoint that accepts connections and never says a word."""
    with socket.create_server((LOOPBACK, free_port())) as listener:
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
