"""Metrics of several spools or workers as one: counters and histograms are added, gauges as their declaration says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from mcp_ingest.metrics import together_by

#: A series: the sample's name and its labels.
Series = tuple[str, tuple[tuple[str, str], ...]]
_MERGES: dict[str, Callable[[float, float], float]] = {"sum": lambda a, b: a + b, "max": max, "min": min}


def series_of(sample: Sample) -> Series:
    """What tells a sample from all others."""
    return sample.name, tuple(sorted(sample.labels.items()))


def merged(sources: Sequence[Iterable[Metric]]) -> list[Metric]:
    """All families of all sources, each once and with each of its series once."""
    rules = together_by()
    families: dict[str, Metric] = {}
    values: dict[str, dict[Series, Sample]] = {}
    for family in (family for source in sources for family in source):
        made = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        here = values.setdefault(made.name, {})
        merge = _MERGES[_rule(family, rules)]
        for sample in family.samples:
            before = here.get(key := series_of(sample))
            here[key] = sample if before is None else before._replace(value=merge(before.value, sample.value))
    for name, family in families.items():
        family.samples = list(values[name].values())
    return list(families.values())


def _rule(family: Metric, rules: dict[str, str]) -> str:
    if family.type != "gauge":
        return "sum"
    if family.name.endswith("_created"):  # when a counter began to count: prometheus_client's own
        return "min"
    return rules.get(family.name, "max")


def parsed(text: str) -> list[Metric]:
    """The families of a page."""
    return list(text_string_to_metric_families(text))


def latest(registries: Sequence[CollectorRegistry]) -> bytes:
    """The page of these registries together."""
    if len(registries) == 1:
        return generate_latest(registries[0])
    return page_of(merged([parsed(generate_latest(each).decode()) for each in registries]))


def page_of(families: Sequence[Metric]) -> bytes:
    """The page of these families."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given(Collector):
    """Families that are there already, for a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def describe(self) -> list[Metric]:
        """Nothing: what there is is known when it is collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._families
