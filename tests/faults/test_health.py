"""When the controller calls itself alive and ready, and how it ends."""

import asyncio
import signal
import time
from collections.abc import Iterator

import pytest

from kubedr_ctrl.kube import controller as controller_module
from tests.faults.backups import Backups
from tests.faults.embedded import Embedded
from tests.faults.proxy import FaultProxy, Request, delay, everything, stall
from tests.servers.kubedr import Kubedr

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/kubedr-controller"


def holder(kubedr: Kubedr) -> str:
    lease = kubedr.plane.request("GET", LEASES.format(kubedr.namespace))
    return str(lease["spec"].get("holderIdentity", ""))


def writes_status(request: Request) -> bool:
    return request.kind == "patch metadatabackuppolicies/status"


@pytest.fixture(name="controller")
def _controller(kubedr: Kubedr, proxy: FaultProxy) -> Iterator[Embedded]:
    controller = Embedded(kubedr.kubeconfig("embedded", proxy.server), kubedr.namespace, "embedded")
    try:
        yield controller
    finally:
        proxy.clear()
        controller.stop_if_running()


def test_it_is_ready_only_when_all_caches_are_synced(kubedr: Kubedr, proxy: FaultProxy, controller: Embedded) -> None:
    proxy.add(stall(lambda request: request.verb == "watch" and request.resource == "metadatabackuppolicies"))
    controller.start()
    said = (503, "not yet read: metadatabackuppolicies\n")
    kubedr.wait_for(lambda: controller.http("/readyz") == said, "all kinds but one to be read")
    assert controller.http("/livez") == (200, "ok\n")
    assert not controller.leads()
    proxy.clear()
    kubedr.wait_for(lambda: controller.http("/readyz") == (200, "ok\n"), "the last kind to be read")


def test_a_loop_that_hangs_fails_livez_and_says_which(
    kubedr: Kubedr, controller: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller_module, "TURN", 0.2)
    monkeypatch.setattr(controller_module, "WEDGED", 1.0)
    controller.start()
    kubedr.wait_for(controller.leads, "the controller to lead")
    freed = False

    async def hang(_: str) -> None:
        while not freed:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue  # what no code should do

    assert controller.app.controllers
    monkeypatch.setattr(controller.app.controllers._locations, "_process", hang)
    kubedr.apply(kubedr.location("hung"))
    kubedr.wait_for(lambda: controller.http("/livez")[0] == 503, "the controller to call itself wedged")
    assert controller.http("/livez")[1].startswith("locations has been at hung for ")
    freed = True
    kubedr.wait_for(lambda: controller.http("/livez") == (200, "ok\n"), "the controller to be well again")


def test_a_turn_has_an_end(kubedr: Kubedr, controller: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "TURN", 0.2)
    controller.start()
    kubedr.wait_for(controller.leads, "the controller to lead")

    async def hang(_: str) -> None:
        await asyncio.Event().wait()

    assert controller.app.controllers
    with monkeypatch.context() as patch:
        patch.setattr(controller.app.controllers._locations, "_process", hang)
        kubedr.apply(kubedr.location("slow"))
        failing = 'kubedr_failing_keys{name="locations"}'
        kubedr.wait_for(lambda: controller.metrics()[failing] == 1, "the location to be given up for now")
    kubedr.wait_ready("BackupLocation", "slow", "Initializing")


def test_sigterm_lets_a_write_in_progress_end_and_releases_the_lease(kubedr: Kubedr, proxy: FaultProxy) -> None:
    kubedr.start()
    kubedr.scheduled("ending")
    backups = Backups(kubedr, "ending")
    (backup,) = backups.ended(1)
    slow = proxy.add(delay(writes_status, 1.5, times=1))
    backups.reveal(backup)
    kubedr.wait_for(lambda: slow.acted == 1, "the status to be written")
    assert holder(kubedr) == "kubedr-controller-0"
    assert kubedr.stop(signal.SIGTERM) < 5
    assert proxy.seen(writes_status)[-1].status == 200
    assert backups.told([backup]).totals == (1, 1, 0)
    assert holder(kubedr) == ""
    kubedr.start()
    kubedr.wait_for(lambda: backups.settled(backup), "the backup to be recorded")
    assert backups.told([backup]).totals == (1, 1, 0)
    assert backups.reasons(backup) == ["BackupSucceeded"]


def test_sigterm_in_the_middle_of_a_renewal_releases_the_lease(kubedr: Kubedr, proxy: FaultProxy) -> None:
    kubedr.start()
    kubedr.wait_for(kubedr.replica.leads, "the controller to lead")
    renewing = proxy.add(stall(lambda request: request.kind == "patch leases", applied=True, times=1))
    kubedr.wait_for(lambda: renewing.acted == 1, "a renewal")
    assert kubedr.stop(signal.SIGTERM) < 5
    assert holder(kubedr) == ""


def test_sigterm_ends_within_five_seconds_even_if_the_server_does_not_answer(kubedr: Kubedr, proxy: FaultProxy) -> None:
    kubedr.start()
    kubedr.scheduled("stuck")
    backups = Backups(kubedr, "stuck")
    (backup,) = backups.ended(1)
    proxy.add(stall(everything))
    backups.reveal(backup)
    kubedr.wait_for(
        lambda: proxy.seen(lambda request: request.kind == "patch jobs" and request.name == backup.job), "work"
    )
    assert kubedr.stop(signal.SIGTERM) < 5


def test_sigterm_ends_at_once_while_the_caches_are_not_synced(kubedr: Kubedr, proxy: FaultProxy) -> None:
    proxy.close_port()
    kubedr.replica.start()
    kubedr.wait_for(lambda: kubedr.http("/livez") == "ok\n", "the controller to serve")
    began = time.monotonic()
    kubedr.stop(signal.SIGTERM)
    assert time.monotonic() - began < 2
