"""An S3 server, SeaweedFS, at an address that pods and this machine both reach."""

import http.client
import secrets
import shutil
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from e2e import machine
from e2e.machine import RUN

_DATA = RUN / "s3"
_PORT = 8333


@dataclass(frozen=True)
class S3:
    """Where the server is and the keys it accepts."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)


def start(address: str) -> S3:
    """Start a server with new keys and no data."""
    server = S3(f"http://{address}:{_PORT}", secrets.token_hex(10).upper(), secrets.token_urlsafe(30))
    serve(server)
    return server


def serve(server: S3) -> None:
    """Run the server unless it is running: after a stop with the same keys and what data it had."""
    if machine.alive("s3"):
        return
    address = server.endpoint.removeprefix("http://").rpartition(":")[0]
    _DATA.mkdir(parents=True, exist_ok=True)
    machine.start(
        "s3",
        Path(sysconfig.get_path("scripts"), "weed"),
        *("mini", f"-dir={_DATA}", f"-ip={address}", f"-ip.bind={address}", f"-s3.port={_PORT}"),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        "-master.telemetry=false",  # it would report to its makers
        env={"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key},
    )

    def answers() -> bool:
        connection = http.client.HTTPConnection(address, _PORT, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.FORBIDDEN
        except OSError:
            return False
        finally:
            connection.close()

    machine.wait(f"the S3 server (its log: {RUN / 's3.log'})", answers, seconds=30)


def stop() -> None:
    """Stop the server; its data stay until `remove`."""
    machine.stop("s3")


def remove() -> None:
    """Stop the server and delete its data."""
    stop()
    if _DATA.exists():
        shutil.rmtree(_DATA)
