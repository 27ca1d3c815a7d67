"""The turns that make commits of emits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_ingest.engine.intake import IntakeMaker, Made
from mcp_ingest.errors import SpoolError, SpoolFullError
from mcp_ingest.event import ChunkSlice, Progress
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import Intake
from tests.engine.parts import batch, ingesting, spool_in


async def test_a_full_spool_makes_emits_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `block` an emit waits while there is no room and returns once there is."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        room = asyncio.Event()
        monkeypatch.setattr(spool, "has_room", room.is_set)
        monkeypatch.setattr(spool, "room", room.wait)
        async with asyncio.TaskGroup() as group:
            emit = group.create_task(ingest.emit_for("in")(batch({"n": 1})))
            await asyncio.sleep(0.05)
            assert not emit.done()
            room.set()
        assert spool.held("out").events == 1


async def test_a_stop_does_not_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the daemon stops while the spool is full, what waits is refused: it was never acknowledged."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        monkeypatch.setattr(spool, "has_room", lambda: False)
        monkeypatch.setattr(spool, "room", asyncio.Event().wait)
        async with asyncio.TaskGroup() as group:
            emit = group.create_task(_raises(ingest.emit_for("in")(batch({"n": 1}))))
            await asyncio.sleep(0.02)
            ingest.wait_no_more()
        assert isinstance(emit.result(), SpoolFullError)


async def test_a_fault_of_ours_is_an_error_of_that_emit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug while events are taken in reaches their sender as an error; later emits go on."""

    def broken(self: IntakeMaker, emits: object) -> Made:
        monkeypatch.undo()
        raise RuntimeError("bug")

    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        monkeypatch.setattr(IntakeMaker, "make", broken)
        with pytest.raises(SpoolError, match="bug"):
            await ingest.emit_for("in")(batch({"n": 1}))
        await ingest.emit_for("in")(batch({"n": 1}))
        assert spool.held("out").events == 1


async def test_effects_come_after_the_commit(tmp_path: Path) -> None:
    """What stages counted is applied once, when the commit is durable."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        counted: list[int] = []
        made = batch({"n": 1})
        made.outcome.effects.append(lambda: counted.append(spool.held("out").events))
        await ingest.emit_for("in")(made)
        assert counted == [1]


async def test_a_cancelled_emit_may_still_commit(tmp_path: Path) -> None:
    """Who stops waiting does not stop the commit."""
    async with spool_in(tmp_path) as spool:
        async with ingesting(spool) as ingest:
            task = asyncio.ensure_future(ingest.emit_for("in")(batch({"n": 1}), Progress(positions={"k": b"1"})))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert _committed(spool)


def _committed(spool: Spool) -> bool:
    return (spool.held("out").events, spool.positions("k")) == (1, {"k": b"1"})


async def _raises(coroutine: object) -> BaseException | None:
    try:
        await coroutine  # type: ignore[misc]
    except Exception as error:
        return error
    return None


async def test_an_effect_that_raises_stops_nobody(tmp_path: Path) -> None:
    """The events are committed: the emit returns, and the other effects are applied."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        counted: list[int] = []

        def broken() -> None:
            raise ValueError("bug")

        made = batch({"n": 1})
        made.outcome.effects += [broken, lambda: counted.append(1)]
        await asyncio.wait_for(ingest.emit_for("in")(made), 5)
        assert counted == [1]


async def test_a_chunk_is_in_flight_until_its_commit_whoever_waits(tmp_path: Path) -> None:
    """Its emit was cancelled, its resend still meets it and adds nothing."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, chunk = ingest.emit_for("in"), ChunkSlice(b"d" * 16)
        first = asyncio.ensure_future(emit(batch({"n": 1}), Progress(chunk=chunk)))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await emit(batch({"n": 1}), Progress(chunk=chunk))
        assert spool.held("out").events == 1


async def test_bytes_are_received_when_they_are_durable(tmp_path: Path) -> None:
    """What was refused to its sender comes again and is not counted twice."""
    metrics = Metrics()
    async with spool_in(tmp_path) as spool, ingesting(spool, metrics) as ingest:
        made = batch({"n": 1})
        made.size = 100
        real, spool.submit = spool.submit, _failing  # type: ignore[method-assign]
        assert isinstance(await _raises(ingest.emit_for("in")(made)), SpoolError)
        spool.submit = real  # type: ignore[method-assign]
        again = batch({"n": 1})
        again.size = 100
        await ingest.emit_for("in")(again)
    assert metrics.registry.get_sample_value("mcp_ingest_received_bytes_total", {"input": "in"}) == 100


def _failing(intake: Intake) -> asyncio.Future[list[int]]:
    failed: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    failed.set_exception(SpoolError("no disk"))
    return failed
