"""The output that keeps nothing."""

from __future__ import annotations

from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Origin
from mcp_ingest.outputs.blackhole import Blackhole
from mcp_ingest.verdict import AllDelivered, Request


async def test_it_takes_everything() -> None:
    """Every request is delivered, every event has the same address."""
    output = Blackhole(Blackhole.Config(), Context())
    batch = Batch.of(Origin("i", "p" * 20, 1), "t", [1, 1], [{}, {}], [0, 1])
    assert output.address(batch) == ["nowhere", "nowhere"]
    assert await output.write(Request([])) == AllDelivered()
