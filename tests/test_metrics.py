"""Metrics: each declared once, and series that are filled a batch at a time."""

import pytest

from mcp_ingest.errors import ConfigError
from mcp_ingest.metrics import (
    COMMIT_SECONDS,
    CONNECTIONS,
    DELIVERY_SECONDS,
    RECEIVED_BYTES,
    Metric,
    Metrics,
    catalogue,
)


def test_declared_once() -> None:
    """No two declarations share a name, and each name and help follows the house's form."""
    names = [metric.name for metric in catalogue()]
    assert len(names) == len(set(names)) > 10
    for metric in catalogue():
        assert metric.name.startswith("mcp_ingest_")
        assert not metric.name.endswith("_total")
        assert metric.help.endswith(".")


def test_children_are_kept() -> None:
    """The same labels give the same child, of whatever kind the metric is."""
    metrics = Metrics()
    assert metrics.counter(RECEIVED_BYTES, input="a") is metrics.counter(RECEIVED_BYTES, input="a")
    metrics.counter(RECEIVED_BYTES, input="a").inc(3)
    metrics.gauge(CONNECTIONS, input="a").set(2)
    metrics.histogram(COMMIT_SECONDS).observe(0.002)
    value = metrics.registry.get_sample_value
    assert value("mcp_ingest_received_bytes_total", {"input": "a"}) == 3
    assert value("mcp_ingest_connections", {"input": "a"}) == 2
    assert value("mcp_ingest_commit_seconds_bucket", {"le": "0.0025"}) == 1


def test_buckets() -> None:
    """Values fall where prometheus_client would put them: a bound belongs to the bucket below it."""
    series = Metrics().series(Metric("h", "histogram", "A histogram.", ("a",), (1, 10)))
    assert series.bucketed([10, 0, 1, 11, 1.5]) == ([2, 2, 1], 23.5)
    assert series.bucketed([]) == ([0, 0, 0], 0)


def test_series_are_shared_or_refused() -> None:
    """One name is one declaration: alike it is shared, otherwise the second is a mistake."""
    metrics = Metrics()
    metric = Metric("n", "counter", "A counter.", ("a",))
    series = metrics.series(metric, 1)
    assert metrics.series(metric, 1) is series
    with pytest.raises(ConfigError, match="declared elsewhere"):
        metrics.series(metric, 2)
    with pytest.raises(ConfigError, match="another metric"):
        metrics.series(Metric("n_total", "gauge", "A gauge."))
    series.add({("x",): 1, ("y",): 2})
    series.add({("z",): 3})
    assert metrics.registry.get_sample_value("n_total", {"a": "other"}) == 5


def test_values_wait_for_their_buckets() -> None:
    """A histogram that is read has all values, however few came at a time, those above the limit of series too."""
    metrics = Metrics()
    series = metrics.series(Metric("h", "histogram", "A histogram.", ("a",), (1, 10)), max_series=1)
    value = metrics.registry.get_sample_value
    for number in range(1000):
        series.observe({("x",): [number / 100, 20], ("y",): [5]})
    assert value("h_bucket", {"a": "x", "le": "1.0"}) == 101
    assert value("h_count", {"a": "x"}) == 2000
    assert value("h_sum", {"a": "other"}) == 5000
    series.observe({("x",): [0.5]})
    assert value("h_bucket", {"a": "x", "le": "1.0"}) == 102


def test_what_is_gone_is_forgotten() -> None:
    """All children with a label's value go, of whatever metric, and others stay; they begin anew when they are back."""
    metrics = Metrics()
    for name in ("a", "b"):
        metrics.counter(RECEIVED_BYTES, input=name).inc(3)
        metrics.gauge(CONNECTIONS, input=name).set(2)
        metrics.histogram(DELIVERY_SECONDS, output=name).observe(1)
    metrics.histogram(COMMIT_SECONDS).observe(1)
    metrics.forget("input", "a")
    value = metrics.registry.get_sample_value
    assert value("mcp_ingest_received_bytes_total", {"input": "a"}) is None
    assert value("mcp_ingest_connections", {"input": "a"}) is None
    assert value("mcp_ingest_received_bytes_total", {"input": "b"}) == 3
    assert value("mcp_ingest_delivery_seconds_count", {"output": "a"}) == 1
    metrics.counter(RECEIVED_BYTES, input="a").inc(1)
    assert value("mcp_ingest_received_bytes_total", {"input": "a"}) == 1


def test_what_is_staged_is_not_seen_before_it_is_published() -> None:
    """Then it is all that is declared; children are those of the others at any time."""
    metrics = Metrics()
    first, second = Metric("n", "counter", "A counter."), Metric("m", "counter", "Another.")
    kept = metrics.series(first)
    kept.add({(): 3})
    metrics.series(second).add({(): 3})
    staged = metrics.staged()
    assert staged.series(first) is kept
    changed = staged.series(Metric("m", "gauge", "It is a gauge now."))
    changed.set({(): 7})
    value = metrics.registry.get_sample_value
    assert (value("n_total"), value("m_total"), value("m")) == (3, 3, None)
    staged.counter(RECEIVED_BYTES, input="a").inc(1)
    assert value("mcp_ingest_received_bytes_total", {"input": "a"}) == 1
    staged.publish()
    assert (value("n_total"), value("m_total"), value("m")) == (3, None, 7)
    metrics.staged().publish()
    assert (value("n_total"), value("m")) == (None, None)


def test_names_that_collide_are_not_published() -> None:
    """Two declarations whose samples have one name: the old ones stay."""
    metrics = Metrics()
    metrics.series(Metric("n", "counter", "A counter.")).add({(): 3})
    staged = metrics.staged()
    staged.series(Metric("x", "counter", "A counter."))
    staged.series(Metric("x_total", "gauge", "A gauge."))
    with pytest.raises(ConfigError, match="x_total: another metric"):
        staged.publish()
    assert metrics.registry.get_sample_value("n_total") == 3
    assert "x" not in {family.name for family in metrics.registry.collect()}
