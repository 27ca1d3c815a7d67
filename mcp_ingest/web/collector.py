"""The metrics that are made at scrape time: the ledger and the state of the spool, true across restarts."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_ingest import metrics
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.graph import Graph
from mcp_ingest.engine.status import age
from mcp_ingest.spool.model import InputKey, KeptLetters, LetterKey, OutputKey


class SpoolCollector(Collector):
    """Reads one spool of a running daemon; registered once in the registry of its graph."""

    def __init__(self, daemon: Daemon, graph: Graph) -> None:
        self._daemon = daemon
        self._graph = graph

    def describe(self) -> list[Metric]:
        """Nothing: what there is is known when it is collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families declared with `collected=True`."""
        spool, now = self._graph.spool, self._daemon.clock.time_ns()
        ins, outs = _counter(metrics.INPUT_EVENTS), _counter(metrics.OUTPUT_EVENTS)
        letters = _counter(metrics.DEAD_LETTER_EVENTS)
        for key, count in spool.ledger().items():
            if isinstance(key, InputKey):
                ins.add_metric([key.input, key.pipeline, key.term, key.reason], count)
            elif isinstance(key, OutputKey):
                outs.add_metric([key.output, key.term, key.reason], count)
            elif isinstance(key, LetterKey):
                letters.add_metric([key.term, key.reason], count)
        held, oldest = _gauge(metrics.OUTPUT_HELD), _gauge(metrics.OUTPUT_OLDEST)
        backlog = _gauge(metrics.OUTPUT_BACKLOG)
        for name in self._graph.deliveries:
            owes = spool.held(name)
            held.add_metric([name], owes.events)
            backlog.add_metric([name], owes.bytes)
            oldest.add_metric([name], age(owes.oldest, now) or 0.0)
        usage = spool.usage()
        yield from (ins, outs, letters, held, backlog, oldest, _kept(usage.letters))
        for metric, value in (
            (metrics.SPOOL_BYTES, usage.bytes),
            (metrics.SPOOL_FULL, 0 if spool.has_room() else 1),
            (metrics.IN_FLIGHT_BYTES, self._daemon.budget.used if self._graph is self._daemon.graph else 0),
            (metrics.SPOOL_MAX_BYTES, usage.max_bytes),
            (metrics.SPOOL_CHUNKS, usage.chunks),
            (metrics.SPOOL_OLDEST, age(usage.oldest, now) or 0.0),
            (metrics.SPOOL_SET_ASIDE, sum(notice.bytes for notice in spool.notices())),
            (metrics.SPOOL_STUCK, 1 if spool.trouble() else 0),
            (metrics.DEAD_LETTER_BYTES, usage.letters.bytes),
            (metrics.DEAD_LETTER_OLDEST, age(usage.letters.oldest, now) or 0.0),
        ):
            family = _gauge(metric)
            family.add_metric([], value)
            yield family


def _kept(letters: KeptLetters) -> GaugeMetricFamily:
    """Those of each kind; without any a nought, so that there is a series to compare."""
    family = _gauge(metrics.DEAD_LETTERS)
    for kind, count in (letters.kinds or {"": 0}).items():
        family.add_metric([kind], count)
    return family


def _counter(metric: metrics.Metric) -> CounterMetricFamily:
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)


def _gauge(metric: metrics.Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
