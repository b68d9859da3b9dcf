"""Backups over many policies, faults at random, and then an audit: `make soak MINUTES=10`.

All is real but the nodes: API server, controller manager, etcd, S3, restic, the worker, two replicas of the controller.
What they tell of the backups in the end is held against the log of the kubelet that ran them. Two runs of the same SEED
draw the same faults; what these meet is up to the machine.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from kubedr_ctrl.api.names import RECORDED_ANNOTATION
from kubedr_ctrl.kube.lease import LEASES
from kubedr_ctrl.resources import EVENTS, JOBS, POLICIES, RECORDS
from soak.audit import Counts, Policy, Write, compare, held, table, usurped
from soak.cluster import RETAIN, Cluster, cluster
from soak.faults import Faults
from soak.kubelet import AWAY, Object
from tests.servers.process import BINARIES

EVERY = 1.0, 2.0
"""Seconds between two backups, at least and at most."""
PAUSE = 1.0, 4.0
"""Seconds between two faults."""
PROGRESS = 15.0
SETTLE = 180.0


class Soak:
    """One run."""

    def __init__(self, whole: Cluster, directory: Path, seed: int) -> None:
        self._cluster = whole
        self._directory = directory
        self._loads = Random(f"{seed} load")
        self._rng = Random(f"{seed} faults")
        self._faults = Faults(whole, self._rng, directory / "deletions.jsonl", self.say)
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._memory = self._resident()
        self._started = 0
        self._events: dict[str, Object] = {}
        """By UID: the API server forgets them after an hour."""

    def say(self, what: str) -> None:
        """Print a line with its time."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"{minutes:02}:{seconds:02}  {what}", flush=True)

    def run(self, minutes: float) -> None:
        """Back up and have things go wrong for so long."""
        threads = [threading.Thread(target=work, name=work.__name__) for work in (self._back_up, self._watch)]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() < self._began + minutes * 60:
                self._faults.happen()
                time.sleep(self._rng.uniform(*PAUSE))
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    def settle(self) -> None:
        """Wait until all that was begun is done, or has been given its time."""
        deadline = time.monotonic() + SETTLE
        while self._unsettled() and time.monotonic() < deadline:
            time.sleep(1)
        self.say("audit")

    def audit(self) -> bool:
        """Print what is told, and return whether it fits what happened."""
        self._note_events()
        runs, snapshots = self._cluster.kubelet.runs(), self._cluster.snapshots()
        policies = self._told()
        rows = [compare(policy, runs, self._faults.deletions, snapshots) for policy in policies]
        unsettled = (f"{what} has not settled" for what in self._unsettled())
        others = [*unsettled, *held(self._cluster.all(JOBS)), *usurped(self._writes())]
        known = {record["spec"]["snapshotId"] for record in self._cluster.all(RECORDS)}
        requests = sum(len(candidate.proxy.seen()) for candidate in self._cluster.candidates)
        print(table(rows))
        print("\n".join(f"! {difference}" for difference in others) or "  no Job held, no two that wrote at a time")
        print(f"  {len(snapshots - known)} snapshots without a record: {' '.join(sorted(snapshots - known))}")
        print(f"  {requests / (time.monotonic() - self._began):.1f} API requests a second")
        for name, memory in self._resident().items():
            print(f"  {name}: {self._memory[name]:.0f} MiB of memory at the start, {memory:.0f} at the end")
        fits = not others and not any(row.differences for row in rows)
        if not fits:
            self._keep_evidence()
        return fits

    def _back_up(self) -> None:
        while not self._stopping.wait(self._loads.uniform(*EVERY)):
            policy = self._loads.choice(self._cluster.policies)
            self._started += 1
            with suppress(RuntimeError):  # the API server is away, or the policy has no CronJob at the moment
                self._cluster.instance.backup_now(policy, f"{policy}-{self._started}")

    def _watch(self) -> None:
        """Say now and then how it goes."""
        while not self._stopping.wait(PROGRESS):
            with suppress(*AWAY):
                self._note_events()
                unrecorded = self._unrecorded()
                runs = self._cluster.kubelet.runs()
                failed = sum(not run.succeeded for run in runs)
                self.say(
                    f"-- {self._started} Jobs asked for, {len(runs)} workers ran, {failed} of them failed; "
                    f"{len(unrecorded)} Jobs not recorded, {self._faults.happened} faults"
                )

    def _unsettled(self) -> list[str]:
        """Name what is not done yet."""
        try:
            return [*self._unrecorded(), *(p.name for p in self._told() if len(p.records) > p.retain)]
        except AWAY as error:
            return [str(error)]

    def _unrecorded(self) -> list[str]:
        jobs = [job["metadata"] for job in self._cluster.all(JOBS)]
        return [meta["name"] for meta in jobs if RECORDED_ANNOTATION not in meta["annotations"]]

    def _note_events(self) -> None:
        self._events.update((event["metadata"]["uid"], event) for event in self._cluster.all(EVENTS))

    def _told(self) -> list[Policy]:
        """Return what is told of each policy."""
        records = [record for record in self._cluster.all(RECORDS) if "deletionTimestamp" not in record["metadata"]]
        replicas = [candidate.replica for candidate in self._cluster.candidates]
        leader = self._cluster.instance.wait_for(lambda: [one for one in replicas if one.leads()], "a leader")[0]
        metrics = leader.metrics()

        def told(policy: Object) -> Policy:
            name, uid = policy["metadata"]["name"], policy["metadata"]["uid"]
            totals = policy.get("status", {}).get("totals", {})
            reasons = [e["reason"] for e in self._events.values() if e["involvedObject"].get("uid") == uid]
            good, bad = reasons.count("BackupSucceeded"), reasons.count("BackupFailed")
            series = (f'kubedr_num_{kind}backups{{policyName="{name}"}}' for kind in ("", "successful_", "failed_"))
            return Policy(
                name=name,
                uid=uid,
                retain=RETAIN,
                totals=Counts(*(totals.get(kind, 0) for kind in Counts._fields)),
                events=Counts(good + bad, good, bad),
                metrics=Counts(*(int(metrics.get(one, 0)) for one in series)),
                records=frozenset(one["spec"]["snapshotId"] for one in records if one["spec"]["policy"] == name),
            )

        return [told(policy) for policy in self._cluster.all(POLICIES)]

    def _writes(self) -> list[Write]:
        return [
            Write(
                at=seen.at,
                replica=candidate.replica.name,
                what=str(seen.request),
                lease=seen.request.resource == LEASES.plural,
                accepted=seen.status in (200, 201),
            )
            for candidate in self._cluster.candidates
            for seen in candidate.proxy.seen(lambda request: request.writes)
        ]

    def _resident(self) -> dict[str, float]:
        """Return the replicas' memory, in MiB."""
        replicas = [candidate.replica for candidate in self._cluster.candidates]
        return {one.name: one.metrics()["process_resident_memory_bytes"] / 2**20 for one in replicas}

    def _keep_evidence(self) -> None:
        objects = {kind.plural: self._cluster.all(kind) for kind in (POLICIES, RECORDS, JOBS)}
        told = json.dumps({**objects, "events": [*self._events.values()]}, indent=1)
        (self._directory / "told.json").write_text(told)
        for candidate in self._cluster.candidates:
            seen = (f"{one.at - self._began:.3f} {one.status} {one.request}\n" for one in candidate.proxy.seen())
            (self._directory / f"{candidate.replica.name}.requests").write_text("".join(seen))


def main() -> None:
    """Soak, and exit with 1 if there is a difference."""
    minutes, policies = float(os.environ.get("MINUTES") or 10), int(os.environ.get("POLICIES") or 12)
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    directory = Path(tempfile.mkdtemp(prefix="kubedr-soak-"))
    os.environ["PATH"] = f"{BINARIES}:{os.environ['PATH']}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{minutes:g} minutes over {policies} policies, SEED={seed}; logs in {directory}", flush=True)
    try:
        with cluster(directory, Random(f"{seed} kubelet"), policies) as whole:
            soak = Soak(whole, directory, seed)
            soak.run(minutes)
            soak.settle()
            fits = soak.audit()
    except KeyboardInterrupt:
        sys.exit("stopped")
    if not fits:
        sys.exit(f"There are differences. SEED={seed}; what bears on them is in {directory}")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
