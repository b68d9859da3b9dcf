"""The crash explorer: a controller that records a backup is stopped at each of its requests in turn, and started anew.

Each crash is tried before the API server has carried the request out, and after it has, when only the answer is lost;
and with what may happen while no controller is there: nothing, the pods go, the Job is deleted. Whatever it was, there
has to be one count, one event of the same outcome, the metric of the status, and no finalizer left.
"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.conftest import TABLE
from tests.faults.backups import WRITES, Backup, Backups
from tests.faults.embedded import Embedded
from tests.faults.proxy import FaultProxy, Request, call
from tests.servers.kubedr import Kubedr, Replica

Accident = Callable[[Backups, Backup], bool]
"""Something that happens while no controller is there; returns whether the backup is still to be counted."""


def nothing(_: Backups, __: Backup) -> bool:
    return True


def pods_go(backups: Backups, backup: Backup) -> bool:
    backups.delete_pods(backup)
    return True


def job_is_deleted(backups: Backups, backup: Backup) -> bool:
    return backups.delete(backup)


ACCIDENTS = (nothing, pods_go, job_is_deleted)
Point = tuple[str, int]
"""A kind of request, and which of that kind."""


@dataclass(frozen=True)
class Row:
    """One crash."""

    where: str
    applied: bool
    accident: Accident
    outcome: str
    """Empty where the request was not made that time."""


class Explorer:
    """Crashes a controller at one request after the other."""

    def __init__(
        self,
        kubedr: Kubedr,
        proxy: FaultProxy,
        victim: Embedded | Replica,
        *,
        crash: Callable[[], None],
        bury: Callable[[], None],
        reads: bool,
    ) -> None:
        """`crash` stops the victim at once, `bury` waits for its end; `reads`: whether to crash at reads, too."""
        self._kubedr = kubedr
        self._proxy = proxy
        self._victim = victim
        self._end = crash
        self._bury = bury
        self._reads = reads
        self._lead()
        kubedr.scheduled("explored")
        self._backups = Backups(kubedr, "explored")
        self._totals = (0, 0, 0)
        self._pool: dict[bool, list[Backup]] = {True: [], False: []}

    def explore(self) -> list[Row]:
        """Crash at each request, in each way, with each accident."""
        points = self._requests_of_a_recording()
        return [
            Row(point[0], applied, accident, self._crash(point, accident, applied=applied))
            for accident in ACCIDENTS
            for applied in (False, True)
            for point in points
        ]

    def _requests_of_a_recording(self) -> list[Point]:
        backup = self._next(succeeds=True)
        began = time.monotonic()
        self._backups.reveal(backup)
        self._kubedr.wait_for(lambda: self._backups.settled(backup), f"{backup} to be recorded")
        self._audit(backup, counts=True)
        seen = Counter(entry.request.kind for entry in self._proxy.seen(self._explored, since=began))
        writes = {kind: times for kind, times in seen.items() if kind in WRITES}
        # Ours is three: to guard the Job, to write the outcome on it, to mark it as recorded.
        assert (writes["create events"], writes["create metadatabackuprecords"], writes["patch jobs"]) == (1, 1, 3)
        return [(where, occurrence) for where, times in sorted(seen.items()) for occurrence in range(1, times + 1)]

    def _explored(self, request: Request) -> bool:
        """Return whether a request is one to crash at: the lease, and the removal of old Jobs, are not in this."""
        if request.resource == "leases" or request.verb in ("watch", "delete"):
            return False
        return request.writes or self._reads

    def _crash(self, point: Point, accident: Accident, *, applied: bool) -> str:
        """Crash at that request; return the outcome, nothing if the request was not made this time."""
        where, occurrence = point
        crashed, seen = threading.Event(), 0

        def is_it(request: Request) -> bool:
            nonlocal seen
            seen += self._explored(request) and request.kind == where
            return seen == occurrence

        def crash(_: Request) -> None:
            self._end()
            crashed.set()

        backup = self._next(succeeds="records" in where or occurrence % 2 == 1)
        self._proxy.add(call(is_it, crash, applied=applied, times=1))
        self._backups.reveal(backup)
        self._kubedr.wait_for(lambda: crashed.is_set() or self._backups.settled(backup), f"a crash at {point}")
        self._proxy.clear()
        counts = True
        if crashed.is_set():
            self._bury()
            counts = accident(self._backups, backup)
            self._lead()
            self._kubedr.wait_for(lambda: self._backups.settled(backup), f"{backup} to be recorded after {point}")
        outcome = self._audit(backup, counts=counts)
        return outcome if crashed.is_set() else ""

    def _next(self, *, succeeds: bool) -> Backup:
        pool = self._pool[succeeds]
        if not pool:
            pool += self._backups.ended(12, succeed=succeeds)
        return pool.pop()

    def _lead(self) -> None:
        self._victim.start()
        self._kubedr.wait_for(self._victim.leads, "the controller to lead")

    def _audit(self, backup: Backup, *, counts: bool) -> str:
        """Compare all that is told of the backup with what must be; return the outcome in words."""
        told = self._backups.told([backup])
        gained = tuple(now - before for now, before in zip(told.totals, self._totals, strict=True))
        self._totals = told.totals
        reasons = self._backups.reasons(backup)
        outcomes: dict[tuple[int, ...], list[str]] = {
            (1, 1, 0): ["BackupSucceeded"],
            (1, 0, 1): ["BackupFailed"],
            (0, 0, 0): [],
        }
        assert (sum(gained) > 0) == counts, f"{backup}: counted {gained}"
        assert reasons == outcomes.get(gained), f"{backup}: counted {gained}, events {reasons}"
        assert not told.held, f"finalizers left on {told.held}"
        self._kubedr.wait_for(
            lambda: self._victim.metrics()['kubedr_num_backups{policyName="explored"}'] == told.totals[0],
            f"the metric to be {told.totals[0]}",
        )
        return f"one count, {reasons[0]}" if reasons else "deleted before it was guarded: not counted"


READS = ("get jobs", "get metadatabackuppolicies", "list pods")


def table(how: str, rows: list[Row]) -> str:
    """Return the crash points, each with its outcomes after each accident, for people to read."""
    outcomes: dict[tuple[str, bool], dict[Accident, Counter[str]]] = {}
    for row in rows:
        of_point = outcomes.setdefault((row.where, row.applied), {})
        of_point.setdefault(row.accident, Counter())[row.outcome or "not reached"] += 1
    lines = [f"{len(rows)} crashes, each by {how}"]
    for (where, applied), by_accident in sorted(outcomes.items()):
        lines.append(f"  {where}, {'applied' if applied else 'not applied'}")
        for accident, counted in by_accident.items():
            words = ", ".join(f"{times} x {outcome}" for outcome, times in counted.items())
            lines.append(f"    {accident.__name__.replace('_', ' '):<16} {words}")
    return "\n".join(lines)


def assert_covers(rows: list[Row], kinds: tuple[str, ...]) -> None:
    """See that each kind of request was crashed at in each way, and few crashes were missed."""
    hit = {(row.where, row.applied, row.accident) for row in rows if row.outcome}
    for kind in kinds:
        for applied in (False, True):
            for accident in ACCIDENTS:
                assert (kind, applied, accident) in hit, f"no crash at {kind}, {applied=}, {accident.__name__}"
    missed = [row for row in rows if not row.outcome]
    assert len(missed) <= len(rows) / 5, f"requests that were not made again: {missed}"


@pytest.mark.timeout(600)
def test_a_controller_cancelled_at_any_request_tells_each_backup_once(
    kubedr: Kubedr, proxy: FaultProxy, record_property: Callable[[str, object], None]
) -> None:
    victim = Embedded(kubedr.kubeconfig("victim", proxy.server), kubedr.namespace, "victim")
    try:
        explorer = Explorer(kubedr, proxy, victim, crash=victim.cancel, bury=victim.join, reads=True)
        rows = explorer.explore()
    finally:
        victim.stop_if_running()
    record_property(TABLE, table("cancelling all tasks", rows))
    assert_covers(rows, (*WRITES, *READS))


@pytest.mark.timeout(600)
def test_a_controller_killed_at_any_write_tells_each_backup_once(
    kubedr: Kubedr, proxy: FaultProxy, record_property: Callable[[str, object], None]
) -> None:
    victim = kubedr.replica
    explorer = Explorer(
        kubedr,
        proxy,
        victim,
        crash=lambda: victim.send(signal.SIGKILL),
        bury=lambda: (victim.stop(signal.SIGKILL), None)[1],
        reads=False,
    )
    rows = explorer.explore()
    record_property(TABLE, table("SIGKILL", rows))
    assert_covers(rows, WRITES)
