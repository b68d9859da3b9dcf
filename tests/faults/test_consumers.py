"""A consumer of results that fails for long: the other two go on, it is told, and its work is done when it recovers."""

from collections.abc import Iterator
from typing import Any

import pytest

from kubedr_ctrl.results import status_writer
from tests.faults.backups import Backups
from tests.faults.embedded import Embedded
from tests.faults.proxy import FaultProxy, Request, answer
from tests.servers.kubedr import Kubedr

_PATCH = "application/json-patch+json"


def without(kubedr: Kubedr, resource: str) -> list[Any]:
    """Take what concerns `resource` out of the controller's role; return the rules as they were."""
    rules: list[Any] = kubedr.plane.request("GET", kubedr.role_path)["rules"]
    set_rules(kubedr, [rule for rule in rules if resource not in rule["resources"]])
    return rules


def set_rules(kubedr: Kubedr, rules: list[Any]) -> None:
    operation = {"op": "replace", "path": "/rules", "value": rules}
    kubedr.plane.request("PATCH", kubedr.role_path, [operation], content_type=_PATCH)


def outstanding(kubedr: Kubedr) -> dict[str, float]:
    """Return what each consumer owes; no number while the controller does not lead."""
    metrics = kubedr.metrics()
    consumers = ("status-writer", "event-recorder", "exporter")
    return {name: metrics[f'kubedr_results_outstanding{{consumer="{name}"}}'] for name in consumers}


def test_events_that_may_not_be_created_hold_up_neither_status_nor_metrics(kubedr: Kubedr) -> None:
    kubedr.start()
    kubedr.scheduled("unheard")
    backups = Backups(kubedr, "unheard")
    some = backups.ended(3)
    rules = without(kubedr, "events")
    for backup in some:
        backups.reveal(backup)
    kubedr.wait_for(lambda: outstanding(kubedr) == {"status-writer": 0, "event-recorder": 3, "exporter": 0}, "the rest")
    assert backups.told(some).totals == (3, 3, 0)
    assert kubedr.metrics()['kubedr_num_backups{policyName="unheard"}'] == 3
    assert not any(map(backups.settled, some))
    kubedr.wait_for(
        lambda: kubedr.metrics()['workqueue_retries_total{name="event-recorder"}'] >= 6, "the consumer to try again"
    )
    assert kubedr.metrics()['kubedr_results_oldest_seconds{consumer="event-recorder"}'] > 0
    assert kubedr.replica.logs().count("events is forbidden") == 1
    set_rules(kubedr, rules)
    kubedr.wait_for(lambda: all(map(backups.settled, some)), "the backups to be recorded", 60)
    assert set(backups.told(some).events.values()) == {1}
    assert outstanding(kubedr) == {"status-writer": 0, "event-recorder": 0, "exporter": 0}
    assert "works again" in kubedr.replica.logs()


def test_a_status_that_may_not_be_written_does_not_hold_up_events(kubedr: Kubedr) -> None:
    kubedr.start()
    kubedr.scheduled("unwritten")
    backups = Backups(kubedr, "unwritten")
    some = backups.ended(2)
    rules = without(kubedr, "metadatabackuppolicies/status")
    for backup in some:
        backups.reveal(backup)
    kubedr.wait_for(lambda: outstanding(kubedr) == {"status-writer": 2, "event-recorder": 0, "exporter": 2}, "events")
    assert set(backups.told(some).events.values()) == {1}
    assert backups.told(some).totals == (0, 0, 0)
    set_rules(kubedr, rules)
    kubedr.wait_for(lambda: all(map(backups.settled, some)), "the backups to be recorded", 60)
    assert backups.told(some).totals == (2, 2, 0)
    assert set(backups.told(some).events.values()) == {1}


def test_a_controller_that_restarts_while_a_consumer_fails_counts_nothing_again(kubedr: Kubedr) -> None:
    kubedr.start()
    kubedr.scheduled("restarted")
    backups = Backups(kubedr, "restarted")
    some = backups.ended(2)
    rules = without(kubedr, "events")
    for backup in some:
        backups.reveal(backup)
    kubedr.wait_for(lambda: backups.told(some).totals == (2, 2, 0), "the status")
    kubedr.stop()
    kubedr.start()
    kubedr.wait_for(lambda: outstanding(kubedr) == {"status-writer": 0, "event-recorder": 2, "exporter": 0}, "the rest")
    set_rules(kubedr, rules)
    kubedr.wait_for(lambda: all(map(backups.settled, some)), "the backups to be recorded", 60)
    assert backups.told(some).totals == (2, 2, 0)
    assert set(backups.told(some).events.values()) == {1}


@pytest.fixture(name="controller")
def _controller(kubedr: Kubedr, proxy: FaultProxy) -> Iterator[Embedded]:
    controller = Embedded(kubedr.kubeconfig("embedded", proxy.server), kubedr.namespace, "embedded")
    try:
        controller.start()
        yield controller
    finally:
        controller.stop_if_running()


def test_a_status_does_not_grow_with_what_another_consumer_owes(
    kubedr: Kubedr, proxy: FaultProxy, controller: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_writer, "MAX_RECORDED", 4)
    kubedr.scheduled("bounded")
    backups = Backups(kubedr, "bounded")
    some = backups.ended(15)

    def tells(request: Request) -> bool:
        return request.verb == "create" and request.resource == "events"

    proxy.add(answer(tells, 403, "Forbidden", "events may not be created"))
    for backup in some:
        backups.reveal(backup)
    kubedr.wait_for(lambda: backups.told(some).totals == (15, 15, 0), "the status")
    assert len(kubedr.status("MetadataBackupPolicy", "bounded")["recorded"]) <= 4
    controller.kill()
    controller.start()
    proxy.clear()
    kubedr.wait_for(lambda: all(map(backups.settled, some)), "the backups to be recorded", 60)
    told = backups.told(some)
    assert (told.totals, set(told.events.values())) == ((15, 15, 0), {1})


def test_an_exporter_with_a_fault_holds_up_neither_status_nor_events(
    kubedr: Kubedr, controller: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubedr.scheduled("unshown")
    backups = Backups(kubedr, "unshown")
    some = backups.ended(2)

    async def fail(_: object) -> None:
        raise RuntimeError("a fault of the exporter")

    with monkeypatch.context() as patch:
        patch.setattr(controller.app._exporter, "consume", fail)
        for backup in some:
            backups.reveal(backup)
        kubedr.wait_for(lambda: backups.told(some).totals == (2, 2, 0), "the status")
        kubedr.wait_for(lambda: set(backups.told(some).events.values()) == {1}, "the events")
        assert not any(map(backups.settled, some))
        errors = 'kubedr_reconcile_errors_total{name="exporter"}'
        kubedr.wait_for(lambda: controller.metrics()[errors] >= 2, "the exporter to try again")
    kubedr.wait_for(lambda: all(map(backups.settled, some)), "the backups to be recorded", 60)
