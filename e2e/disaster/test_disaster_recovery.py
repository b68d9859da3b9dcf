"""A control plane is destroyed and brought back by what docs/disaster-recovery.md says. Runs when nothing else does."""

import json
import secrets
import shutil
from pathlib import Path

from e2e import cluster, docker, machine
from e2e.cluster import NAMESPACE, ON_NODE
from e2e.machine import BIN, run
from e2e.pages import Reader

MARKER = "created-after-the-last-backup"


def test_a_dead_control_plane_comes_back_from_a_backup(tmp_path: Path) -> None:
    lent = cluster.current()
    [node] = json.loads(run("docker", "inspect", ON_NODE[-1]))
    address = node["NetworkSettings"]["Networks"][docker.NETWORK]["IPAddress"]
    cluster_id = lent.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    bucket = f"disaster-{secrets.token_hex(4)}"
    clean(lent)
    reader = Reader(
        tmp_path,
        examples={
            "http://minio.example.com:9000/kubedr": f"{lent.s3.endpoint}/{bucket}",
            "http://minio.example.com:9000": lent.s3.endpoint,
            "bucketName: kubedr": f"bucketName: {bucket}",
            "203.0.113.10": address,
            "00000000-1111-2222-3333-444444444444": cluster_id,
            "/srv/kubeadm.conf": "/kind/kubeadm.conf",
            # A container as a machine does not pass the checks that are about kernels and swap.
            "DirAvailable--var-lib-etcd": "all",
        },
        variables={"S3_ACCESS_KEY": lent.s3.access_key, "S3_SECRET_KEY": lent.s3.secret_key},
    )
    for page in ("docs/configuration.md", "docs/backup.md"):
        reader.read(page)
    lent.kubectl("create", "configmap", MARKER)

    for program in ("restic", "etcdutl"):
        shutil.copy(BIN / program, tmp_path)
        run("docker", "cp", tmp_path / program, f"{ON_NODE[-1]}:/usr/local/bin/{program}")
    reader.variables["RESTIC_PASSWORD"] = (tmp_path / "restic-password").read_text().strip()
    reader.read("docs/disaster-recovery.md")

    assert MARKER not in lent.kubectl("get", "configmaps", "-o", "name")
    assert recorded(lent, "after-the-disaster") == "Completed"
    clean(lent)


def clean(lent: cluster.Cluster) -> None:
    """Take away what the pages make."""
    delete = ("-n", NAMESPACE, "delete", "--ignore-not-found", "--timeout=180s")
    lent.kubectl(*delete, "metadatabackuppolicy/test-backup")
    lent.kubectl(*delete, *(f"metadatabackuprecord/{name}" for name in sorted(records(lent))), "job/none")
    lent.kubectl(*delete, "backuplocation/local-minio", "secret/minio-creds")


def recorded(lent: cluster.Cluster, job: str) -> str:
    """Wait until a Job's outcome is recorded; return the outcome."""
    path = r"{.metadata.annotations.kubedr\.catalogicsoftware\.com/recorded}"
    asked = ("-n", NAMESPACE, "get", f"job/{job}", "-o", f"jsonpath={path}")
    machine.wait(f"{job} to be recorded", lambda: bool(lent.kubectl(*asked)), seconds=120)
    return lent.kubectl(*asked)


def records(lent: cluster.Cluster) -> set[str]:
    """Return the names of the records there are."""
    items = json.loads(lent.kubectl("-n", NAMESPACE, "get", "mbr", "-o", "json"))["items"]
    return {item["metadata"]["name"] for item in items if item["spec"]["policy"] == "test-backup"}
