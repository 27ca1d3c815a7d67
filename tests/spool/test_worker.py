"""Tests of the spool's thread: what it does in quiet moments."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import Settlement
from tests.spool.making import chunk, intake, noise, opened

ES = "elasticsearch"
MIB = 2**20


def size(path: Path) -> int:
    return path.stat().st_size


async def test_the_log_does_not_grow_with_what_passes_through(tmp_path: Path) -> None:
    """Many times the log's bound goes through, and the log stays near its bound."""
    async with opened(tmp_path, ballast=4 * MIB) as spool:
        for _ in range(60):
            (number,) = await spool.commit(intake(*(chunk(1, line=noise(MIB // 2)) for _ in range(1))))
            await spool.settle(Settlement(ES, number))
        assert size(tmp_path / f"{DATABASE}-wal") < 8 * MIB
        assert spool.usage().wal_bytes == size(tmp_path / f"{DATABASE}-wal")


async def test_pages_are_given_back_after_a_backlog(tmp_path: Path) -> None:
    """A second of silence after a backlog was delivered, the file is small again."""
    async with opened(tmp_path, ballast=4 * MIB) as spool:
        for _ in range(24):
            await spool.commit(intake(chunk(1, line=noise(MIB))))
        await spool.settle(Settlement(ES, 24))
        before = size(tmp_path / DATABASE)
        async with asyncio.timeout(10):
            while size(tmp_path / DATABASE) > before * 2 // 3:  # noqa: ASYNC110  a file has no event to wait for
                await asyncio.sleep(0.05)
        assert spool.has_room()


async def test_reads_and_writes_from_many_tasks(tmp_path: Path) -> None:
    """Readers in the midst of commits see every chunk once, in order."""
    async with opened(tmp_path) as spool:

        async def read() -> list[int]:
            found: list[int] = []
            while len(found) < 100:
                await spool.news(ES, found[-1] if found else 0)
                found += [each.number for each in await spool.fresh(ES, found[-1] if found else 0, 200)]
            return found

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in range(3)]
            for first in range(100):
                group.create_task(spool.commit(intake(chunk(2, first=first))))
        assert all(reader.result() == list(range(1, 101)) for reader in readers)
