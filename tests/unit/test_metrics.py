import subprocess

import pytest

from kubedr_ctrl.results.metrics import Metrics


def test_labels_are_escaped_and_only_numbers_come_out() -> None:
    metrics = Metrics()
    metrics.gauge("up", "Help.", "name").set({"name": 'a"b\\c\nd'}, True)
    assert b'up{name="a\\"b\\\\c\\nd"} 1.0\n' in metrics.render()


def test_series_come_and_go() -> None:
    metrics = Metrics()
    counter = metrics.counter("seen", "Help.", "policyName")
    counter.set({"policyName": "a"}, 7)
    counter.remove({"policyName": "a"})
    counter.remove({"policyName": "never there"})
    assert b'policyName="a"' not in metrics.render()


def test_a_series_of_other_labels_than_were_declared_is_a_fault() -> None:
    with pytest.raises(ValueError, match="up has the labels"):
        Metrics().gauge("up", "Help.", "name").set({"nmae": "a"}, 1)


def test_a_histogram_shows_kept_counts_cumulatively() -> None:
    metrics = Metrics()
    metrics.histogram("took", "Help.", (15.0, 30.0), "policyName").set({"policyName": "a"}, (2, 1, 1), 99.5)
    lines = metrics.render().decode().splitlines()
    assert 'took_bucket{le="15.0",policyName="a"} 2.0' in lines
    assert 'took_bucket{le="30.0",policyName="a"} 3.0' in lines
    assert 'took_bucket{le="+Inf",policyName="a"} 4.0' in lines
    assert 'took_count{policyName="a"} 4.0' in lines
    assert 'took_sum{policyName="a"} 99.5' in lines


def test_prometheus_can_parse_it() -> None:
    metrics = Metrics()
    metrics.gauge("kubedr_some_bytes", "Help.", "name").set({"name": 'a"b\\c\nd'}, 1)
    metrics.histogram("kubedr_took_seconds", "Help.", (15.0,)).set({}, (0, 0), 0)
    subprocess.run(["promtool", "check", "metrics"], input=metrics.render(), check=True)
