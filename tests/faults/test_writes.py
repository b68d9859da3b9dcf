"""Each write with which a backup is recorded, met by each thing that can go wrong with it: the backup counts once."""

from collections.abc import Callable, Iterator

import pytest

from kubedr_ctrl.kube import client
from tests.faults.backups import WRITES, Backup, Backups
from tests.faults.embedded import Embedded
from tests.faults.proxy import Fault, FaultProxy, Match, answer, cut, delay, fault_proxy, stall
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import installed

PATIENCE = 1.0
"""Seconds after which the controller gives up on an answer; 30 in real life."""

FAULTS: dict[str, Callable[[Match], Fault]] = {
    "409": lambda match: answer(match, 409, "Conflict", times=2),
    "429": lambda match: answer(match, 429, "TooManyRequests", retry_after=1, times=1),
    "500": lambda match: answer(match, 500, "InternalError", times=2),
    "503": lambda match: answer(match, 503, "ServiceUnavailable", times=2),
    "cut": lambda match: cut(match, applied=False, times=2),
    "cut after it was applied": lambda match: cut(match, applied=True, times=2),
    "late": lambda match: delay(match, PATIENCE / 2, times=1),
    "timed out": lambda match: stall(match, applied=False, times=1),
    "timed out after it was applied": lambda match: stall(match, applied=True, times=1),
}


@pytest.fixture(scope="module")
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    with fault_proxy(plane) as instance:
        yield instance


@pytest.fixture(scope="module")
def backups(
    plane: ControlPlane, proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Backups, list[Backup], Embedded]]:
    """Backups for all tests, and the controller that records them."""
    directory = tmp_path_factory.mktemp("writes")
    with pytest.MonkeyPatch.context() as patch, installed(plane, directory, proxy.server) as kubedr:
        patch.setattr(client, "REQUEST_TIMEOUT", PATIENCE)
        controller = Embedded(kubedr.kubeconfig("writer", proxy.server), kubedr.namespace, "writer")
        try:
            controller.start()
            kubedr.scheduled("written")
            made = Backups(kubedr, "written")
            yield made, made.ended(len(FAULTS) * len(WRITES)), controller
        finally:
            controller.stop_if_running()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_that_fails_loses_and_doubles_nothing(
    backups: tuple[Backups, list[Backup], Embedded], proxy: FaultProxy, write: str, fault: str
) -> None:
    made, pool, controller = backups
    backup, kubedr = pool.pop(), made.kubedr
    before = made.told([backup]).totals
    failing = proxy.add(FAULTS[fault](lambda request: request.kind == write))
    made.reveal(backup)
    kubedr.wait_for(lambda: made.settled(backup), f"{backup} to be recorded")
    assert failing.acted, "the fault did not happen"
    proxy.clear()
    told = made.told([backup])
    assert told.totals == (before[0] + 1, before[1] + 1, before[2])
    assert made.reasons(backup) == ["BackupSucceeded"]
    assert not told.held
    shown = 'kubedr_num_successful_backups{policyName="written"}'
    kubedr.wait_for(lambda: controller.metrics()[shown] == told.totals[1], "the metric")
    assert not kubedr.gone("MetadataBackupRecord", f"mbr-{backup.word}")
