from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kubedr_ctrl.api.result import Operation
from kubedr_ctrl.reconcilers import overdue
from kubedr_ctrl.resources import CRONJOBS
from tests.faults.embedded import Embedded
from tests.servers.apiserver import ControlPlane
from tests.servers.kubedr import Kubedr, installed, report


@pytest.fixture(name="kubedr")
def _kubedr(plane: ControlPlane, tmp_path: Path) -> Iterator[tuple[Kubedr, Embedded]]:
    """A controller in the test's process, as its patience has to be shortened."""
    with installed(plane, tmp_path) as kubedr, pytest.MonkeyPatch.context() as patch:
        patch.setattr(overdue, "SLACK", timedelta())
        controller = Embedded(kubedr.kubeconfig("embedded"), kubedr.namespace, "embedded")
        try:
            controller.start()
            yield kubedr, controller
        finally:
            controller.stop_if_running()


def test_a_cronjob_suspended_by_hand_is_told_and_so_is_its_end(kubedr: tuple[Kubedr, Embedded]) -> None:
    cluster, controller = kubedr
    cluster.scheduled("late", schedule="@every 10s", backupTimeout="10s")
    path = f"{CRONJOBS.path(cluster.namespace)}/late-backup-cronjob"
    suspend = {"spec": {"suspend": True}}
    cluster.plane.request("PATCH", path, suspend, content_type="application/merge-patch+json")
    cluster.wait_for(lambda: controller.metrics()['kubedr_backup_overdue{policyName="late"}'] == 0, "the metric")
    message = cluster.wait_ready("MetadataBackupPolicy", "late", "BackupOverdue", 40)
    assert "CronJob late-backup-cronjob is suspended" in message
    assert cluster.events("late") == [("Error", "BackupOverdue", message)]
    metrics = controller.metrics()
    assert metrics['kubedr_backup_overdue{policyName="late"}'] == 1
    assert metrics['kubedr_backup_next_due_timestamp_seconds{policyName="late"}'] > 1.7e9

    cluster.finish(cluster.backup_now("late", "late-now"), report(Operation.BACKUP))
    cluster.wait_ready("MetadataBackupPolicy", "late", "BackupSucceeded")
    cluster.wait_for(lambda: controller.metrics()['kubedr_backup_overdue{policyName="late"}'] == 0, "the metric")
    told = [(type_, reason) for type_, reason, _ in cluster.events("late")]
    assert sorted(told) == [("Error", "BackupOverdue"), ("Normal", "BackupInTime"), ("Normal", "BackupSucceeded")]
