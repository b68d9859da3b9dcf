"""A real etcd of one member on loopback that admits clients by certificate."""

import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.pki import Authority, KeyPair
from tests.servers.process import LOOPBACK, binary, free_port, running


@dataclass(frozen=True)
class Etcd:
    """A running etcd and what a client needs to be let in."""

    endpoint: str
    authority: Authority
    client: KeyPair


@contextmanager
def etcd(directory: Path, authority: Authority) -> Iterator[Etcd]:
    """Run etcd; its data are in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    server, client = authority.server("etcd"), authority.client("etcd-client")
    endpoint, peer = (f"{scheme}://{LOOPBACK}:{free_port()}" for scheme in ("https", "http"))
    trust = ssl.create_default_context(cafile=authority.certificate)
    trust.load_cert_chain(client.certificate, client.key)

    def healthy() -> bool:
        with urllib.request.urlopen(f"{endpoint}/health", context=trust, timeout=5) as response:  # noqa: S310
            return b'"true"' in response.read()

    argv: list[str | Path] = [
        binary("etcd"),
        f"--data-dir={directory / 'data'}",
        f"--listen-client-urls={endpoint}",
        f"--advertise-client-urls={endpoint}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--client-cert-auth",
        f"--trusted-ca-file={authority.certificate}",
        f"--cert-file={server.certificate}",
        f"--key-file={server.key}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    with running(argv, log=directory / "etcd.log", ready=healthy):
        yield Etcd(endpoint, authority, client)
