"""One output's backlog becomes another's, in one transaction."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mcp_ingest.errors import SpoolError
from mcp_ingest.event import Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import Ledger, Moved, OutputKey, Pending, Settlement
from tests.spool.making import OUTPUTS, chunk, intake, opened

ES, ARCHIVE, GONE = "elasticsearch", "archive", "archive (file)"


async def _remove_archive(spool: Spool) -> None:
    await spool.take(spool._settings, await spool.register({ES: ES}), {})


async def test_what_is_owed_is_told_event_by_event(tmp_path: Path) -> None:
    """Whole chunks above the mark; below it what is pending."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(4, (ARCHIVE,)), chunk(2, (ES, ARCHIVE), first=4), chunk(3, (ES,), first=6)))
        pending = Pending(ARCHIVE, 1, "logs-2026.11.22", [1, 3], why="later")
        delivered: Ledger = Counter({OutputKey(ARCHIVE, Term.DELIVERED): 2})
        await spool.settle(Settlement(ARCHIVE, 1, [pending], ledger=delivered))
        await _remove_archive(spool)
        _, owed = await spool.backlog(GONE, 2**20)
        assert [(each.chunk.number, [*each.indices]) for each in owed] == [(1, [1, 3]), (2, [0, 1])]
        assert len((await spool.backlog(GONE, 1))[1]) == 1
        with pytest.raises(SpoolError, match="no backlog"):
            await spool.backlog("elasticsearch (elasticsearch)", 2**20)


async def test_both_sides_are_one_commit(tmp_path: Path) -> None:
    """The one owes less, the other as much more; chunks that nobody owes any more go; also after a restart."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(3, (ARCHIVE,)), chunk(2, (ES, ARCHIVE), first=3)))
        await _remove_archive(spool)
        number, owed = await spool.backlog(GONE, 2**20)
        moving = intake(chunk(5, (ES,)))
        moving.moved = Moved(number, {each.chunk.number: len(each.indices) for each in owed})
        await spool.commit(moving)
        assert spool.backlog_of_removed_outputs() == {}
        assert spool.held(ES).events == 7
        assert spool.usage().chunks == 2
        assert await spool.chunk(1) is None
    async with opened(tmp_path, OUTPUTS) as spool:
        assert (spool.held(ES).events, spool.held(ARCHIVE).events) == (7, 0)
        assert await spool.fresh(ARCHIVE, 0, 2**20) == []


@pytest.mark.parametrize("chunks", [{1: 2}, {2: 3}, {1: 3, 7: 1}])
async def test_what_is_not_owed_so_is_not_moved(tmp_path: Path, chunks: dict[int, int]) -> None:
    """Nothing of such a commit is there: neither is anything lost nor is there twice what was let go meanwhile."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(chunk(3, (ARCHIVE,))))
        await _remove_archive(spool)
        number, _ = await spool.backlog(GONE, 2**20)
        moving = intake(chunk(3, (ES,)))
        moving.moved = Moved(number, chunks)
        with pytest.raises(SpoolError):
            await spool.commit(moving)
        assert spool.backlog_of_removed_outputs()[GONE].events == 3
        assert spool.held(ES).events == 0
