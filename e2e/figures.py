"""What a backup costs on the cluster that is up, beside the same done by hand in the same minute."""

import base64
import json
import re
import time
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from e2e import machine
from e2e.cluster import NAMESPACE, Cluster

JOB = "figures-backup"


def show(cluster: Cluster, policy: str, location: str) -> None:
    """Run one backup of `policy` and print what it took."""
    before = _writes(cluster)
    begun = time.monotonic()
    _kubectl(cluster, "create", "job", JOB, f"--from=cronjob/{policy}-backup-cronjob")
    _kubectl(cluster, "wait", "--for=condition=Complete", f"job/{JOB}", "--timeout=180s")
    whole = time.monotonic() - begun
    recorded = r"jsonpath={.metadata.annotations.kubedr\.catalogicsoftware\.com/recorded}=Completed"
    _kubectl(cluster, "wait", f"--for={recorded}", f"job/{JOB}", "--timeout=30s")
    writes = _writes(cluster) - before
    report = _report(cluster)
    worker = datetime.fromisoformat(report["finished"]) - datetime.fromisoformat(report["started"])
    memory = re.search(r"^process_resident_memory_bytes (\S+)", cluster.metrics(), re.MULTILINE)
    rows = [
        ("a backup, from 'kubectl create job' to the Job's end", f"{whole:.2f} s"),
        ("  of it the worker", f"{worker.total_seconds():.2f} s"),
        ("the same by hand: etcdctl snapshot save, restic backup", f"{_by_hand(cluster, location):.2f} s"),
        ("worker's memory at its peak", f"{report['peakRssBytes'] / 2**20:.0f} MiB"),
        ("controller's memory", f"{float(memory[1]) / 2**20 if memory else 0:.0f} MiB"),
        ("controller's writes meanwhile, its lease's renewals included", f"{writes:.0f}"),
    ]
    for what, figure in rows:
        print(f"{what:<55} {figure:>10}", flush=True)


def _by_hand(cluster: Cluster, location: str) -> float:
    """Return the seconds that etcdctl and restic take from this machine, for the same data in the same bucket."""
    address = cluster.node("hostname", "-i").split()[0]
    spec = json.loads(_kubectl(cluster, "get", "bl", location, "-o", "json"))["spec"]
    etcd = _secret(cluster, "etcd-creds")
    creds = _secret(cluster, spec["credentials"])
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        for name, text in etcd.items():
            (directory / name).write_text(text)
        begun = time.monotonic()
        machine.run(
            "etcdctl",
            f"--endpoints=https://{address}:2379",
            *(f"--{flag}={directory}/{name}" for flag, name in (("cacert", "ca.crt"), ("cert", "client.crt"))),
            f"--key={directory}/client.key",
            *("snapshot", "save", f"{directory}/etcd-snapshot.db"),
        )
        machine.run(
            *("restic", "--no-cache", "-r", f"s3:{spec['url']}/{spec['bucketName']}", "--verbose", "backup", scratch),
            env={
                "AWS_ACCESS_KEY_ID": creds["access_key"],
                "AWS_SECRET_ACCESS_KEY": creds["secret_key"],
                "RESTIC_PASSWORD": creds["restic_repo_password"],
            },
        )
        return time.monotonic() - begun


def _report(cluster: Cluster) -> dict[str, Any]:
    selector = f"batch.kubernetes.io/job-name={JOB}"
    (pod,) = json.loads(_kubectl(cluster, "get", "pods", "-l", selector, "-o", "json"))["items"]
    result: dict[str, Any] = json.loads(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
    return result


def _secret(cluster: Cluster, name: str) -> dict[str, str]:
    data = json.loads(_kubectl(cluster, "get", "secret", name, "-o", "json"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _writes(cluster: Cluster) -> float:
    written = r'^kubedr_api_requests_total\{code="2..",verb="(?:POST|PATCH|DELETE)"\} (\S+)'
    return sum(map(float, re.findall(written, cluster.metrics(), re.MULTILINE)))


def _kubectl(cluster: Cluster, *args: str) -> str:
    return cluster.kubectl("-n", NAMESPACE, *args)
