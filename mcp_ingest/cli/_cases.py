"""Tests of pipelines: what a `*.test.yaml` says, and what became of it.

A case gives a pipeline events and names the fields that must come out; see `Case`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Names
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import click
import msgspec
from msgspec import Meta

from mcp_ingest.component import Settings
from mcp_ingest.config.convert import to_settings
from mcp_ingest.config.model import PipelineConfig, Place
from mcp_ingest.config.nodes import Mapping, Sequence, parse
from mcp_ingest.config.tags import compile_patterns
from mcp_ingest.context import Context, SystemClock
from mcp_ingest.engine.pipeline import build_pipeline
from mcp_ingest.errors import ConfigError
from mcp_ingest.event import Batch, Origin, Record, uid_prefix

_PREFIX = uid_prefix(b"pipelinetest")


class Case(Settings):
    """One test: events in, records out."""

    name: Annotated[str, Meta(description="What the pipeline promises, in a sentence.")]
    given: Annotated[Any, Meta(description="A record, a string (which becomes `message`), or a list of them.")]
    tag: Annotated[str, Meta(description="The events' tag.")] = "mcp"
    time: Annotated[
        str | float | None,
        Meta(description="The protocol's time, and the clock's: ISO 8601 or seconds since 1970."),
    ] = None
    expected: Annotated[
        list[Record],
        Meta(description="What is left, in order: each field named must be equal; one that is null must be absent."),
    ] = msgspec.field(default_factory=list)
    dead_letters: Annotated[list[str], Meta(description="A part of each dead letter's reason, in order.")] = (
        msgspec.field(default_factory=list)
    )
    metrics: Annotated[
        dict[str, float],
        Meta(description="Samples after the events, as `/metrics` has them; without labels the sum over all."),
    ] = msgspec.field(default_factory=dict)

    def check(self) -> list[str]:
        """A time that is none, an event that is none."""
        sentences = []
        try:
            self.nanoseconds()
        except ValueError as error:
            sentences.append(f"time: {error}")
        if not all(isinstance(event, str | dict) for event in self.events()):
            sentences.append("given: an event is a record or a string")
        return sentences

    def nanoseconds(self) -> int:
        """The time since 1970, 0 for none."""
        if self.time is None:
            return 0
        if isinstance(self.time, float):
            return int(self.time * 1e9)
        moment = datetime.fromisoformat(self.time)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
        return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000

    def events(self) -> list[Any]:
        """What is given, one by one."""
        return self.given if isinstance(self.given, list) else [self.given]


@dataclass(frozen=True, slots=True)
class _Clock(SystemClock):
    """A clock that shows the case's time."""

    now: int

    def time_ns(self) -> int:
        return self.now


def read_cases(path: Path) -> list[Case]:
    """The cases of a file; ConfigError names every mistake in it."""
    problems: list[str] = []

    def report(place: Place, sentence: str) -> None:
        problems.append(f"{place}: {sentence}")

    root = parse(path.read_text(encoding="utf-8"), str(path), None, report)
    cases = []
    if isinstance(root, Sequence):
        for item in root.items:
            if isinstance(item, Mapping):
                cases.append(to_settings(item, Case, report))
            else:
                report(item.place, "a test is a mapping of name, tag, given, expected, …")
    elif not problems:
        report(Place(str(path), 1, 1), "must be a list of tests")
    if problems:
        raise ConfigError(problems)
    return [case for case in cases if case is not None]


def failures(case: Case, pipelines: Names[str, PipelineConfig]) -> list[str]:
    """What is different from what the case expects, a line each; none when it passes."""
    config = next((p for p in pipelines.values() if p.match and compile_patterns(p.match)(case.tag)), None)
    if config is None:
        return [f"no pipeline takes the tag {case.tag!r}"]
    time = case.nanoseconds()
    context = Context(name=config.name)
    if time:
        context.clock = _Clock(time)
    records = [{"message": event} if isinstance(event, str) else dict(event) for event in case.events()]
    origin = Origin("test", _PREFIX, context.clock.time_ns())
    count = len(records)
    batch = Batch.of(origin, case.tag, [time] * count, records, list(range(count)))
    result = build_pipeline(config, context).run(batch)
    for effect in result.outcome.effects:
        effect()
    reasons = [rejected.reason for rejected in result.outcome.rejected]
    return [
        *_records(case.expected, result.records),
        *_letters(case.dead_letters, reasons),
        *_metrics(case.metrics, context),
    ]


def _records(expected: list[Record], got: list[Record]) -> list[str]:
    if len(expected) != len(got):
        lines = [f"expected {len(expected)} records, got {len(got)}:"]
        return lines + [f"  {record!r}" for record in got]
    found = []
    for index, (wanted, record) in enumerate(zip(expected, got, strict=True)):
        number = f"record {index + 1}: " if len(got) > 1 else ""
        for name, value in wanted.items():
            if record.get(name) != value:
                found.append(f"{number}{name}")
                found.append(click.style(f"  - {_value(value)}", fg="red"))
                found.append(click.style(f"  + {_value(record.get(name))}", fg="green"))
    return found


def _value(value: Any) -> str:
    return "(absent)" if value is None else repr(value)


def _letters(expected: list[str], reasons: list[str]) -> list[str]:
    if len(expected) != len(reasons):
        return [f"expected {len(expected)} dead letters, got {len(reasons)}:", *(f"  {reason}" for reason in reasons)]
    return [
        f"dead letter: {reason!r} does not contain {part!r}"
        for part, reason in zip(expected, reasons, strict=True)
        if part not in reason
    ]


def _metrics(expected: dict[str, float], context: Context) -> list[str]:
    samples: dict[str, float] = {}
    for metric in context.metrics.registry.collect():
        for sample in metric.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[sample.name] = samples.get(sample.name, 0) + sample.value
            if labels:
                samples[f"{sample.name}{{{labels}}}"] = sample.value
    return [
        f"metric {name}: expected {value:g}, got {samples[name]:g}"
        if name in samples
        else f"metric {name} is not there"
        for name, value in expected.items()
        if not math.isclose(samples.get(name, math.nan), value)
    ]
