import subprocess

from aioprometheus.collectors import Registry

from kubedr_ctrl.results.metrics import Counter, Gauge, Histogram, render


def test_labels_are_escaped_and_only_numbers_come_out() -> None:
    registry = Registry()
    Gauge(registry, "up", "Help.").set({"name": 'a"b\\c\nd'}, True)
    assert b'up{name="a\\"b\\\\c\\nd"} 1.0\n' in render(registry)


def test_series_come_and_go() -> None:
    registry = Registry()
    counter = Counter(registry, "seen", "Help.")
    counter.set({"policyName": "a"}, 7)
    counter.remove({"policyName": "a"})
    counter.remove({"policyName": "never there"})
    assert b'policyName="a"' not in render(registry)


def test_a_histogram_shows_kept_counts_cumulatively() -> None:
    registry = Registry()
    histogram = Histogram(registry, "took", "Help.", (15.0, 30.0))
    histogram.set({"policyName": "a"}, (2, 1, 1), 99.5)
    lines = render(registry).decode().splitlines()
    assert 'took_bucket{le="15.0",policyName="a"} 2.0' in lines
    assert 'took_bucket{le="30.0",policyName="a"} 3.0' in lines
    assert 'took_bucket{le="+Inf",policyName="a"} 4.0' in lines
    assert 'took_count{policyName="a"} 4.0' in lines
    assert 'took_sum{policyName="a"} 99.5' in lines


def test_prometheus_can_parse_it() -> None:
    registry = Registry()
    Gauge(registry, "kubedr_some_bytes", "Help.").set({"name": 'a"b\\c\nd'}, 1)
    Histogram(registry, "kubedr_took_seconds", "Help.", (15.0,)).set({}, (0, 0), 0)
    subprocess.run(["promtool", "check", "metrics"], input=render(registry), check=True)
