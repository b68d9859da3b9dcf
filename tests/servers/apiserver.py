"""A Kubernetes control plane without nodes: etcd, kube-apiserver and kube-controller-manager.

Pods stay Pending, as nothing runs them; `ControlPlane.pods` plays the kubelet by writing their status.
"""

import http.client
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.servers.etcd import Etcd, etcd
from tests.servers.pki import Authority, KeyPair, signing_key
from tests.servers.pods import Pods
from tests.servers.process import LOOPBACK, Server, binary, free_port, running

_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "ttl-after-finished-controller",
)


class ApiError(RuntimeError):
    """The API server said no; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class ControlPlane:
    """A running control plane and the administrator's means to talk to it."""

    server: str
    """The API server, `https://127.0.0.1:port`."""
    authority: Authority
    admin: KeyPair
    """A client certificate of group system:masters."""
    kubeconfig: Path
    etcd: Etcd
    apiserver: Server
    """The process, which can be stopped and started again."""

    @cached_property
    def pods(self) -> Pods:
        """What plays the kubelet."""
        return Pods(self.request)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """The administrator's side of TLS, for requests of the tests' own."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(self.admin.certificate, self.admin.key)
        return context

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and return what it prints; its complaint is raised."""
        done = subprocess.run(
            [binary("kubectl"), f"--kubeconfig={self.kubeconfig}", *args],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(self.kubeconfig.parent)},  # kubectl's own caches
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Send one request as the administrator and return the object it is answered with."""
        connection = http.client.HTTPSConnection(self.server.removeprefix("https://"), context=self.tls, timeout=30)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": content_type})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise ApiError(response.status, text.decode(errors="replace"))
        answer: dict[str, Any] = json.loads(text)
        return answer

    @contextmanager
    def namespace(self, prefix: str = "test-") -> Iterator[str]:
        """Create a namespace of a new name, ready for pods, and delete it in the end without waiting."""
        created = self.request("POST", "/api/v1/namespaces", {"metadata": {"generateName": prefix}})
        name: str = created["metadata"]["name"]
        self._await(f"/api/v1/namespaces/{name}/serviceaccounts/default")
        try:
            yield name
        finally:
            self.request("DELETE", f"/api/v1/namespaces/{name}")

    def _await(self, path: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.request("GET", path)
            except ApiError as error:
                if error.status != 404 or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


@contextmanager
def control_plane(directory: Path) -> Iterator[ControlPlane]:
    """Run a control plane with RBAC; its data, certificates and logs are in `directory`."""
    authority = Authority(directory / "pki", "kubernetes-ca")
    with (
        etcd(directory / "etcd", authority) as store,
        _apiserver(directory, authority, store) as plane,
        _controller_manager(directory, plane),
    ):
        yield plane


@contextmanager
def _apiserver(directory: Path, authority: Authority, store: Etcd) -> Iterator[ControlPlane]:
    serving = authority.server("kube-apiserver")
    admin = authority.client("kubernetes-admin", organization="system:masters")
    accounts = signing_key(directory / "pki" / "service-accounts.key")
    port = free_port()
    server = f"https://{LOOPBACK}:{port}"
    kubeconfig = _kubeconfig(directory / "kubeconfig", server, authority, admin)

    def ready() -> bool:
        try:
            # readyz waits for the RBAC bootstrap, yet namespace default may still be on its way
            plane.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:discovery")
            plane.request("GET", "/api/v1/namespaces/default")
        except ApiError:
            return False
        return True

    argv: list[str | Path] = [
        binary("kube-apiserver"),
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        "--endpoint-reconciler-type=none",
        f"--etcd-servers={store.endpoint}",
        f"--etcd-cafile={authority.certificate}",
        f"--etcd-certfile={store.client.certificate}",
        f"--etcd-keyfile={store.client.key}",
        f"--client-ca-file={authority.certificate}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--service-account-key-file={accounts}",
        f"--service-account-signing-key-file={accounts}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        "--allow-privileged",
    ]
    apiserver = Server(argv, log=directory / "kube-apiserver.log", ready=ready)
    plane = ControlPlane(server, authority, admin, kubeconfig, store, apiserver)
    try:
        apiserver.start()
        yield plane
    finally:
        apiserver.stop()


@contextmanager
def _controller_manager(directory: Path, plane: ControlPlane) -> Iterator[None]:
    client = plane.authority.client("system:kube-controller-manager", organization="system:masters")
    kubeconfig = _kubeconfig(directory / "controller-manager.kubeconfig", plane.server, plane.authority, client)
    port = free_port()

    def healthy() -> bool:
        connection = http.client.HTTPSConnection(LOOPBACK, port, context=unverified, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    unverified = ssl._create_unverified_context()  # noqa: S323 - it signs its certificate itself
    argv: list[str | Path] = [
        binary("kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--controllers={','.join(_CONTROLLERS)}",
        f"--root-ca-file={plane.authority.certificate}",
        "--leader-elect=false",
    ]
    with running(argv, log=directory / "kube-controller-manager.log", ready=healthy):
        yield


def _kubeconfig(path: Path, server: str, authority: Authority, client: KeyPair) -> Path:
    cluster = {"server": server, "certificate-authority": str(authority.certificate)}
    user = {"client-certificate": str(client.certificate), "client-key": str(client.key)}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "test", "user": user}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "current-context": "test",
            }
        )
    )
    return path
