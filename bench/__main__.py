"""How soon and at what cost a result is told: `make bench`.

Runs the controller against a real API server without nodes, plays the pods' ends, and prints, for a number of backups,
the time from the Job's end (as a watch shows it) to status, event and metric, and the controller's writes and memory.
"""

import asyncio
import os
import re
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.kube.client import Client
from kubedr_ctrl.kube.credentials import load_credentials
from kubedr_ctrl.kube.informer import Informer
from kubedr_ctrl.kube.objects import Job, Named
from kubedr_ctrl.kube.store import Delta
from kubedr_ctrl.resources import EVENTS, JOBS, POLICIES
from tests.servers.apiserver import control_plane
from tests.servers.kubedr import MANIFESTS, Kubedr, kubedr, report

BACKUPS = 10
POLICY = "bench"
Moments = dict[str, float]


async def measure(instance: Kubedr, number: int) -> Moments:
    """Run one backup; return when its Job ended and when that was told, by the monotonic clock."""
    seen: Moments = {}
    job_name = f"bench-{number}"

    def note(what: str, *, so: bool) -> None:
        if so:
            seen.setdefault(what, time.monotonic())

    async with Client(await load_credentials(), user_agent="bench") as client:
        jobs = Informer(client, JOBS, instance.namespace)
        policies = Informer(client, POLICIES, instance.namespace)
        events = Informer(client, EVENTS, instance.namespace)

        def job_changed(delta: Delta[Job]) -> None:
            note("end", so=delta.object.metadata.name == job_name and delta.object.ended is not None)

        def event_changed(delta: Delta[Named]) -> None:
            note("event", so=delta.object.metadata.name.startswith(f"{POLICY}."))

        tasks = [asyncio.create_task(informer.run()) for informer in (jobs, policies, events)]
        for informer in (jobs, policies, events):
            await informer.synced.wait()
        jobs.on_change(job_changed)
        events.on_change(event_changed)
        policies.on_change(lambda delta: note("status", so=delta.object.status.totals.backups == number))
        await asyncio.to_thread(instance.backup_now, POLICY, job_name)
        await asyncio.to_thread(instance.finish, job_name, report(Operation.BACKUP, snapshot=f"{number:08x}"))
        series = f'kubedr_num_backups{{policyName="{POLICY}"}}'
        async with asyncio.timeout(60):
            while len(seen) < 4:
                note("metric", so=(await asyncio.to_thread(instance.metrics)).get(series) == number)
                await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
    return seen


def writes(instance: Kubedr) -> float:
    """Return how many writes the API server has accepted from the controller."""
    pattern = re.compile(r'kubedr_api_requests_total\{code="2..",verb="(POST|PATCH|DELETE)"\}')
    return sum(value for series, value in instance.metrics().items() if pattern.fullmatch(series))


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as scratch, control_plane(Path(scratch)) as plane:
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        plane.kubectl("apply", "-k", str(MANIFESTS / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        with kubedr(plane, Path(scratch)) as instance:
            instance.scheduled(POLICY)
            before = writes(instance)
            runs = [asyncio.run(measure(instance, number)) for number in range(1, BACKUPS + 1)]
            instance.recorded(f"bench-{BACKUPS}")
            done = writes(instance) - before
            memory = instance.metrics()["process_resident_memory_bytes"]
    print(f"{BACKUPS} backups; milliseconds from the Job's end    median    worst")
    for what in ("status", "event", "metric"):
        waits = [(run[what] - run["end"]) * 1000 for run in runs]
        print(f"  {what:<40} {statistics.median(waits):8.0f} {max(waits):8.0f}")
    print(f"API writes a backup, clean-up and lease included {done / BACKUPS:8.1f}")
    print(f"controller's memory                              {memory / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
