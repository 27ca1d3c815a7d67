"""Events that mcp-ingest makes itself."""

from __future__ import annotations

from pathlib import Path

from mcp_ingest.context import SystemClock
from mcp_ingest.engine.own_events import OwnEvents
from mcp_ingest.engine.status import sums
from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey
from tests.engine.parts import ingesting, spool_in


async def test_they_are_generated_and_not_received(tmp_path: Path) -> None:
    """They take the way of their tag, each with an id of its own, and the sums close."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        own = OwnEvents(ingest, SystemClock())
        await own.emit("mcp.ingest.x", {"message": "one"})
        await own.emit("mcp.ingest.x", {"message": "two"})
        chunks = await spool.fresh("out", 0, 2**20)
        ids = [event_id for chunk in chunks for event_id in chunk.ids]
        assert len({*ids}) == 2
        assert {len(event_id) for event_id in ids} == {28}
        ledger = spool.ledger()
        assert ledger[InputKey("mcp-ingest", "mcp", Term.GENERATED)] == 2
        assert ledger[InputKey("mcp-ingest", "mcp", Term.ACCEPTED)] == 2
        assert all(row["closed"] for row in sums(ledger, {"out": 2}, 0))


async def test_without_a_pipeline_there_is_no_event(tmp_path: Path) -> None:
    """What nobody takes is not made, rather than a dead letter."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        await OwnEvents(ingest, SystemClock()).emit("nobody.x", {"message": "one"})
        assert not spool.ledger()
