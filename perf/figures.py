"""The figures that a run may have: how they are called in reports, and in which unit. Declared once, here."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: What one run measured, by the names below.
Figures = dict[str, float]


@dataclass(frozen=True)
class Figure:
    """One measured quantity."""

    title: str
    unit: str
    digits: int = 1


CATALOGUE = {
    "floors": Figure("CPU", "floors", 2),
    "floors_meanwhile": Figure("CPU, in floors of the same seconds", "", 2),
    "cpu_us": Figure("CPU an event", "µs", 2),
    "floor_us": Figure("the floor beside it", "µs", 2),
    "rate": Figure("events a second, from the first until all are delivered", "/s", 0),
    "floors_more": Figure("CPU above the scenario beside it", "floors", 2),
    "cost_share": Figure("CPU an event, as a share of that of the scenario beside it", "", 2),
    "rate_share": Figure("events a second, as a share of those of the scenario beside it", "", 2),
    "fill_rate": Figure("events a second while the backlog grows", "/s", 0),
    "drain_rate": Figure("events a second while draining", "/s", 0),
    "drain_us": Figure("CPU an event while draining", "µs", 2),
    "drain_floors": Figure("CPU while draining", "floors", 2),
    "drain_share": Figure("rate of draining, as a share of the rate of the scenario beside it", "", 2),
    "p50_ms": Figure("latency, half of the events below", "ms", 1),
    "p99_ms": Figure("latency, 99 % of the events below", "ms", 1),
    "longest_ms": Figure("longest latency", "ms", 1),
    "cores": Figure("CPU", "of a core", 3),
    "idle_cores": Figure("CPU while nothing happens", "of a core", 4),
    "listening_seconds": Figure("from exec to listening", "s", 3),
    "idle_rss_mb": Figure("memory when idle (RSS)", "MB", 0),
    "idle_anonymous_mb": Figure("memory when idle (RssAnon)", "MB", 0),
    "peak_rss_mb": Figure("most memory (RSS)", "MB", 0),
    "peak_anonymous_mb": Figure("most memory (RssAnon)", "MB", 0),
    "sink_us": Figure("CPU of the sink, an event", "µs", 2),
    "loadgen_us": Figure("CPU of the load generator, an event", "µs", 2),
    "documents": Figure("documents that reached the sink", "", 0),
}


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and their range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def text(name: str, value: float) -> str:
    """A value with its unit, as a report shows it."""
    figure = CATALOGUE[name]
    return f"{value:,.{figure.digits}f} {figure.unit}".strip()


def spread_text(name: str, spread: Spread) -> str:
    """`median (least to most)`; the median alone where they are the same."""
    digits = CATALOGUE[name].digits
    least, most = (f"{value:,.{digits}f}" for value in (spread.least, spread.most))
    return f"{spread.median:,.{digits}f}" if least == most else f"{spread.median:,.{digits}f} ({least} to {most})"
