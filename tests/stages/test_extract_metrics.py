"""Metrics of events: counts, buckets, bounds, mistakes."""

from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from mcp_ingest.context import Context
from mcp_ingest.errors import ConfigError
from mcp_ingest.event import Batch, Origin
from mcp_ingest.stages.extract_metrics import ExtractMetrics

ORIGIN = Origin("forward", "p" * 20, 0)


def stage(*metrics: dict[str, Any], context: Context | None = None) -> ExtractMetrics:
    given = {"metrics": list(metrics)} if metrics else {}
    config = msgspec.convert(given, ExtractMetrics.Config)
    assert config.check() == []
    return ExtractMetrics(config, context or Context())


def run(made: ExtractMetrics, *records: dict[str, Any]) -> None:
    batch = Batch.of(ORIGIN, "mcp", [0] * len(records), list(records), list(range(len(records))))
    for effect in made.apply(batch).outcome.effects:
        effect()


def sample(made: ExtractMetrics, name: str, **labels: str) -> float | None:
    return made.context.metrics.registry.get_sample_value(name, labels)


def test_platform_metrics() -> None:
    """Without settings events are counted by service and level, and durations are bucketed."""
    made = stage()
    event = {"service_name": "router", "log_level": "INFO", "operation": "route"}
    run(made, event | {"duration_ms": 5}, event | {"duration_ms": 5.1}, {"service_name": "router"})
    run(made, event | {"duration_ms": 1e9})
    assert sample(made, "mcp_log_events_total", service_name="router", log_level="INFO") == 3
    assert sample(made, "mcp_log_events_total", service_name="router", log_level="unknown") == 1
    name, labels = "mcp_log_request_duration_milliseconds", {"service_name": "router", "operation": "route"}
    assert sample(made, f"{name}_bucket", le="2.5", **labels) == 0
    assert sample(made, f"{name}_bucket", le="5.0", **labels) == 1
    assert sample(made, f"{name}_bucket", le="10.0", **labels) == 2
    assert sample(made, f"{name}_bucket", le="60000.0", **labels) == 2
    assert sample(made, f"{name}_bucket", le="+Inf", **labels) == 3
    assert sample(made, f"{name}_count", **labels) == 3
    assert sample(made, f"{name}_sum", **labels) == pytest.approx(1e9 + 10.1)
    assert b"# TYPE mcp_log_events_total counter" in generate_latest(made.context.metrics.registry)


def test_counted_after_the_commit() -> None:
    """Nothing is counted before the batch's effects are called, and the events are not changed."""
    made = stage()
    batch = Batch.of(ORIGIN, "mcp", [0], [{"service_name": "router"}], [0])
    result = made.apply(batch)
    assert result.records == [{"service_name": "router"}]
    assert sample(made, "mcp_log_events_total", service_name="router", log_level="unknown") is None
    assert len(result.outcome.effects) == 2


def test_value_when_and_paths() -> None:
    """Counters add up a field, gauges keep the last value, labels reach into nested maps and flat dotted names."""
    made = stage(
        {"name": "tokens_total", "value": "tokens", "labels": {"region": "metadata.region"}, "when": "tokens < 100"},
        {"name": "depth", "type": "gauge", "value": "queue.depth"},
    )
    run(
        made,
        {"tokens": 3, "metadata": {"region": "eu"}, "queue.depth": 7},
        {"tokens": 4, "metadata.region": "eu", "queue": {"depth": 8}},
        {"tokens": -4, "metadata": "none"},
        {"tokens": 400, "metadata": {"region": "eu"}},
    )
    assert sample(made, "tokens_total", region="eu") == 7
    assert sample(made, "depth") == 8


@pytest.mark.parametrize("value", ["12", None, True, float("nan"), float("inf"), 10**400, [1], {}])
def test_what_is_no_number(value: Any) -> None:
    """What is no finite number is not measured, and its neighbours are."""
    made = stage({"name": "size", "type": "histogram", "value": "size", "buckets": [1, 10]})
    run(made, {"size": 5}, {"size": value}, {"size": 0.5})
    assert sample(made, "size_count") == 2
    assert sample(made, "size_sum") == 5.5


def test_strange_labels() -> None:
    """A label value may be anything: lists and maps become text, long texts are cut, 1 and "1" are the same."""
    made = stage({"name": "n_total", "labels": {"a": "a"}})
    run(made, {"a": [1]}, {"a": {}}, {"a": "x" * 1000}, {"a": 1}, {"a": "1"}, {"a": ""}, {})
    assert sample(made, "n_total", a="[1]") == 1
    assert sample(made, "n_total", a="x" * 128) == 1
    assert sample(made, "n_total", a="1") == 2
    assert sample(made, "n_total", a="unknown") == 2


def test_series_are_bounded() -> None:
    """Above the bound further label values are counted together as `other`, known ones as before."""
    made = stage(
        {"name": "n_total", "labels": {"a": "a"}, "max_series": 2},
        {"name": "h", "type": "histogram", "value": "v", "labels": {"a": "a"}, "max_series": 1, "buckets": [1]},
    )
    run(made, *({"a": str(number), "v": number} for number in range(10)))
    run(made, {"a": "0"}, {"a": "9", "v": 0})
    assert sample(made, "n_total", a="0") == 2
    assert sample(made, "n_total", a="other") == 9
    assert sample(made, "h_bucket", a="0", le="1.0") == 1
    assert sample(made, "h_bucket", a="other", le="1.0") == 2
    assert sample(made, "h_count", a="other") == 10


def test_shared_by_two_stages() -> None:
    """Two stages that declare a metric alike share it; declared otherwise it is a mistake."""
    context = Context()
    first = stage({"name": "n_total"}, context=context)
    run(first, {})
    run(stage({"name": "n_total"}, context=context), {})
    assert sample(first, "n_total") == 2
    with pytest.raises(ConfigError, match="n: it is declared elsewhere"):
        stage({"name": "n_total", "labels": {"a": "a"}}, context=context)
    with pytest.raises(ConfigError, match="another metric has this name"):
        stage({"name": "n_total", "type": "gauge", "value": "n"}, context=context)


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ({"name": "a-b"}, "metrics: a-b: is not a name for a metric"),
        ({"name": "mcp_ingest_x"}, "metrics: mcp_ingest_x: is not a name for a metric"),
        ({"name": "a", "labels": {"le": "x"}}, "metrics: a: labels: 'le' is not a name for a label"),
        ({"name": "a", "labels": {"__a": "x"}}, "metrics: a: labels: '__a' is not a name for a label"),
        ({"name": "a", "type": "gauge"}, "metrics: a: value: a gauge needs the field that it measures"),
        ({"name": "a", "buckets": [2, 1]}, "metrics: a: buckets: they must be finite and rise"),
        ({"name": "a", "when": "b.c"}, "metrics: a: when: column 1: write field"),
    ],
)
def test_mistakes(metric: dict[str, Any], problem: str) -> None:
    """What Prometheus would not take is a mistake of the configuration."""
    config = msgspec.convert({"metrics": [metric]}, ExtractMetrics.Config)
    assert config.check()[0].startswith(problem)


def test_declared_twice() -> None:
    """A name that stands twice in one stage is a mistake."""
    config = msgspec.convert({"metrics": [{"name": "a_total"}, {"name": "a"}]}, ExtractMetrics.Config)
    assert config.check() == ["metrics: a: declared 2 times"]
