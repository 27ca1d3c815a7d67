"""One input at work: started again when it fails, not when it never could, and not when it is to end."""

from __future__ import annotations

import asyncio

import pytest

from mcp_ingest.component import Emit, Input, Settings
from mcp_ingest.config.model import ComponentConfig, Place
from mcp_ingest.context import Context
from mcp_ingest.engine import parts, running
from mcp_ingest.engine.running import RunningInput
from mcp_ingest.errors import IngestError
from mcp_ingest.event import Batch, Progress
from tests.engine.parts import until


class _Failing(Input):
    """Listens `listens` times, fails `fails` times, then leaves quietly when it is cancelled."""

    listens = fails = 0
    runs = 0

    async def run(self, emit: Emit) -> None:
        type(self).runs += 1
        if self.listens:
            self.context.ready("somewhere")
        if self.fails:
            type(self).fails -= 1
            raise ValueError("no password=hunter22")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return


async def _emit(batch: Batch, progress: Progress | None = None) -> None:
    """Nobody emits."""


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> type[_Failing]:
    class Kind(_Failing):
        """An input of a test's own."""

    monkeypatch.setattr(parts, "find", lambda kind, name: Kind)
    monkeypatch.setattr(running, "pause", lambda attempt: 0.01)
    return Kind


def _input(heard: list[str]) -> RunningInput:
    config = ComponentConfig("input", "in", "kind", Settings(), Place("c.yaml", 1, 1))
    return RunningInput(config, Context("in"), lambda: heard.append("heard"))


async def test_an_input_that_cannot_start_says_why_and_is_not_tried_again(kind: type[_Failing]) -> None:
    """`run` returns with the reason, in a sentence that names the input."""
    kind.fails = 5
    heard: list[str] = []
    started = _input(heard)
    await started.run(_emit)
    assert isinstance(started.failed, IngestError)
    assert str(started.failed).startswith("input in: ")
    assert (kind.runs, started.where, heard) == (1, None, ["heard"])


async def test_an_input_that_listened_once_is_started_again(kind: type[_Failing]) -> None:
    """A failure later on is no reason to give up."""
    kind.listens, kind.fails = 1, 3
    started = _input([])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(started.run(_emit))
        await until(lambda: kind.runs == 4)
        assert started.failed is None
        started.end()
        task.cancel()


async def test_an_input_that_is_to_end_is_not_started_again(kind: type[_Failing]) -> None:
    """One that takes its cancellation quietly, as it should, has ended."""
    kind.listens = 1
    started = _input([])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(started.run(_emit))
        await until(lambda: started.where)
        started.end()
        task.cancel()
        await asyncio.wait([task], timeout=5)
    assert (kind.runs, started.where) == (1, None)
