"""Count events and measure their fields: counters, histograms and gauges on `/metrics`, made of the logs themselves.

Without settings it makes the platform's two: `mcp_log_events_total{service_name, log_level}` and the histogram
`mcp_log_request_duration_milliseconds{service_name, operation}` of `duration_ms`. The events stay as they are.

Put it behind `redact`, since label values are shown to whoever may scrape. A field that is missing has the label value
`unknown`; a value that is no finite number is not measured, and a counter does not go down. Each metric has at most
`max_series` combinations of label values; further ones are counted under `other`. Fields are names or dotted paths.

Guarantees: counted once for each event, after the commit that holds it; a restart begins at nought, as Prometheus
expects. Cost: one pass for each metric, and one touch of the metric for each combination of labels in a batch.
Metrics: those it is told to make.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import compress
from operator import itemgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mcp_ingest.component import Example, Settings, Stage, StageSettings
from mcp_ingest.context import Context
from mcp_ingest.errors import ConfigError
from mcp_ingest.event import Batch, Record
from mcp_ingest.expression import compile_expression
from mcp_ingest.metrics import Labels, Metric, Series

Key = tuple[Any, ...]  # an event's label values

_NUMBERS = frozenset((int, float))
_LONGEST_LABEL = 128
_BUCKETS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0)
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class _MetricSettings(Settings, kw_only=True):
    """One metric."""

    name: Annotated[str, Meta(description="Its name on /metrics; a counter's ends in `_total`, or gets that ending.")]
    type: Annotated[Literal["counter", "histogram", "gauge"], Meta(description="What it is.")] = "counter"
    value: Annotated[
        str | None, Meta(description="The field that is measured; a counter without one counts events.")
    ] = None
    labels: Annotated[dict[str, str], Meta(description="Label names, each with the field it is taken from.")] = (
        msgspec.field(default_factory=dict)
    )
    when: Annotated[str | None, Meta(description="Only events for which this condition holds.")] = None
    help: Annotated[str, Meta(description="The line that explains it on /metrics.")] = "Made of log events."
    buckets: Annotated[
        list[float], Meta(description="Upper bounds of a histogram's buckets, rising.", min_length=1)
    ] = msgspec.field(default_factory=lambda: list(_BUCKETS))
    max_series: Annotated[int, Meta(description="Combinations of label values at the most.", ge=1)] = 1000

    def check(self) -> list[str]:
        """Names that Prometheus takes, a value where one is needed, rising buckets, a condition that compiles."""
        problems = []
        if _NAME.fullmatch(self.name) is None or self.name.startswith("mcp_ingest_"):
            problems.append("is not a name for a metric: letters, digits, _ and :, not beginning with mcp_ingest_")
        problems += [
            f"labels: {label!r} is not a name for a label: letters, digits and _, not `le`"
            for label in self.labels
            if _LABEL.fullmatch(label) is None or label == "le"
        ]
        if self.type != "counter" and self.value is None:
            problems.append(f"value: a {self.type} needs the field that it measures")
        if not all(map(math.isfinite, self.buckets)) or sorted(set(self.buckets)) != self.buckets:
            problems.append("buckets: they must be finite and rise")
        try:
            compile_expression(self.when or "True")
        except ConfigError as error:
            problems += [f"when: {problem}" for problem in error.problems]
        return [f"metrics: {self.name}: {problem}" for problem in problems]

    def declaration(self) -> Metric:
        """The metric as it is declared to the registry."""
        name = self.name.removesuffix("_total") if self.type == "counter" else self.name
        return Metric(name, self.type, self.help, tuple(self.labels), tuple(self.buckets))


def _platform_metrics() -> list[_MetricSettings]:
    return [
        _MetricSettings(
            name="mcp_log_events_total",
            labels={"service_name": "service_name", "log_level": "log_level"},
            help="Log events by service and level.",
        ),
        _MetricSettings(
            name="mcp_log_request_duration_milliseconds",
            type="histogram",
            value="duration_ms",
            labels={"service_name": "service_name", "operation": "operation"},
            help="Duration of requests as their log events tell it.",
        ),
    ]


class ExtractMetrics(Stage):
    """Makes metrics of events."""

    class Config(StageSettings):
        """Which metrics are made."""

        metrics: Annotated[list[_MetricSettings], Meta(description="The metrics; by default the platform's two.")] = (
            msgspec.field(default_factory=_platform_metrics)
        )

        def check(self) -> list[str]:
            """Each metric must be sound, and no name be there twice."""
            names = Counter(metric.declaration().name for metric in self.metrics)
            twice = [f"metrics: {name}: declared {count} times" for name, count in names.items() if count > 1]
            return [*(problem for metric in self.metrics for problem in metric.check()), *twice]

    keeps_serialised = True
    EXAMPLES = (
        Example(
            "The platform's two metrics; events pass as they are",
            {},
            given={"service_name": "model-router", "log_level": "INFO", "operation": "route", "duration_ms": 12.5},
            expected={"service_name": "model-router", "log_level": "INFO", "operation": "route", "duration_ms": 12.5},
        ),
        Example(
            "Errors by region, and tokens",
            {
                "metrics": [
                    {"name": "errors_total", "labels": {"region": "metadata.region"}, "when": "log_level == 'ERROR'"},
                    {"name": "tokens_total", "value": "tokens"},
                ]
            },
            given={"log_level": "ERROR", "tokens": 12, "metadata": {"region": "eu"}},
            expected={"log_level": "ERROR", "tokens": 12, "metadata": {"region": "eu"}},
        ),
    )

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._made = [
            _Measure(metric, context.metrics.series(metric.declaration(), metric.max_series))
            for metric in config.metrics
        ]

    def apply(self, batch: Batch) -> Batch:
        """The same batch; what is to be counted goes with it and is counted after the commit."""
        effects = [measure.of(batch) for measure in self._made]
        batch.outcome.effects += [effect for effect in effects if effect is not None]
        return batch


class _Measure:
    """One metric: works out what a batch adds to it."""

    def __init__(self, settings: _MetricSettings, series: Series) -> None:
        self._series = series
        self._when = compile_expression(settings.when) if settings.when is not None else None
        self._keys = _keys(list(settings.labels.values()))
        self._value = _column(settings.value) if settings.value is not None else None
        self._work = {"counter": self._count, "gauge": self._last, "histogram": self._distribution}[settings.type]

    def of(self, batch: Batch) -> Callable[[], None] | None:
        """What is to be done after the commit, None if no event of the batch concerns this metric."""
        records: Sequence[Record] = batch.records
        if self._when is not None:
            records = list(compress(records, self._when.mask(records, batch.tags, batch.times)))
        if not records:
            return None
        keys = self._keys(records)
        try:
            return self._work(keys, records)
        except TypeError:  # a label's value is a list or a map, which no key can be
            return self._work([_labels(key) for key in keys], records)

    def _count(self, keys: Iterable[Key], records: Sequence[Record]) -> Callable[[], None]:
        amounts: dict[Labels, float] = {}
        if self._value is None:
            for key, count in Counter(keys).items():
                labels = _labels(key)
                amounts[labels] = amounts.get(labels, 0) + count
        else:
            amounts = {key: sum(v for v in values if v > 0) for key, values in self._grouped(keys, records).items()}
        return partial(self._series.add, amounts)

    def _last(self, keys: Iterable[Key], records: Sequence[Record]) -> Callable[[], None]:
        return partial(self._series.set, {key: values[-1] for key, values in self._grouped(keys, records).items()})

    def _distribution(self, keys: Iterable[Key], records: Sequence[Record]) -> Callable[[], None]:
        return partial(self._series.observe, self._grouped(keys, records))

    def _grouped(self, keys: Iterable[Key], records: Sequence[Record]) -> dict[Labels, list[float]]:
        """The values by label values; what is no finite number is left out."""
        assert self._value is not None
        values = self._value(records)
        pairs: Iterable[tuple[Key, float]] = zip(keys, values, strict=True)
        if not _NUMBERS.issuperset(map(type, values)) or not _all_finite(values):
            pairs = [(key, value) for key, value in pairs if value.__class__ in _NUMBERS and _is_finite(value)]
        groups: defaultdict[Key, list[float]] = defaultdict(list)
        for key, value in pairs:
            groups[key].append(value)
        result: dict[Labels, list[float]] = {}
        for key, found in groups.items():
            labels = _labels(key)
            result[labels] = result[labels] + found if labels in result else found
        return result


def _keys(fields: Sequence[str]) -> Callable[[Sequence[Record]], list[Key]]:
    """All events' values of these fields as tuples, as they are in the record."""
    columns = [_column(field) for field in fields]
    together: Callable[[Record], Key] | None = itemgetter(*fields) if len(fields) > 1 else None

    def keys(records: Sequence[Record]) -> list[Key]:
        if together is not None:
            try:
                return list(map(together, records))
            except KeyError:  # not every record has them all, or they are in maps
                pass
        return list(zip(*[column(records) for column in columns], strict=True)) if columns else [()] * len(records)

    return keys


def _column(field: str) -> Callable[[Sequence[Record]], list[Any]]:
    """All events' values of a field: the flat name, else a path through nested maps."""
    if "." not in field:
        return lambda records: [record.get(field) for record in records]
    path = field.split(".")

    def nested(record: Record) -> Any:
        found: Any = record
        for name in path:
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found

    return lambda records: [record[field] if field in record else nested(record) for record in records]


def _label(value: Any) -> str:
    return "unknown" if value is None or value == "" else str(value)[:_LONGEST_LABEL]


def _labels(key: Key) -> Labels:
    return tuple(map(_label, key))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _all_finite(values: list[float]) -> bool:
    """One look at the sum: infinity and not-a-number stay in it."""
    try:
        return math.isfinite(sum(values))
    except OverflowError:  # an integer that no float can hold
        return False
