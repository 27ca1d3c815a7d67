"""Brings what is over a bound below it again: the spool, its disk, an output's backlog.

The spool says what is over (`Spool.overflow`) and lets go of it in its own transactions, a slice at a time, so that
commits go on in between. Meanwhile the delivery loops concerned take nothing from it, and what they have in hand stays;
only where nothing else may go they give up of that what is not being sent. So an event is never counted twice, and
what counts as dropped was not sent by us, but for a crash in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from mcp_ingest.engine.account import Work
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.overflow_report import OverflowReport
from mcp_ingest.errors import SpoolError
from mcp_ingest.spool import Spool
from mcp_ingest.spool.overflow import Cut, Dropped, Part

#: Seconds after which it is tried again where nothing may go: required outputs owe it, or all of it is being sent.
RETRY_SECONDS = 1.0


class Overflow:
    """`run` is one task beside the deliveries, which are given by the names of their outputs."""

    def __init__(
        self, spool: Spool, deliveries: Mapping[str, Delivery], report: OverflowReport, log: logging.Logger
    ) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._report = report
        self._log = log

    async def run(self) -> None:
        """Let go of what is over a bound, until cancelled."""
        while True:
            made = [await self._make(cut) for cut in await self._spool.overflow()]
            if not any(made):
                await asyncio.sleep(RETRY_SECONDS)

    async def _make(self, cut: Cut) -> bool:
        """Make one cut; whether something went."""
        left = cut.size
        while left > 0:
            dropped = await self._drop(cut._replace(size=left))
            self._report.note(dropped.parts)
            left -= dropped.size
            if not dropped.size:
                return await self._give_up(cut, dropped.kept) or left < cut.size
        return True

    async def _drop(self, cut: Cut) -> Dropped:
        names = self._spool.names()
        concerned = {names[number] for tier in cut.tiers for number in tier if number in names}
        loops = {name: self._deliveries[name] for name in concerned & self._deliveries.keys()}
        async with contextlib.AsyncExitStack() as stillness:
            for loop in loops.values():
                await stillness.enter_async_context(loop.still)
            if any(self._deliveries.get(name) is not loop for name, loop in loops.items()):
                return Dropped()  # a reload put another in its place meanwhile
            try:
                dropped = await self._spool.drop(cut, {name: loop.in_hand() for name, loop in loops.items()})
            except SpoolError as error:
                self._log.error("what is over its bound could not be let go: %s", error)
                return Dropped()
            for name, numbers in dropped.chunks.items():
                if name in loops:
                    loops[name].forget(numbers)
        return dropped

    async def _give_up(self, cut: Cut, kept: Mapping[str, set[int]]) -> bool:
        """Let the loops give up these chunks of theirs; whether they had something of them that was not being sent."""
        reasons = {name: cut.tiers[-1][number] for number, name in self._spool.names().items() if name in kept}
        gone: list[Part] = []
        for name, reason in reasons.items():
            if name not in self._deliveries:  # a reload removed it meanwhile
                continue
            works = await self._deliveries[name].give_up(kept[name], reason)
            gone += [_part(name, reason, work) for work in works]
        self._report.note(gone)
        return bool(gone)


def _part(output: str, reason: str, work: Work) -> Part:
    created = work.chunk.created
    return Part(output, reason, work.chunk.priority, len(work.indices), created, created)
