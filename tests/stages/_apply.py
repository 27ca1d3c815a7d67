"""Build a stage and apply it, as every test of a stage does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mcp_ingest.component import Stage, find
from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Origin, Record

RECEIVED = 1_795_359_845_123_456_789  # 2026-11-22T15:04:05.123456789Z


def stage(name: str, **config: Any) -> Stage:
    """The stage with these settings, which must be free of mistakes."""
    factory = find("stage", name)
    settings = msgspec.convert(config, factory.Config)
    assert settings.check() == []
    built: Stage = factory(settings, Context(name=name))
    return built


def batch(records: Sequence[Record], time: int = 0, tag: str = "mcp") -> Batch:
    """A batch of these records, all of one source and time."""
    count = len(records)
    origin = Origin("forward", "p" * 20, RECEIVED)
    return Batch.of(origin, tag, [time] * count, list(records), list(range(count)))


def one(name: str, record: Record, time: int = 0, **config: Any) -> Record:
    """What the stage makes of one record."""
    result = stage(name, **config).apply(batch([record], time))
    assert result.outcome.rejected == []
    return result.records[0]


def check(name: str, **config: Any) -> list[str]:
    """What is wrong with these settings."""
    settings = msgspec.convert(config, find("stage", name).Config)
    problems: list[str] = settings.check()
    return problems
