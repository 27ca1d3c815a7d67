"""What is said of events that were let go."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mcp_ingest.engine import overflow_report as module
from mcp_ingest.engine.overflow_report import TAG, OverflowReport
from mcp_ingest.errors import SpoolFullError
from mcp_ingest.event import Record
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool.model import HIGH, NORMAL
from mcp_ingest.spool.overflow import Part
from tests.engine.parts import LOG, until

SECOND = 10**9


def _report() -> tuple[OverflowReport, list[tuple[str, Record]]]:
    told: list[tuple[str, Record]] = []

    async def emit(tag: str, record: Record) -> None:
        told.append((tag, record))

    return OverflowReport("drop_oldest", emit, Metrics(), LOG), told


async def test_a_summary_says_who_lost_how_much_of_when(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins, one line and one event for all that went, by output and reason."""
    report, told = _report()
    report.note([Part("es", "drop_oldest", NORMAL, 10, 5 * SECOND, 9 * SECOND)])
    report.note([Part("es", "drop_oldest", HIGH, 2, 3 * SECOND, 4 * SECOND)])
    report.note([Part("archive", "best_effort", NORMAL, 1, SECOND, SECOND)])
    assert len(caplog.records) == 2
    await report.summarise()
    assert len(caplog.records) == 4
    (tag, record), (_, other) = told
    assert tag == TAG
    assert record["metadata"] == {
        "output": "es",
        "policy": "drop_oldest",
        "reason": "drop_oldest",
        "events": 12,
        "errors": 2,
        "oldest": "1970-01-01T00:00:03Z",
        "newest": "1970-01-01T00:00:09Z",
    }
    assert "12 events were let go (2 of them errors)" in record["message"]
    assert (record["log_level"], other["log_level"]) == ("ERROR", "WARNING")


async def test_an_episode_ends_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """A period without a loss is no news; the next loss is a new beginning."""
    caplog.set_level(logging.DEBUG)
    report, told = _report()
    part = Part("es", "drop_oldest", NORMAL, 10, 1, 1)
    report.note([part])
    await report.summarise()
    before = len(caplog.records)
    await report.summarise()
    assert (len(caplog.records), len(told)) == (before, 1)
    report.note([part])
    assert "its oldest events are let go: the spool is full" in caplog.records[-1].message


async def test_it_is_told_again_and_again_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each period has its summary, with what went in it alone."""
    monkeypatch.setattr(module, "PERIOD", 0.02)
    report, told = _report()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(report.run())
        for count in (1, 2):
            report.note([Part("es", "drop_oldest", NORMAL, count, 1, 1)])
            await until(lambda count=count: len(told) == count)  # type: ignore[misc]
        task.cancel()
    assert [record["metadata"]["events"] for _, record in told] == [1, 2]


async def test_a_summary_that_cannot_be_stored_stays_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A spool without room refuses it or lets it wait: neither holds up what comes next."""
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    caplog.set_level(logging.INFO)

    async def waits(tag: str, record: Record) -> None:
        await asyncio.Event().wait()

    async def refuses(tag: str, record: Record) -> None:
        raise SpoolFullError("the spool is full")

    for emit in (waits, refuses):
        report = OverflowReport("block", emit, Metrics(), LOG)
        report.note([Part("es", "best_effort", NORMAL, 1, 1, 1)])
        await report.summarise()
    assert [r.message for r in caplog.records if "in this log only" in r.message] == [
        "the summary of it is in this log only: the spool has no room",
        "the summary of it is in this log only: the spool is full",
    ]


async def test_each_loss_is_counted_by_priority() -> None:
    """The metric has output, priority and reason."""
    report, _ = _report()
    report.note([Part("es", "over_budget", NORMAL, 3, 1, 1), Part("es", "over_budget", HIGH, 1, 1, 1)])
    for priority, count in (("normal", 3), ("high", 1)):
        labels = {"output": "es", "priority": priority, "reason": "over_budget"}
        assert report.metrics.registry.get_sample_value("mcp_ingest_dropped_events_total", labels) == count
