"""`blackhole`: takes every event and keeps none: for measuring everything before it, and for trying a pipeline.

Guarantees: none; what comes here is gone, and counts as delivered. It is neither serialised nor spooled for this
output.

Metrics: those of every output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mcp_ingest.component import Example, Output
from mcp_ingest.event import Batch
from mcp_ingest.verdict import AllDelivered, Request, Verdicts


class Blackhole(Output):
    """See the module."""

    EXAMPLES: ClassVar[Sequence[Example]] = (Example("Measure a pipeline", {}),)
    holds_nothing = True

    def address(self, batch: Batch) -> list[str]:
        """One place for all."""
        return ["nowhere"] * len(batch)

    async def write(self, request: Request) -> Verdicts:
        """Nothing to do."""
        return AllDelivered()
