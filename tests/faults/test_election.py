"""Two replicas and what may befall the one that leads: there are never two that write, and soon one that does."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.backups import Backups
from tests.faults.embedded import Embedded
from tests.faults.proxy import FaultProxy, Request, fault_proxy
from tests.servers.apiserver import ControlPlane
from tests.servers.faketime import Clock
from tests.servers.kubedr import Kubedr, Replica, installed

DURATION = 6
"""Of the lease, in seconds."""
GRACE = 5
"""Seconds after the lease's duration within which the next one leads."""


class Pair:
    """Two replicas, each with a proxy of its own, and a policy."""

    def __init__(
        self, kubedr: Kubedr, proxies: tuple[FaultProxy, FaultProxy], clocks: tuple[Clock | None, ...] = (None, None)
    ) -> None:
        self.kubedr = kubedr
        self._proxies = {}
        for number, (proxy, clock) in enumerate(zip(proxies, clocks, strict=True)):
            environment = {"KUBEDR_LEASE_DURATION_SECONDS": str(DURATION), **(clock.environment if clock else {})}
            self._proxies[kubedr.another(f"replica-{number}", proxy.server, **environment)] = proxy
        self.first, self.second = self._proxies
        self.first.start()
        kubedr.wait_for(self.first.leads, "the first to lead")
        self.second.start()
        kubedr.wait_for(self.second.ready, "the second to be ready")
        kubedr.scheduled("guarded")
        self.backups = Backups(kubedr, "guarded")

    def proxy(self, replica: Replica) -> FaultProxy:
        return self._proxies[replica]

    def takes_over(self, replica: Replica, since: float) -> float:
        """Wait until `replica` leads; return the seconds since `since`."""
        self.kubedr.wait_for(replica.leads, f"{replica.name} to lead", DURATION + GRACE)
        return time.monotonic() - since

    def record(self) -> None:
        """Have a backup recorded by whoever leads."""
        (backup,) = self.backups.ended(1)
        self.backups.reveal(backup)
        self.kubedr.wait_for(lambda: self.backups.settled(backup), f"{backup} to be recorded")
        assert self.backups.reasons(backup) == ["BackupSucceeded"]

    def assert_one_writer_at_a_time(self) -> None:
        """Compare the writes of both: the times of one must lie between those of the other."""
        writes = sorted(
            (seen.at, replica.name)
            for replica, proxy in self._proxies.items()
            for seen in proxy.seen(lambda request: request.writes and request.resource != "leases")
        )
        turns = [name for index, (_, name) in enumerate(writes) if index == 0 or writes[index - 1][1] != name]
        assert len(turns) == len(set(turns)) or turns == ["replica-0", "replica-1", "replica-0"], turns


@pytest.fixture(name="pair")
def _pair(plane: ControlPlane, tmp_path: Path) -> Iterator[Pair]:
    with fault_proxy(plane) as one, fault_proxy(plane) as other, installed(plane, tmp_path) as kubedr:
        yield Pair(kubedr, (one, other))


def test_the_replica_that_stands_by_writes_nothing_and_shows_no_policy(pair: Pair) -> None:
    pair.record()
    assert not pair.proxy(pair.second).seen(lambda request: request.writes)
    assert not any("policyName" in series for series in pair.second.metrics())
    assert pair.first.metrics()['kubedr_num_backups{policyName="guarded"}'] == 1


def test_the_next_leads_soon_after_the_leader_was_killed(pair: Pair) -> None:
    pair.record()
    killed = time.monotonic()
    pair.first.stop(signal.SIGKILL)
    assert pair.takes_over(pair.second, killed) < DURATION + GRACE
    pair.record()
    pair.assert_one_writer_at_a_time()
    assert pair.second.metrics()['kubedr_num_backups{policyName="guarded"}'] == 2


def test_the_next_leads_at_once_after_the_leader_was_stopped(pair: Pair) -> None:
    assert pair.first.stop(signal.SIGTERM) < 5
    assert pair.takes_over(pair.second, time.monotonic()) < 2
    pair.record()
    pair.assert_one_writer_at_a_time()


def test_a_leader_that_was_frozen_for_longer_than_the_lease_does_not_write_when_it_wakes(pair: Pair) -> None:
    pool = pair.backups.ended(3)
    frozen = time.monotonic()
    pair.first.send(signal.SIGSTOP)
    for backup in pool:  # work that both of them would see
        pair.backups.reveal(backup)
    assert pair.takes_over(pair.second, frozen) < DURATION + GRACE
    pair.kubedr.wait_for(lambda: all(map(pair.backups.settled, pool)), "the backups to be recorded")
    pair.first.send(signal.SIGCONT)
    pair.kubedr.wait_for(lambda: not pair.first.leads(), "the first to stand by")
    pair.record()
    assert not pair.proxy(pair.first).seen(lambda r: r.writes and r.resource != "leases", since=frozen)
    assert pair.backups.told(pool).totals == (4, 4, 0)
    assert set(pair.backups.told(pool).events.values()) == {1}
    pair.assert_one_writer_at_a_time()


def test_a_leader_that_is_cut_off_stops_before_the_next_one_leads_and_stands_by_when_it_is_back(pair: Pair) -> None:
    cut_off = time.monotonic()
    pair.proxy(pair.first).close_port()
    assert pair.takes_over(pair.second, cut_off) < DURATION + GRACE
    assert not pair.first.leads()
    pair.record()
    pair.proxy(pair.first).open_port()
    pair.kubedr.wait_for(lambda: "stands by" in pair.first.logs(), "the first to stand by", 60)
    pair.second.stop(signal.SIGTERM)
    pair.takes_over(pair.first, time.monotonic())
    pair.record()
    pair.assert_one_writer_at_a_time()


def test_one_of_them_leads_again_after_the_server_was_away_from_both_for_longer_than_the_lease(pair: Pair) -> None:
    for replica in (pair.first, pair.second):
        pair.proxy(replica).close_port()
    pair.kubedr.wait_for(lambda: not pair.first.leads(), "the first to no longer lead", DURATION + GRACE)
    time.sleep(DURATION)
    back = time.monotonic()
    for replica in (pair.first, pair.second):
        pair.proxy(replica).open_port()
    pair.kubedr.wait_for(lambda: pair.first.leads() or pair.second.leads(), "one to lead", DURATION + GRACE)
    assert time.monotonic() - back < DURATION + GRACE
    assert not (pair.first.leads() and pair.second.leads())
    pair.record()
    assert not pair.first.ended


@pytest.mark.parametrize("whose", [0, 1])
def test_a_clock_that_is_set_back_an_hour_changes_nothing(plane: ControlPlane, tmp_path: Path, whose: int) -> None:
    clock = Clock(tmp_path)
    clocks = (clock, None) if whose == 0 else (None, clock)
    with fault_proxy(plane) as one, fault_proxy(plane) as other, installed(plane, tmp_path) as kubedr:
        pair = Pair(kubedr, (one, other), clocks)
        clock.set("-1h")
        set_back = time.monotonic()
        pair.kubedr.wait_for(lambda: renewals(one, set_back) >= 5, "five renewals")
        assert pair.first.leads()
        pair.record()
        assert not other.seen(lambda request: request.writes)
        cut_off = time.monotonic()
        one.close_port()
        # Between the last renewal, seen by both, and the lease's end: there it would do most harm.
        pair.kubedr.wait_for(lambda: len(other.seen(looks, since=cut_off)) >= 2, "the second to look twice")
        clock.set("-2h")
        assert pair.takes_over(pair.second, cut_off) < DURATION + GRACE
        assert not pair.first.leads()
        pair.record()
        pair.assert_one_writer_at_a_time()


def test_a_controller_whose_lease_ran_out_writes_nothing_even_before_it_stops_its_loops(
    kubedr: Kubedr, proxy: FaultProxy
) -> None:
    late = Embedded(kubedr.kubeconfig("late", proxy.server), kubedr.namespace, "late")
    try:
        late.start()
        kubedr.wait_for(late.leads, "the controller to lead")
        kubedr.scheduled("fenced")
        backups = Backups(kubedr, "fenced")
        pool = backups.ended(2)
        late.hold_no_longer()
        kubedr.wait_for(lambda: not late.call(lambda: late.app._election.leads), "the lease to run out")
        assert late.leads(), "its loops still run"
        ran_out = time.monotonic()
        for backup in pool:
            backups.reveal(backup)
        retries = 'workqueue_retries_total{name="jobs"}'
        kubedr.wait_for(lambda: late.metrics()[retries] >= 4, "the loops to try")
        assert not proxy.seen(lambda request: request.writes, since=ran_out)
    finally:
        late.stop_if_running()


def looks(request: Request) -> bool:
    return request.kind == "get leases"


def renewals(proxy: FaultProxy, since: float) -> int:
    def renews(request: Request) -> bool:
        return request.verb == "patch" and request.resource == "leases"

    return len(proxy.seen(renews, since))
