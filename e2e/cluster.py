"""One Kubernetes node, by kind, with an S3 server and the controller of this working tree.

- `up` makes of whatever is there a cluster that runs this working tree; what has not changed is left as it is. If it
  fails or is interrupted, a cluster that it had begun is taken away again.
- `down` takes everything away but the caches.
- `bed` is both around a block: a cluster that is up is used and stays up.
"""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from e2e import binaries, docker, images, machine, s3
from e2e.machine import BIN, CACHE, KUBECONFIG, REPOSITORY, RUN, run, step
from e2e.s3 import S3

NAMESPACE = "kubedr-system"
_NAME = "kubedr"
_NODE = f"{_NAME}-control-plane"
ON_NODE = ("docker", "exec", "--interactive", _NODE)
"""What a command begins with that is to run as root on the node."""
_STATE = RUN / "cluster.json"
_METRICS_PORT = 30080
_METRICS_ON_NODE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "metrics-on-node", "namespace": NAMESPACE},
    "spec": {
        "type": "NodePort",
        "selector": {"app.kubernetes.io/instance": "kubedr", "app.kubernetes.io/component": "controller"},
        "ports": [{"port": 8080, "targetPort": "http", "nodePort": _METRICS_PORT}],
    },
}
_ETCD = "/etc/kubernetes/pki/etcd"
_CREDENTIALS = {"ca.crt": "ca.crt", "client.crt": "healthcheck-client.crt", "client.key": "healthcheck-client.key"}


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up, with the controller in namespace `NAMESPACE`."""

    image: str
    metrics_url: str
    s3: S3

    def kubectl(self, *args: str, given: str | None = None) -> str:
        """Run kubectl and return its output; `given` is its standard input, for `apply -f -`.

        Raises `subprocess.CalledProcessError` with what kubectl said as a note.
        """
        return run("kubectl", *args, given=given)

    def node(self, *command: str) -> str:
        """Run a command as root on the node."""
        return run(*ON_NODE, *command)

    def metrics(self) -> str:
        """Return what the controller tells Prometheus; raises `OSError` while no controller answers."""
        with urllib.request.urlopen(self.metrics_url, timeout=5) as answer:  # noqa: S310  # our own URL
            return str(answer.read(), "utf-8")

    def exports(self) -> str:
        """Return shell commands after which people reach everything as this object does."""
        environment = machine.environment()
        own = environment["PATH"].removesuffix(os.environ["PATH"])
        values = {
            "KUBECONFIG": str(KUBECONFIG),
            **{name: environment[name] for name in ("DOCKER_HOST",) if name in environment},
            "S3_ENDPOINT": self.s3.endpoint,
            "S3_ACCESS_KEY": self.s3.access_key,
            "S3_SECRET_KEY": self.s3.secret_key,
            "METRICS_URL": self.metrics_url,
            "IMAGE": self.image,
        }
        lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
        return "\n".join([f'export PATH={shlex.quote(own)}"$PATH"', *lines])


def up() -> Cluster:
    """Have a cluster that runs this working tree; the first time on a machine takes up to 20 minutes, later one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by another program: clean up as after Ctrl-C
    with _alone():
        docker.start()
        begin = not is_up()
        try:
            server = _create() if begin else current().s3
            s3.serve(server)
            cluster = _install(server)
        except BaseException:
            if begin:
                _remove()
            raise
        return cluster


def down() -> None:
    """Take away the cluster, its S3 server with all data, its network, and Docker if it was started for it."""
    with _alone():
        if RUN.exists():
            docker.start()
            _remove()


@contextmanager
def bed() -> Iterator[Cluster]:
    """Lend the cluster that is up, or one made for the block."""
    with _alone():
        stays = is_up()
    cluster = up()
    try:
        yield cluster
    finally:
        if not stays:
            down()


def is_up() -> bool:
    """Say whether a cluster made by `up` answers."""
    if not _STATE.exists():
        return False
    try:
        run("kubectl", "get", "--raw=/readyz", "--request-timeout=5s")
    except subprocess.CalledProcessError:
        return False
    return True


def current() -> Cluster:
    """Return the cluster that `up` made; raises `FileNotFoundError` if there is none."""
    state = json.loads(_STATE.read_text())
    return Cluster(**state | {"s3": S3(**state["s3"])})


def _create() -> S3:
    _delete_node()
    node_image = images.node_image()
    binaries.ensure(*binaries.FOR_PEOPLE, "kind")
    gateway = docker.create_network()
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"ipFamily": "ipv4", "disableDefaultCNI": node_image.startswith("kubedr/")},
        "nodes": [{"role": "control-plane", "image": node_image}],
    }
    with step(f"create a cluster of {node_image}"):
        _kind("create", "cluster", "--config=-", "--wait=2m", given=json.dumps(config))
        machine.wait("the default ServiceAccount", _has_service_account, seconds=30)  # it follows the node's readiness
    s3.remove()
    return s3.start(gateway)


def _install(server: S3) -> Cluster:
    """Load the image, install the chart and what a user brings: the etcd credentials."""
    binaries.ensure(*binaries.FOR_PEOPLE, "kind")
    image = images.controller_image()
    [node] = json.loads(run("docker", "inspect", _NODE))
    cluster = Cluster(
        image,
        f"http://{node['NetworkSettings']['Networks'][docker.NETWORK]['IPAddress']}:{_METRICS_PORT}/metrics",
        server,
    )
    if not cluster.node("ctr", "--namespace=k8s.io", "images", "list", "--quiet", f"name==docker.io/library/{image}"):
        with step(f"load {image}"):
            _kind("load", "docker-image", image)
    with step("install the controller"):
        repository, _, tag = image.partition(":")
        run(
            *("helm", "upgrade", "--install", "kubedr", REPOSITORY / "charts" / "kubedr"),
            *(f"--namespace={NAMESPACE}", "--create-namespace", "--wait", "--timeout=2m"),
            *(f"--set=image.repository={repository}", f"--set=image.tag={tag}"),
        )
        # As the chart's notes say: backups read the node's certificates.
        cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=privileged", "--overwrite")
        keys = {
            key: b64encode(cluster.node("cat", f"{_ETCD}/{file}").encode()).decode()
            for key, file in _CREDENTIALS.items()
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "etcd-creds", "namespace": NAMESPACE},
            "data": keys,
        }
        cluster.kubectl("apply", "--filename=-", given=json.dumps(secret))
        cluster.kubectl("apply", "--filename=-", given=json.dumps(_METRICS_ON_NODE))
        machine.wait("the controller's metrics", lambda: _answers(cluster), seconds=30)  # kube-proxy follows
    _STATE.touch(0o600)
    _STATE.write_text(json.dumps(asdict(cluster)))
    return cluster


def _remove() -> None:
    with step("take the cluster away"):
        s3.remove()
        _delete_node()
        docker.remove_network()
        docker.stop()
        shutil.rmtree(RUN)


def _delete_node() -> None:
    if (BIN / "kind").exists():
        _kind("delete", "cluster")


def _kind(*args: str, given: str | None = None) -> None:
    run("kind", *args, f"--name={_NAME}", given=given, env={"KIND_EXPERIMENTAL_DOCKER_NETWORK": docker.NETWORK})


def _answers(cluster: Cluster) -> bool:
    try:
        return bool(cluster.metrics())
    except OSError:
        return False


def _has_service_account() -> bool:
    return bool(run("kubectl", "get", "serviceaccount", "default", "--ignore-not-found", "--output=name"))


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other commands of the bed waiting."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
