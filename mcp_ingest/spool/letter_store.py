"""The dead letters of an open spool, as the event loop sees them: looked for, dropped, let go when they are too old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from mcp_ingest.context import Clock
from mcp_ingest.errors import SpoolError
from mcp_ingest.event import Term
from mcp_ingest.spool.letter_reader import LetterReader, Steps, advance
from mcp_ingest.spool.letters import EXPIRED_AT_ONCE, LetterBounds
from mcp_ingest.spool.model import DeadLetter, KeptLetters, LetterGroup, Removal, Selection

Value = TypeVar("Value")
ALL = Selection()
#: Bytes of records that are read at once: nobody commits meanwhile.
READ_BYTES = 4 * 2**20


class LetterStore:
    """`call` runs a function in the spool's thread, `put` hands in what is to be committed."""

    def __init__(
        self,
        call: Callable[[Callable[[], Any]], Awaitable[Any]],
        put: Callable[[Removal], asyncio.Future[Any]],
        reader: Callable[[], LetterReader],
        bounds: LetterBounds,
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        self._call = call
        self._put = put
        self._reader = reader
        self.bounds = bounds
        self._clock = clock
        self._logger = logger
        self._has_warned = False

    # --- looking -------------------------------------------------------------------------------------------

    async def page(self, limit: int, before: int | None = None, wanted: Selection = ALL) -> list[DeadLetter]:
        """So many of those that are meant, the newest first, numbered below `before`."""
        return await self._look(lambda reader: reader.page(wanted, limit, before))

    async def groups(self, wanted: Selection = ALL) -> list[LetterGroup]:
        """Those that are meant by their signatures, the largest group first."""
        return await self._look(lambda reader: reader.groups(wanted))

    async def numbers(self, wanted: Selection, after: int, until: int, limit: int) -> tuple[list[int], int]:
        """See `LetterReader.numbers`."""
        return await self._look(lambda reader: reader.numbers(wanted, after, until, limit))

    async def read(self, numbers: Sequence[int], max_bytes: int = READ_BYTES) -> list[DeadLetter]:
        """Those of these letters that are there, until their records have so many bytes; one at least."""
        letters: list[DeadLetter] = await self._call(lambda: self._reader().read(numbers, max_bytes))
        await self._set_damaged_aside()
        return letters

    async def get(self, number: int) -> DeadLetter | None:
        """One letter."""
        return next(iter(await self.read([number])), None)

    async def highest(self) -> int:
        """The highest number of a letter that is kept; 0 for none."""
        number: int = await self._call(lambda: self._reader().highest())
        return number

    async def _look(self, begin: Callable[[LetterReader], Steps[Value]]) -> Value:
        steps = await self._call(lambda: begin(self._reader()))
        while True:
            done, value = await self._call(lambda: advance(steps))
            if done:
                await self._set_damaged_aside()
                return value  # type: ignore[no-any-return]  # with the last step comes the result

    async def _set_damaged_aside(self) -> None:
        """What was found damaged on the way is lost."""
        damaged = self._reader().damaged
        while damaged:
            number, why = damaged.popitem()
            self._logger.error("%s; it is set aside and counted as lost", why)
            try:
                await self._put(Removal([number], Term.LOST, why))
            except SpoolError as error:  # its page cannot even be changed: it stays, and stays counted as kept
                self._logger.error("dead letter %d cannot be set aside: %s", number, error)

    # --- letting go ----------------------------------------------------------------------------------------

    async def drop(self, numbers: Sequence[int]) -> list[int]:
        """Delete those of these that are there, counted as `deleted`; their numbers."""
        gone: list[int] = await self._put(Removal(numbers, Term.DELETED))
        return gone

    async def expire(self, kept: KeptLetters) -> None:
        """Let go of what is beyond the bounds, if there is any: `kept` says so without a look at the disk."""
        while self.bounds.passed_by(kept, self._clock.time_ns()):
            if len(await self._put(Removal(None))) < EXPIRED_AT_ONCE:
                return

    def expired(self, count: int) -> None:
        """Letters went beyond the bounds: said once, counted in the ledger."""
        if not self._has_warned:
            self._has_warned = True
            self._logger.warning(
                "dead letters reach the bounds of spool.dead_letters, or a full disk: %d of the oldest were let go; "
                "from now on the ledger counts them as expired without a further word", count,
            )  # fmt: skip
