"""`stdout`: writes each event as a line of JSON to standard output: for looking on, and for `mcp-ingest run | jq`.

A reader that is slow makes the spool fill, as with every output; one that is gone (a closed pipe) makes the events
wait until the daemon is started again with one.

Several workers write in turn, each its whole request.

Guarantees: at least once; after a crash the last lines may come again.

Metrics: those of every output.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import ClassVar

from mcp_ingest.component import Example, Output
from mcp_ingest.event import Batch
from mcp_ingest.verdict import AllDelivered, ParkAll, Request, Verdicts


class Stdout(Output):
    """See the module."""

    EXAMPLES: ClassVar[Sequence[Example]] = (Example("Lines of JSON", {}),)

    #: One after the other, so that lines of two requests do not mix.
    concurrency = 1
    max_request_bytes = 2**20

    def address(self, batch: Batch) -> list[str]:
        """One place for all."""
        return ["stdout"] * len(batch)

    async def write(self, request: Request) -> Verdicts:
        """All lines at once, in a thread: a pipe may be full."""
        lines = [line for part in request.parts for line in part.lines]
        try:
            await asyncio.to_thread(self._print, b"\n".join([*lines, b""]))
        except (OSError, ValueError) as error:
            return ParkAll(f"standard output takes nothing: {error}")
        return AllDelivered()

    def _print(self, data: bytes) -> None:
        with self.context.share.locked("stdout"):
            _write(data)


def _write(data: bytes) -> None:
    sys.stdout.flush()
    descriptor = sys.stdout.fileno()
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
