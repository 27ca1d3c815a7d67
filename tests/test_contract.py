"""Every component keeps the contract of its kind: found by discovery, so that a new file is under test at once."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from typing import Any

import msgspec
import orjson
import pytest

from mcp_ingest.component import Component, Example, Input, Kind, Output, Settings, Stage, find, names
from mcp_ingest.context import Context
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.event import Batch, Origin, Record

KINDS: dict[Kind, type[Component]] = {"input": Input, "stage": Stage, "output": Output}
ALL = [(kind, name) for kind in KINDS for name in names(kind)]
STAGE_EXAMPLES = [
    pytest.param(name, example, id=f"{name}: {example.title}")
    for name in names("stage")
    for example in find("stage", name).EXAMPLES
]


def _settings(kind: Kind, name: str, config: dict[str, Any]) -> Settings:
    made: Settings = msgspec.convert(config, find(kind, name).Config, strict=False, dec_hook=lambda t, v: t.parse(v))
    return made


def _batch(records: list[Record], example: Example) -> Batch:
    origin = Origin("example", "A" * 20, 1_763_823_600_000_000_000)
    times = [example.time] * len(records)
    return Batch.of(origin, example.tag, times, list(map(copy.deepcopy, records)), list(range(len(records))))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_component_reads_from_top_to_bottom(kind: Kind, name: str) -> None:
    """A component has a promise, a description on every setting, and at least one example."""
    component = find(kind, name)
    module = __import__(component.__module__, fromlist=["_"])
    assert issubclass(component, KINDS[kind])
    assert module.__doc__
    assert len(module.__doc__.split()) >= 10
    for field in msgspec.inspect.type_info(component.Config).fields:  # type: ignore[attr-defined]
        if field.name != "on_error":
            assert isinstance(field.type, msgspec.inspect.Metadata), f"{field.name} has no description"
            assert (field.type.extra_json_schema or {}).get("description"), f"{field.name} has no description"
    assert component.EXAMPLES


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_examples_are_valid_configuration(kind: Kind, name: str) -> None:
    """What the docs print as configuration passes the check."""
    for example in find(kind, name).EXAMPLES:
        assert _settings(kind, name, example.config).check() == []


@pytest.mark.parametrize(("name", "example"), STAGE_EXAMPLES)
def test_a_stage_does_what_its_examples_say(name: str, example: Example) -> None:
    """What goes into an example comes out as it says."""
    stage = find("stage", name)(_settings("stage", name, example.config), Context(name))
    given = example.given if isinstance(example.given, list) else [example.given]
    expected = example.expected if isinstance(example.expected, list) else [example.expected]
    result = Pipeline("example", [stage], []).run(_batch(given, example))
    assert result.records == [record for record in expected if record is not None]
    failed = [rejected.reason for rejected in result.outcome.rejected]
    assert len(failed) == len(example.failed)
    for reason, part in zip(failed, example.failed, strict=True):
        assert part in reason


HOSTILE: list[Any] = [
    {},
    {"": ""},
    {"message": None},
    {"message": 17},
    {"message": "{"},
    {"message": '{"a":' * 200 + "1" + "}" * 200},
    {"message": "\ud800"},
    {"message": ["a", {"b": 1}], "timestamp": [], "log_level": {}, "metadata": "text", "service_name": 3.5},
    {"timestamp": "not a time", "duration_ms": "slow", "status_code": 2**70, "trace_id": 0},
    {"timestamp": float("nan"), "log_level": float("inf")},
    {1: "a key that is a number", b"bytes": b"\xff\xfe"},
    {"service": {"name": {"deep": []}}, "log": {"level": {"x": 1}}, "traceparent": "00-zz"},
]


@pytest.mark.parametrize("name", names("stage"))
def test_a_stage_loses_no_event_whatever_it_brings(name: str) -> None:
    """Hostile records come out, are filtered or become dead letters; neighbours go on, and none disappears."""
    component = find("stage", name)
    stage = component(_settings("stage", name, component.EXAMPLES[0].config), Context(name))
    result = Pipeline("hostile", [stage], []).run(_batch(HOSTILE, component.EXAMPLES[0]))
    removed = sum(result.outcome.removed.values())
    assert len(result) + len(result.outcome.rejected) + removed == len(HOSTILE)
    assert {len(result.tags), len(result.times), len(result.positions)} == {len(result)}
    assert (result.ends or [0])[-1] == len(result)


@pytest.mark.parametrize("name", names("stage"))
def test_a_stage_treats_a_batch_as_it_treats_each_event(name: str) -> None:
    """A batch gives what its events give one by one."""
    component = find("stage", name)
    example = component.EXAMPLES[0]
    given = example.given if isinstance(example.given, list) else [example.given]
    records = [*given, *[r for r in HOSTILE if all(isinstance(k, str) for k in r)]]

    def run(batches: list[Batch]) -> tuple[str, list[str]]:
        stage = component(_settings("stage", name, example.config), Context(name))
        results = [Pipeline("one", [stage], []).run(batch) for batch in batches]
        return (
            repr([record for result in results for record in result.records]),
            [rejected.reason for result in results for rejected in result.outcome.rejected],
        )

    assert run([_batch(records, example)]) == run([_batch([record], example) for record in records])


GOOD: Record = {
    "timestamp": "2026-11-22T15:04:05.123Z",
    "service_name": "model-router",
    "log_level": "INFO",
    "message": "routed",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "span_id": "00f067aa0ba902b7",
    "operation": "route",
    "duration_ms": 12.5,
    "status_code": 200,
    "metadata": {"region": "eu"},
}
CHANGES: list[Record] = [
    {"message": '{"message": "parsed"}'},
    {"message": " no object"},
    {"log_level": "warn"},
    {"timestamp": "2026-11-22 16:04:05"},
    {"timestamp": "2026-13-22T15:04:05.123Z"},
    {"timestamp": "1969-11-22T15:04:05.123Z"},
    {"service.version": "2"},
    {"msg": "routed, too"},
    {"labels": {"": 1}},
    {"metadata": "text"},
    {"trace_id": "4BF92F3577B34DA6A3CE929D0E0E4736", "span_id": "0" * 16},
    {"trace_id": "", "headers": {"b3": "80f198ee56343ba8-e457b5a2e4d86bd1-1"}},
    {"service_name": ""},
    {"status_code": True, "duration_ms": "slow"},
    {"operation": ["a", {"b": 1}], "duration_ms": float("inf")},
    {"password": "hunter2"},
]


def _large_batches(name: str) -> list[list[Record]]:
    """Batches so large that a stage may look at columns: all in good shape, with one that is not, with many."""
    example = find("stage", name).EXAMPLES[0]
    given = example.given if isinstance(example.given, list) else [example.given]
    odd = [*given, *(GOOD | change for change in CHANGES), *(r for r in HOSTILE if all(isinstance(k, str) for k in r))]
    few = [[*[GOOD] * 19, record, *[GOOD] * 3] for record in odd]
    return [[GOOD] * 20, [GOOD | {"more": 1}] * 20, *few, [*[GOOD] * 5, *odd], [record for record in odd for _ in "ab"]]


@pytest.mark.parametrize("name", names("stage"))
def test_a_stage_treats_a_large_batch_as_it_treats_each_event(name: str) -> None:
    """What a stage does for a whole batch at once is what it does for each event, and is counted the same."""
    component = find("stage", name)
    example = component.EXAMPLES[0]
    settings = _settings("stage", name, example.config)

    def run(batches: list[Batch]) -> tuple[Any, ...]:
        context = Context(name)
        stage = component(settings, context)
        results = [Pipeline("one", [stage], []).run(batch) for batch in batches]
        for effect in (effect for result in results for effect in result.outcome.effects):
            effect()
        counted = [
            (sample.name, sample.labels, sample.value)
            for family in context.metrics.registry.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]
        return (
            repr([record for result in results for record in result.records]),
            [rejected.reason for result in results for rejected in result.outcome.rejected],
            sum((result.outcome.removed for result in results), start=Counter[Any]()),
            counted,
        )

    for records in _large_batches(name):
        assert run([_batch(records, example)]) == run([_batch([record], example) for record in records])


@pytest.mark.parametrize("name", [name for name in names("stage") if find("stage", name).keeps_serialised])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("policy", ["dead_letter", "keep", "drop"])
def test_a_stage_that_keeps_the_json_keeps_it_true(name: str, before: bool, policy: str) -> None:
    """Behind a stage with `keeps_serialised` each event's JSON is what orjson makes of its record, or empty."""
    component = find("stage", name)
    for example in component.EXAMPLES:
        settings = _settings("stage", name, {**example.config, "on_error": policy})
        if settings.check():
            continue
        stage = component(settings, Context(name))
        given = example.given if isinstance(example.given, list) else [example.given]
        for records in [given, HOSTILE, *[[r] for r in HOSTILE], *_large_batches(name)]:
            batch = _batch(records, example)
            batch.serialised = [_json(record) for record in batch.records] if before else None
            result = Pipeline("one", [stage], []).run(batch)
            for record, line in zip(result.records, result.serialised or [], strict=result.serialised is not None):
                assert line in (b"", _json(record))


def _json(record: Record) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:
        return b""


def test_contexts_are_handed_in() -> None:
    """A component's context can be replaced field by field: nothing is global."""
    assert dataclasses.replace(Context("a"), name="b").name == "b"
