"""Metrics of several spools or workers as one."""

from __future__ import annotations

from mcp_ingest import metrics
from mcp_ingest.metrics import Metric, Metrics, catalogue
from mcp_ingest.web.families import latest


def _merged(*sources: Metrics) -> dict[str, float]:
    lines = latest([each.registry for each in sources]).decode().splitlines()
    series = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    assert len({name for name, _ in series}) == len(series), "a series stands there twice"
    return {name: float(value) for name, value in series}


def test_each_by_its_declaration() -> None:
    """Counters and histograms are added, gauges as their declaration says; a series of one alone stays."""
    one, two = Metrics(), Metrics()
    for each, count in ((one, 2), (two, 5)):
        each.counter(metrics.COMMITS).inc(count)
        each.histogram(metrics.COMMIT_SECONDS).observe(count)
        each.gauge(metrics.CONNECTIONS, input="f").set(count)
        each.gauge(metrics.OUTPUT_UP, output="o").set(count == 2)
        each.gauge(metrics.OUTPUT_OLDEST, output="o").set(count)
    two.counter(metrics.RETRIES, output="o", reason="429").inc(7)
    found = _merged(one, two)
    assert found["mcp_ingest_commits_total"] == 7
    assert found["mcp_ingest_commit_seconds_count"] == 2
    assert found['mcp_ingest_commit_seconds_bucket{le="2.5"}'] == 1
    assert found['mcp_ingest_commit_seconds_bucket{le="+Inf"}'] == 2
    assert found['mcp_ingest_connections{input="f"}'] == 7
    assert found['mcp_ingest_output_up{output="o"}'] == 0
    assert found['mcp_ingest_output_oldest_age_seconds{output="o"}'] == 5
    assert found['mcp_ingest_retries_total{output="o",reason="429"}'] == 7


def test_a_gauge_that_the_configuration_declares() -> None:
    """Its greatest value: what it means nobody here knows, and a sum of last values means nothing."""
    one, two = Metrics(), Metrics()
    for each, value in ((one, 2.0), (two, 5.0)):
        each.series(Metric("queue_length", "gauge", "of the application")).set({(): value})
        each.series(Metric("requests", "counter", "of the application")).add({(): value})
    found = _merged(one, two)
    assert found["queue_length"] == 5
    assert found["requests_total"] == 7


def test_ages_are_never_added() -> None:
    """Every gauge of an age is declared so that the oldest counts."""
    ages = [metric for metric in catalogue() if metric.kind == "gauge" and metric.name.endswith("_age_seconds")]
    assert ages
    assert {metric.together for metric in ages} == {"max"}


def test_a_page_of_one_is_its_own() -> None:
    """Without other spools nothing is parsed and put together again."""
    one = Metrics()
    one.counter(metrics.COMMITS).inc()
    assert b"mcp_ingest_commits_total 1.0" in latest([one.registry])
