"""An API server that is away, restarted, compacted: nothing is lost, nothing spins, and it is said once.

`KUBEDR_OUTAGE` sets for how many seconds the server is away in the first test: 600 is what is promised.
"""

import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubedr_ctrl.resources import POLICIES
from tests.faults.backups import Backup, Backups
from tests.faults.proxy import Fault, FaultProxy, Match, answer, everything, fault_proxy, refuse
from tests.servers.apiserver import ControlPlane, control_plane
from tests.servers.kubedr import MANIFESTS, Kubedr, install_kinds, installed, loosen
from tests.servers.process import binary

OUTAGE = float(os.environ.get("KUBEDR_OUTAGE", "40"))
AWAY, BACK = "does not serve", "serves again"


@pytest.fixture(name="own_plane", scope="module")
def _own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane to be restarted; the first test finds it without our four kinds."""
    with control_plane(tmp_path_factory.mktemp("restarted")) as plane:
        yield plane


def reveal(backups: Backups, backup: Backup) -> None:
    """Reveal the backup as soon as the API server serves our kinds again."""
    backups.kubedr.persist(lambda: backups.reveal(backup), f"{backup} to be revealed")


def said(kubedr: Kubedr, words: str) -> int:
    return kubedr.replica.logs().count(words)


def settle(backups: Backups, some: list[Backup], timeout: float = 60) -> None:
    """Wait until all are recorded, and see that each is counted once and told once."""
    backups.kubedr.wait_for(lambda: all(map(backups.settled, some)), "the backups to be recorded", timeout)
    told = backups.told(some)
    assert told.totals == (len(some), len(some), 0)
    assert set(told.events.values()) == {1}
    assert not told.held


HOW: dict[str, Callable[[Match], Fault]] = {
    "refuses": refuse,
    "answers 503": lambda match: answer(match, 503, "ServiceUnavailable", "etcd has no leader"),
}


@pytest.mark.timeout(OUTAGE + 120)
@pytest.mark.parametrize("how", HOW)
def test_a_server_that_is_away_for_long(kubedr: Kubedr, proxy: FaultProxy, how: str) -> None:
    kubedr.start()
    kubedr.scheduled("away")
    backups = Backups(kubedr, "away")
    some = backups.ended(5)
    backups.reveal(some[0])
    settle(backups, some[:1])
    memory = kubedr.metrics()["process_resident_memory_bytes"]
    proxy.add(HOW[how](everything))
    proxy.cut_streams(everything)
    began = time.monotonic()
    for backup in some[1:]:
        backups.reveal(backup)
    while time.monotonic() - began < OUTAGE:
        time.sleep(1)
        assert kubedr.http("/livez") == "ok\n"
    asked = len(proxy.seen(since=began))
    proxy.clear()
    settle(backups, some)
    # Seven watches try ever more seldom; the lease about once a second; aiohttp tries each twice when it is cut off.
    assert asked <= 60 + 2.5 * OUTAGE, f"{asked} requests in {OUTAGE:.0f} s"
    assert kubedr.metrics()["process_resident_memory_bytes"] < memory + 16 * 2**20
    log = kubedr.replica.logs()
    assert (said(kubedr, AWAY), said(kubedr, BACK)) == (1, 1), log
    assert log.count('"warning"') <= 2, log  # that, and that it no longer leads


@pytest.mark.timeout(300)
def test_kinds_that_are_installed_late_and_removed_and_installed_again(own_plane: ControlPlane, tmp_path: Path) -> None:
    with installed(own_plane, tmp_path) as kubedr:
        kubedr.replica.start()
        kubedr.wait_for(lambda: "is its CustomResourceDefinition installed?" in kubedr.replica.logs(), "a hint", 30)
        with pytest.raises(urllib.error.HTTPError) as unready:
            kubedr.http("/readyz")
        assert b"backuplocations" in unready.value.read()
        assert kubedr.http("/livez") == "ok\n"
        install_kinds(own_plane)
        kubedr.wait_for(kubedr.replica.leads, "the controller to lead", 60)
        kubedr.scheduled("kinds")
        own_plane.kubectl("delete", "-k", str(MANIFESTS / "crds"), "--wait=false")
        kubedr.wait_for(lambda: kubedr.gone("MetadataBackupPolicy", "kinds"), "the policy to go", 30)
        own_plane.kubectl("wait", "--for=delete", "crd", "--all", "--timeout=60s")
        install_kinds(own_plane)
        kubedr.persist(lambda: kubedr.initialized("again"), "the kinds to be watched again", 90)
        kubedr.apply(kubedr.policy("kinds", "again"))
        kubedr.wait_ready("MetadataBackupPolicy", "kinds", "Scheduled", 60)
        assert not kubedr.replica.ended


def test_an_object_that_does_not_fit_says_so_itself_and_disturbs_no_other(
    own_plane: ControlPlane, tmp_path: Path
) -> None:
    install_kinds(own_plane)
    with installed(own_plane, tmp_path) as kubedr:
        kubedr.start()
        kubedr.scheduled("fits")
        loosen(own_plane, POLICIES, "retainNumBackups")
        odd = kubedr.policy("odd", "fits-loc", retainNumBackups="many")
        kubedr.persist(lambda: kubedr.apply(odd), "the loosened schema to be in force")
        message = kubedr.wait_ready("MetadataBackupPolicy", "odd", "Unreadable")
        assert "spec.retainNumBackups" in message
        kubedr.apply(kubedr.policy("other", "fits-loc"))
        kubedr.wait_ready("MetadataBackupPolicy", "other", "Scheduled")
        kubedr.apply(kubedr.policy("odd", "fits-loc", retainNumBackups=3))
        kubedr.wait_ready("MetadataBackupPolicy", "odd", "Scheduled")


@pytest.mark.timeout(300)
def test_a_store_that_was_compacted_while_the_watches_were_cut(own_plane: ControlPlane, tmp_path: Path) -> None:
    install_kinds(own_plane)
    with fault_proxy(own_plane) as proxy, installed(own_plane, tmp_path, proxy.server) as kubedr:
        kubedr.start()
        kubedr.scheduled("compacted")
        backups = Backups(kubedr, "compacted")
        some = backups.ended(3)
        backups.reveal(some[0])
        settle(backups, some[:1])
        proxy.close_port()
        for backup in some[1:]:
            backups.reveal(backup)
        backups.delete(some[0])
        compact(own_plane)
        own_plane.apiserver.stop()  # what it remembers is gone, too: old versions are really too old
        own_plane.apiserver.start()
        proxy.open_port()
        settle(backups, some, 90)
        lists = [
            value for series, value in kubedr.metrics().items() if series.startswith("kubedr_informer_lists_total")
        ]
        assert max(lists) >= 2


def compact(plane: ControlPlane) -> None:
    """Compact etcd at its present revision."""
    keys = plane.etcd.client
    etcdctl = [
        binary("etcdctl"), f"--endpoints={plane.etcd.endpoint}", f"--cacert={plane.etcd.authority.certificate}",
        f"--cert={keys.certificate}", f"--key={keys.key}",
    ]  # fmt: skip
    status = subprocess.run(
        [*etcdctl, "endpoint", "status", "-w", "fields"], capture_output=True, text=True, check=True
    )
    revision = next(line.split(":")[1].strip() for line in status.stdout.splitlines() if line.startswith('"Revision"'))
    subprocess.run([*etcdctl, "compact", revision, "--physical"], check=True, capture_output=True)


@pytest.mark.timeout(300)
def test_a_server_that_is_restarted_ten_times_in_a_row(own_plane: ControlPlane, tmp_path: Path) -> None:
    install_kinds(own_plane)
    with fault_proxy(own_plane) as proxy, installed(own_plane, tmp_path, proxy.server) as kubedr:
        kubedr.start()
        kubedr.scheduled("restarts")
        backups = Backups(kubedr, "restarts")
        some = backups.ended(10)
        memory = kubedr.metrics()["process_resident_memory_bytes"]
        began = time.monotonic()
        for backup in some:
            reveal(backups, backup)
            own_plane.apiserver.stop()
            own_plane.apiserver.start()
        seconds = time.monotonic() - began
        settle(backups, some, 90)
        assert len(proxy.seen(since=began)) <= seconds * 20 + 20 * len(some)
        assert kubedr.metrics()["process_resident_memory_bytes"] < memory + 16 * 2**20
        assert 1 <= said(kubedr, AWAY) == said(kubedr, BACK) <= 10, kubedr.replica.logs()
        assert not kubedr.replica.ended
