"""Every metric of ours, declared once; `catalogue()` feeds the docs and the checks of dashboards and alerts.

Names are `mcp_ingest_NOUN_UNIT_total`, labels are bounded: names from the configuration and fixed words.
Counts of events are the ledger's, read from the spool at each scrape, so that they survive a restart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, repeat
from operator import add, sub
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from mcp_ingest.errors import ConfigError

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


@dataclass(frozen=True, slots=True)
class Metric:
    """A declaration: its name without `_total`, what it is, what it counts, its labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = LATENCY_BUCKETS
    collected: bool = False  # made at scrape time from what the daemon knows, not incremented by anybody
    together: Literal["sum", "max", "min"] = "sum"  # what several spools' or workers' values of a gauge make


# the ledger, collected at scrape time
INPUT_EVENTS = Metric(
    "mcp_ingest_input_events",
    "counter",
    "Events by what became of them on the way in (received, accepted, filtered, dead_lettered, …).",
    ("input", "pipeline", "term", "reason"),
    collected=True,
)
OUTPUT_EVENTS = Metric(
    "mcp_ingest_output_events",
    "counter",
    "Events by what became of them at an output (assigned, delivered, duplicate, dead_lettered, …).",
    ("output", "term", "reason"),
    collected=True,
)
DEAD_LETTER_EVENTS = Metric(
    "mcp_ingest_dead_letter_events",
    "counter",
    "Dead letters by what became of them (dead_lettered, replayed, expired, deleted, lost), and why they died.",
    ("term", "reason"),
    collected=True,
)
DEAD_LETTERS = Metric(
    "mcp_ingest_dead_letters", "gauge", "Dead letters that are kept, by why they died.", ("reason",), collected=True
)
DEAD_LETTER_BYTES = Metric(
    "mcp_ingest_dead_letter_bytes", "gauge", "Bytes of the dead letters that are kept.", (), collected=True
)
DEAD_LETTER_OLDEST = Metric(
    "mcp_ingest_dead_letter_oldest_age_seconds",
    "gauge",
    "Age of the oldest dead letter.",
    (),
    collected=True,
    together="max",
)
OUTPUT_HELD = Metric(
    "mcp_ingest_output_held_events",
    "gauge",
    "Events in the spool that an output still owes.",
    ("output",),
    collected=True,
)
OUTPUT_OLDEST = Metric(
    "mcp_ingest_output_oldest_age_seconds", "gauge", "Age of the oldest event that an output still owes.", ("output",),
    collected=True, together="max",
)  # fmt: skip
OUTPUT_BACKLOG = Metric(
    "mcp_ingest_output_backlog_bytes",
    "gauge",
    "Bytes that the chunks take in the spool of which an output owes something.",
    ("output",),
    collected=True,
)
SPOOL_FULL = Metric(
    "mcp_ingest_spool_full", "gauge", "1 while the spool takes no events: inputs wait or are refused.", (),
    collected=True,
    together="max",
)  # fmt: skip
IN_FLIGHT_BYTES = Metric(
    "mcp_ingest_in_flight_bytes", "gauge", "Bytes reserved for events on their way to the spool.", (), collected=True
)
SPOOL_BYTES = Metric("mcp_ingest_spool_bytes", "gauge", "Bytes of used pages in the spool.", (), collected=True)
SPOOL_MAX_BYTES = Metric("mcp_ingest_spool_max_bytes", "gauge", "The spool's limit.", (), collected=True)
SPOOL_CHUNKS = Metric("mcp_ingest_spool_chunks", "gauge", "Chunks in the spool.", (), collected=True)
SPOOL_OLDEST = Metric(
    "mcp_ingest_spool_oldest_age_seconds", "gauge", "Age of the oldest chunk in the spool.", (), collected=True,
    together="max",
)  # fmt: skip

SPOOL_SET_ASIDE = Metric(
    "mcp_ingest_spool_set_aside_bytes",
    "gauge",
    "Bytes of damaged files that were set aside and are still there.",
    (),
    collected=True,
)
SPOOL_STUCK = Metric(
    "mcp_ingest_spool_stuck",
    "gauge",
    "1 while the disk of the spool refuses (read-only, an I/O error, files deleted), else 0.",
    (),
    collected=True,
    together="max",
)

# counted where it happens
SPOOL_DAMAGE = Metric(
    "mcp_ingest_spool_damage",
    "counter",
    "Damage found on the spool's disk: chunk, database (salvaged), commits (forgotten), counters, replaced (database).",
    ("kind",),
)
DROPPED_EVENTS = Metric(
    "mcp_ingest_dropped_events",
    "counter",
    "Events let go because something was over a bound, by the chunk's priority (normal; high: ERROR and CRITICAL).",
    ("output", "priority", "reason"),
)
REFUSED_EVENTS = Metric(
    "mcp_ingest_refused_events", "counter", "Events that a full spool did not take (`when_full: reject`).", ("input",)
)
RECEIVED_BYTES = Metric("mcp_ingest_received_bytes", "counter", "Bytes of events as they were received.", ("input",))
CONNECTIONS = Metric("mcp_ingest_connections", "gauge", "Open connections.", ("input",))
PROTOCOL_ERRORS = Metric(
    "mcp_ingest_protocol_errors", "counter", "Connections closed for what they sent.", ("input", "reason")
)
IGNORED_FRAMES = Metric(
    "mcp_ingest_ignored_frames",
    "counter",
    "Forward frames that are no logs: acknowledged and dropped.",
    ("input", "signal"),
)
SANITIZED = Metric(
    "mcp_ingest_sanitized_values", "counter", "Values that JSON cannot hold and that were changed to fit.", ("input",)
)
COMMIT_SECONDS = Metric("mcp_ingest_commit_seconds", "histogram", "Time of one fsynced commit.")
COMMITS = Metric("mcp_ingest_commits", "counter", "Commits of the spool.")
DELIVERED_BYTES = Metric("mcp_ingest_delivered_bytes", "counter", "Bytes of events that were delivered.", ("output",))
DELIVERY_SECONDS = Metric("mcp_ingest_delivery_seconds", "histogram", "Time of one request to an output.", ("output",))
INGEST_SECONDS = Metric(
    "mcp_ingest_ingest_to_delivery_seconds",
    "histogram",
    "Time from the commit of an event to its delivery.",
    ("output",),
)
RETRIES = Metric("mcp_ingest_retries", "counter", "Events or requests sent again, by why.", ("output", "reason"))
OUTPUT_UP = Metric(
    "mcp_ingest_output_up", "gauge", "1 while the output's last request was answered, else 0.", ("output",),
    together="min",
)  # fmt: skip
OUTPUT_CONCURRENCY = Metric(
    "mcp_ingest_output_concurrency",
    "gauge",
    "Requests that may be in flight to an output now: its `concurrency`, less while its peer is busy.",
    ("output",),
)
OUTPUT_PARKED = Metric(
    "mcp_ingest_output_parked_destinations",
    "gauge",
    "Destinations of an output (indices) that take nothing now: blocked, closed, forbidden or missing.",
    ("output",),
    together="max",
)
DELIVERY_STALLS = Metric(
    "mcp_ingest_delivery_stalls",
    "counter",
    "Deliveries that made no progress without a reason, and were begun anew.",
    ("output",),
)
REDACTIONS = Metric("mcp_ingest_redactions", "counter", "Values masked, by rule.", ("stage", "rule"))
TAIL_FILES = Metric("mcp_ingest_tail_files", "gauge", "Files that are followed.", ("input",))
TAIL_UNREAD_BYTES = Metric(
    "mcp_ingest_tail_unread_bytes", "gauge", "Bytes in followed files, as of the last scan, not read yet.", ("input",)
)
CONFIG_RELOAD_SUCCESS = Metric(
    "mcp_ingest_config_reload_success",
    "gauge",
    "1 while the last configuration that was read was taken, else 0.",
    together="min",
)
CONFIG_RELOAD_TIME = Metric(
    "mcp_ingest_config_reload_success_timestamp_seconds",
    "gauge",
    "When a configuration was taken last, in seconds since 1970.",
    together="min",
)
LOG_SUPPRESSED = Metric(
    "mcp_ingest_log_suppressed_lines", "counter", "Lines of our own log that the rate limit held back."
)

# several workers, counted by their supervisor
WORKERS = Metric("mcp_ingest_workers", "gauge", "Worker processes that run and listen.")
WORKER_RESTARTS = Metric(
    "mcp_ingest_worker_restarts", "counter", "Workers that ended by themselves and were started again.", ("worker",)
)

UNUSABLE_TIMESTAMPS = Metric(
    "mcp_ingest_unusable_timestamps",
    "counter",
    "Events whose `timestamp` was no time: the protocol's serves, the original is kept.",
    ("stage",),
)
FLAGGED_FIELDS = Metric(
    "mcp_ingest_flagged_fields", "counter", "Fields that `validate` filled in, moved or missed.", ("stage", "field")
)


def together_by() -> dict[str, str]:
    """How the values of each gauge declared above are put together; one that the configuration declares: `max`."""
    return {metric.name: metric.together for metric in catalogue() if metric.kind == "gauge"}


def catalogue() -> list[Metric]:
    """Every metric declared above."""
    return [value for value in globals().values() if isinstance(value, Metric)]


Labels = tuple[str, ...]
_ENOUGH = 256  # values of one series that wait to be put into buckets


class Series:
    """A metric that the configuration declares, filled a batch at a time: prometheus_client has no bulk observe.

    Above `max_series` combinations of label values, further ones are counted under `other`.
    """

    def __init__(self, metric: Metric, max_series: int) -> None:
        self.metric = metric
        self.max_series = max_series
        self._values: dict[Labels, float] = {}
        self._buckets: dict[Labels, list[int]] = {}  # not cumulative, the last one is +Inf
        self._waiting: dict[Labels, list[float]] = {}  # not yet in buckets

    def add(self, amounts: Mapping[Labels, float]) -> None:
        """Raise a counter by these amounts."""
        for labels, amount in amounts.items():
            key = self._key(labels)
            self._values[key] = self._values.get(key, 0) + amount

    def set(self, values: Mapping[Labels, float]) -> None:
        """Set a gauge to these values."""
        for labels, value in values.items():
            self._values[self._key(labels)] = value

    def observe(self, values: Mapping[Labels, list[float]]) -> None:
        """Add these finite values to a histogram.

        They are put into buckets when there are enough of them or when somebody looks: for two values of a small
        batch that costs as much as for a hundred.
        """
        for labels, new in values.items():
            key = self._key(labels)
            waiting = self._waiting.get(key)
            if waiting is None:
                self._values.setdefault(key, 0)
                self._waiting[key] = waiting = []
            waiting += new
            if len(waiting) > _ENOUGH:
                self._settle(key)

    def _settle(self, key: Labels) -> None:
        buckets, total = self.bucketed(self._waiting.pop(key))
        before = self._buckets.get(key)
        self._buckets[key] = buckets if before is None else list(map(add, before, buckets))
        self._values[key] += total

    def bucketed(self, values: list[float]) -> tuple[list[int], float]:
        """How many of these finite values fall into each bucket, and their sum; sorts the list."""
        values.sort()
        below = [0, *map(bisect_right, repeat(values), self.metric.buckets), len(values)]
        return list(map(sub, below[1:], below)), sum(values)

    def describe(self) -> Iterable[Family]:
        """The names this takes, for the registry."""
        return [self._family()]

    def collect(self) -> Iterable[Family]:
        """All series, for a scrape."""
        for key in list(self._waiting):
            self._settle(key)
        family = self._family()
        for labels, value in list(self._values.items()):
            if isinstance(family, HistogramMetricFamily):
                bounds = [*map(floatToGoString, self.metric.buckets), "+Inf"]
                counts = accumulate(self._buckets[labels])
                family.add_metric(labels, list(zip(bounds, counts, strict=True)), value)
            else:
                family.add_metric(labels, value)
        return [family]

    def _key(self, labels: Labels) -> Labels:
        if labels in self._values or len(self._values) < self.max_series:
            return labels
        return ("other",) * len(labels)

    def _family(self) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
        metric = self.metric
        if metric.kind == "histogram":
            return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        if metric.kind == "gauge":
            return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)


class Metrics:
    """The metrics of one process: children are made at first use and kept."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._made: dict[str, Any] = {}
        self._children: dict[tuple[str, ...], Any] = {}  # the library takes 20 µs to find one, for each small batch
        self._series: dict[str, Series] = {}

    def counter(self, metric: Metric, **labels: str) -> Counter:
        """The counter with these label values."""
        return self._child(Counter, metric, labels)  # type: ignore[no-any-return]

    def gauge(self, metric: Metric, **labels: str) -> Gauge:
        """The gauge with these label values."""
        return self._child(Gauge, metric, labels)  # type: ignore[no-any-return]

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        """The histogram with these label values; its buckets are the declaration's."""
        return self._child(Histogram, metric, labels)  # type: ignore[no-any-return]

    def series(self, metric: Metric, max_series: int = 1000) -> Series:
        """The metric of that name that the configuration declares, shared by all who declare it alike.

        `ConfigError` says so when another declaration has the name.
        """
        made = self._series.get(metric.name)
        if made is None:
            made = Series(metric, max_series)
            try:
                self.registry.register(made)
            except ValueError:
                raise ConfigError([f"{metric.name}: another metric has this name"]) from None
            self._series[metric.name] = made
        if (made.metric, made.max_series) != (metric, max_series):
            raise ConfigError([f"{metric.name}: it is declared elsewhere, in another way"])
        return made

    def staged(self) -> StagedMetrics:
        """The same metrics for parts that are being built: what they declare is not seen before it is published."""
        return StagedMetrics(self)

    def forget(self, label: str, value: str) -> None:
        """Let go of every child with this label value: what it counted is no more."""
        for key in [key for key in self._children if _has(key, label, value)]:
            del self._children[key]
            names_and_values = key[1:]
            self._made[key[0]].remove(*names_and_values[len(names_and_values) // 2 :])

    def replace_series(self, series: Mapping[str, Series]) -> None:
        """Have just these declared from now on, by name; ConfigError, and nothing changed, when two share a name."""
        gone = [each for name, each in self._series.items() if series.get(name) is not each]
        new = [each for name, each in series.items() if self._series.get(name) is not each]
        for each in gone:
            self.registry.unregister(each)
        for place, each in enumerate(new):
            try:
                self.registry.register(each)
            except ValueError:
                for other in new[:place]:
                    self.registry.unregister(other)
                for other in gone:
                    self.registry.register(other)
                raise ConfigError([f"{each.metric.name}: another metric has this name"]) from None
        self._series = dict(series)

    def _child(self, kind: Any, metric: Metric, labels: dict[str, str]) -> Any:
        key = (metric.name, *labels, *labels.values())
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._new_child(kind, metric, labels)
        return child

    def _new_child(self, kind: Any, metric: Metric, labels: dict[str, str]) -> Any:
        parent = self._made.get(metric.name)
        if parent is None:
            extra = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
            parent = kind(metric.name, metric.help, metric.labels, registry=self.registry, **extra)
            self._made[metric.name] = parent
        return parent.labels(**labels) if metric.labels else parent


class StagedMetrics(Metrics):
    """Counts into the metrics of `base`, and keeps what is declared to itself until `publish`.

    What is declared as it was goes on with its values. `declared` are the series in the order in which they were
    asked for.
    """

    def __init__(self, base: Metrics) -> None:
        self.registry = base.registry
        self.declared: list[Series] = []
        self._base = base
        self._made, self._children = base._made, base._children
        self._series = {}

    def series(self, metric: Metric, max_series: int = 1000) -> Series:
        """As that of `Metrics`, but nobody sees it yet."""
        made = self._series.get(metric.name) or self._base._series.get(metric.name)
        if made is None or (metric.name not in self._series and not _alike(made, metric, max_series)):
            made = Series(metric, max_series)
        if not _alike(made, metric, max_series):
            raise ConfigError([f"{metric.name}: it is declared elsewhere, in another way"])
        self._series[metric.name] = made
        self.declared.append(made)
        return made

    def keep(self, series: Iterable[Series]) -> None:
        """These are declared by parts that stay."""
        self._series.update({each.metric.name: each for each in series})

    def publish(self) -> None:
        """What is declared here is all that is declared from now on; ConfigError where names collide."""
        self._base.replace_series(self._series)


def _alike(series: Series, metric: Metric, max_series: int) -> bool:
    return (series.metric, series.max_series) == (metric, max_series)


def _has(key: tuple[str, ...], label: str, value: str) -> bool:
    """Whether a child's key (metric, label names, their values) has this label value."""
    middle = (len(key) + 1) // 2
    return (label, value) in zip(key[1:middle], key[middle:], strict=True)
