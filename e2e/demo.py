"""A backup, a look at it, a disaster and a restore, on a real cluster: the main job from beginning to end.

Each command is printed as a person would type it, with what it prints. What is claimed in the summary at the end
was checked; the first check that fails ends the demo with an error.
"""

import base64
import json
import re
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from e2e import cluster, figures, machine
from e2e.cluster import NAMESPACE, Cluster

LOCATION, POLICY, RESTORE, VOLUME = "demo", "demo-policy", "demo-restore", "demo-restored"
FIVE = (
    "kubedr_backup_size_bytes",
    "kubedr_num_backups",
    "kubedr_num_successful_backups",
    "kubedr_num_failed_backups",
    "kubedr_backup_duration_seconds",
)


@dataclass
class Story:
    """The demo as it goes, and what it found true."""

    cluster: Cluster
    checked: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(f"\n\033[1m── {text}\033[0m", flush=True)

    def show(self, *args: str, given: str | None = None) -> str:
        """Run kubectl in our namespace, showing the command and its output."""
        print(f"$ kubectl -n {NAMESPACE} {' '.join(args)}", flush=True)
        if given:
            print(
                "".join(f"  {line}\n" for line in re.sub(r"((key|password): ).*", r"\1…", given).splitlines()), end=""
            )
        output = self.cluster.kubectl("-n", NAMESPACE, *args, given=given)
        print(output.rstrip(), flush=True)
        return output

    def get(self, kind: str, name: str) -> dict[str, Any]:
        item: dict[str, Any] = json.loads(self.cluster.kubectl("-n", NAMESPACE, "get", kind, name, "-o", "json"))
        return item

    def check(self, claim: str, *, true: bool) -> None:
        if not true:
            sys.exit(f"✗ not so: {claim}")
        self.checked.append(claim)


def main() -> None:
    """Tell the story on the cluster that is up, or on one made for it and taken away afterwards."""
    with cluster.bed() as lent:
        story = Story(lent)
        _clean(story)
        try:
            _back_up(story)
            _look(story)
            _restore(story)
            story.say("Figures")
            figures.show(lent, POLICY, LOCATION)
        finally:
            _clean(story)
    print("\n\033[1m── What was checked\033[0m")
    print("".join(f"✓ {claim}\n" for claim in story.checked), end="")


def _back_up(story: Story) -> None:
    server = story.cluster.s3
    bucket = f"demo-{secrets.token_hex(4)}"
    story.say("Where backups go: a Secret and a BackupLocation")
    story.show(
        "apply", "-f", "-",
        given=f"""\
apiVersion: v1
kind: Secret
metadata:
  name: {LOCATION}-creds
stringData:
  access_key: {server.access_key}
  secret_key: {server.secret_key}
  restic_repo_password: {secrets.token_hex(16)}
---
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: BackupLocation
metadata:
  name: {LOCATION}
spec:
  url: {server.endpoint}
  bucketName: {bucket}
  credentials: {LOCATION}-creds
""",
    )  # fmt: skip
    story.show("wait", "--for=condition=Ready", f"bl/{LOCATION}", "--timeout=120s")
    story.check("the repository was initialized", true=story.get("bl", LOCATION)["status"]["initStatus"] == "Completed")

    story.say("What is backed up, and when: a MetadataBackupPolicy")
    story.show(
        "apply", "-f", "-",
        given=f"""\
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: MetadataBackupPolicy
metadata:
  name: {POLICY}
spec:
  destination: {LOCATION}
  schedule: "0 */6 * * *"
  certsDir: /etc/kubernetes/pki
""",
    )  # fmt: skip
    story.show("wait", "--for=condition=Ready", f"mbp/{POLICY}", "--timeout=60s")

    story.say("A backup now")
    story.show("create", "job", "demo-backup-now", f"--from=cronjob/{POLICY}-backup-cronjob")
    story.show("wait", "--for=jsonpath={.status.backupStatus}=Completed", f"mbp/{POLICY}", "--timeout=180s")


def _look(story: Story) -> None:
    policy = story.get("mbp", POLICY)["status"]
    record = policy["mbrName"]
    story.say("What a person looks at: status")
    story.show("get", "bl,mbp,mbr")
    for kind, name in (("bl", LOCATION), ("mbp", POLICY), ("mbr", record)):
        story.show("describe", kind, name)
    story.say("… events")
    events = story.show("get", "events", "--field-selector=source=kubedr")
    for reason in ("InitSucceeded", "BackupSucceeded"):
        story.check(f"event {reason}", true=reason in events)
    story.say("… metrics")
    metrics = story.cluster.metrics()
    print(f"$ curl {story.cluster.metrics_url}")
    lines = [line for line in metrics.splitlines() if line.startswith(FIVE) and f'policyName="{POLICY}"' in line]
    print("\n".join(lines))
    story.check(
        "the five metrics of the policy", true=all(any(line.startswith(name) for line in lines) for name in FIVE)
    )
    size = next(line for line in lines if line.startswith(FIVE[0])).rpartition(" ")[2]
    story.check("status and metric tell the same size", true=float(size) == policy["totalBytesProcessed"])
    taken = story.get("mbr", record)["status"]
    story.check(f"the record {record}: etcd's revision {taken['etcdRevision']}", true=taken["etcdRevision"] > 0)
    story.check(f"it holds {taken['certificateCount']} certificates and keys", true=taken["certificateCount"] > 10)


def _restore(story: Story) -> None:
    record = story.get("mbp", POLICY)["status"]["mbrName"]
    story.say("One day: a MetadataRestore into a volume")
    story.show(
        "apply", "-f", "-",
        given=f"""\
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {VOLUME}
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests:
      storage: 1Gi
---
apiVersion: kubedr.catalogicsoftware.com/v1alpha1
kind: MetadataRestore
metadata:
  name: {RESTORE}
spec:
  mbrName: {record}
  pvcName: {VOLUME}
""",
    )  # fmt: skip
    story.show("wait", "--for=jsonpath={.status.restoreStatus}=Completed", f"mr/{RESTORE}", "--timeout=180s")
    story.show("describe", "mr", RESTORE)
    story.check(
        "event RestoreSucceeded",
        true="RestoreSucceeded" in story.show("get", "events", "--field-selector=source=kubedr"),
    )

    story.say("What came back")
    directory = restored_directory(story.cluster, VOLUME)
    print(story.cluster.node("find", f"{directory}/data", "-maxdepth", "2").rstrip())
    with TemporaryDirectory() as scratch:
        snapshot = Path(scratch) / "etcd-snapshot.db"
        snapshot.write_bytes(base64.b64decode(story.cluster.node("base64", f"{directory}/data/etcd-snapshot.db")))
        print("$ etcdutl snapshot status data/etcd-snapshot.db")
        found = json.loads(machine.run("etcdutl", "snapshot", "status", str(snapshot), "--write-out=json"))
        print(found)
    story.check(f"etcdutl opens the restored snapshot: {found['totalKey']} keys", true=found["totalKey"] > 100)
    same = story.cluster.node(
        "sh", "-c", f"diff -r /etc/kubernetes/pki {directory}/data/certificates && echo same"
    ).strip()
    story.check("the restored certificates are those on the node", true=same == "same")


def restored_directory(lent: Cluster, volume: str) -> str:
    """Return where on the node the files of a claim are."""
    path = "jsonpath={.spec.volumeName}"
    bound = lent.kubectl("-n", NAMESPACE, "get", "pvc", volume, "-o", path)
    source = json.loads(lent.kubectl("get", "pv", bound, "-o", "json"))["spec"]
    return str((source.get("hostPath") or source["local"])["path"])


def _clean(story: Story) -> None:
    """Take away what an earlier demo or this one has left in the cluster."""
    kubectl = story.cluster.kubectl
    quiet = ("-n", NAMESPACE, "delete", "--ignore-not-found", "--wait=true", "--timeout=60s")
    kubectl(*quiet, f"mr/{RESTORE}", f"pvc/{VOLUME}", f"mbp/{POLICY}")
    records = json.loads(kubectl("-n", NAMESPACE, "get", "mbr", "-o", "json"))["items"]
    ours = [f"mbr/{item['metadata']['name']}" for item in records if item["spec"]["policy"] == POLICY]
    if ours:
        kubectl(*quiet, *ours)
    kubectl(*quiet, f"bl/{LOCATION}", f"secret/{LOCATION}-creds")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit("\n".join([str(error), *getattr(error, "__notes__", ())]))
