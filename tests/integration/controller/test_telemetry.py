from tests.servers.kubedr import Kubedr

LOOPS = ("locations", "policies", "records", "restores", "jobs")
CONSUMERS = ("status-writer", "event-recorder", "exporter")
QUEUES = (*LOOPS, *CONSUMERS, "result-finisher")


def test_every_queue_is_shown_under_the_names_that_dashboards_know(shared: Kubedr) -> None:
    shared.initialized("queues-loc")
    metrics = shared.metrics()
    for queue in QUEUES:
        for series in (
            "workqueue_depth",
            "workqueue_adds_total",
            "workqueue_retries_total",
            "workqueue_queue_duration_seconds_count",
            "workqueue_work_duration_seconds_count",
            "workqueue_longest_running_processor_seconds",
            "workqueue_unfinished_work_seconds",
        ):
            assert f'{series}{{name="{queue}"}}' in metrics
    assert metrics['workqueue_adds_total{name="locations"}'] >= 1
    assert metrics['workqueue_work_duration_seconds_count{name="locations"}'] >= 1


def test_the_leader_its_consumers_and_its_watches_are_shown(shared: Kubedr) -> None:
    metrics = shared.metrics()
    assert metrics['leader_election_master_status{name="kubedr-controller"}'] == 1
    for consumer in CONSUMERS:
        assert f'kubedr_results_outstanding{{consumer="{consumer}"}}' in metrics
        assert f'kubedr_results_oldest_seconds{{consumer="{consumer}"}}' in metrics
    assert metrics['kubedr_informer_lists_total{resource="jobs"}'] >= 1
    assert metrics['kubedr_informer_failing_seconds{resource="jobs"}'] == 0
    assert metrics['kubedr_informer_unreadable_objects{resource="jobs"}'] == 0
    assert metrics['kubedr_api_requests_total{code="200",verb="WATCH"}'] >= 7
