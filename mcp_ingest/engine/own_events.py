"""Events that mcp-ingest makes itself: `generated` in the ledger, through the pipeline that takes their tag."""

from __future__ import annotations

from mcp_ingest.context import Clock
from mcp_ingest.engine.ingest import Ingest
from mcp_ingest.event import OURS, Batch, Origin, Record, new_uid, uid_prefix


class OwnEvents:
    """Each has an id of its own: a uid of the start, and its number since then."""

    def __init__(self, ingest: Ingest, clock: Clock) -> None:
        self._takes = ingest.takes
        self._emit = ingest.emit_for(OURS, pulls=True)
        self._clock = clock
        self._prefix = uid_prefix(new_uid(clock.time_ns()))
        self._made = 0

    async def emit(self, tag: str, record: Record) -> None:
        """Make an event of it, now; return when it is durable. Nothing is made where no pipeline takes the tag."""
        if not self._takes(tag):
            return
        now = self._clock.time_ns()
        position, self._made = self._made, self._made + 1
        await self._emit(Batch.of(Origin(OURS, self._prefix, now), tag, [now], [record], [position]))
