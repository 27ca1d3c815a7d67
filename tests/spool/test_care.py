"""A running spool whose files are deleted, damaged, or on a disk that refuses."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.errors import SpoolError
from mcp_ingest.spool import spool as module
from mcp_ingest.spool.aside import LOG
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.recovery import Recovery
from mcp_ingest.spool.sums import SUMS
from tests.integration.servers import missing
from tests.spool.making import chunk, delivered, intake, new_spool, noise, opened
from tests.spool.test_recovery import assert_closed, commit, lost

ES = "elasticsearch"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISK_SECONDS", 0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("gone", [(DATABASE,), (LOG,), (DATABASE, LOG), (DATABASE, LOG, SUMS, "lock", "ballast"), ()])
async def test_files_deleted_while_it_runs(
    tmp_path: Path, gone: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """What went into a deleted file before anybody noticed is on the disk again before it is acknowledged."""
    directory, copy = tmp_path / "spool", tmp_path / "copy"
    async with opened(directory) as spool:
        await commit(spool, 1, 2)
        if gone:
            for name in gone:
                (directory / name).unlink()
        else:
            directory.rename(tmp_path / "moved")
        await asyncio.wait_for(spool.room(), 10)
        await commit(spool, 3)
        await spool.settle(delivered(ES, 1, 3))
        assert [each.number for each in await spool.fresh(ES, 1, 2**20)] == [2, 3]
        await until(lambda: (directory / SUMS).exists() or SUMS not in gone)
        shutil.copytree(directory, copy)  # as a kill -9 would leave it
        await commit(spool, 4)
    for where, numbers in ((directory, {2, 3, 4}), (copy, {2, 3})):
        async with opened(where) as spool:
            assert {each.number for each in await spool.fresh(ES, 0, 2**20)} == numbers
            assert lost(spool) == {}
            assert_closed(spool)
    assert caplog.text.count("they are written again") == 1


async def test_files_that_cannot_be_written_again_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a deleted file cannot be made again nothing is acknowledged; then everything goes on by itself."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1)
        (tmp_path / DATABASE).unlink()
        with monkeypatch.context() as patch:
            patch.setattr(Recovery, "connect", _refuse)
            with pytest.raises(SpoolError, match="cannot be written again"):
                await commit(spool, 2)
            assert not spool.has_room()
            assert "were deleted" in spool.trouble()
            with pytest.raises(SpoolError):
                await commit(spool, 3)
        await asyncio.wait_for(spool.room(), 10)
        await commit(spool, 4)
        assert lost(spool) == {}
        assert_closed(spool)
    async with opened(tmp_path) as spool:
        assert {each.ids[0][-2:] for each in await spool.fresh(ES, 0, 2**20)}
        assert_closed(spool)
    assert "the disk of the spool takes something again" in caplog.text


def _refuse(*_: object) -> sqlite3.Connection:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    raise error


def remount(disk: Path, how: str) -> None:
    done = subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True, check=False)
    if done.returncode:
        missing(f"a disk cannot be made read-only here: {done.stderr!r}")


def read_only(disk: Path) -> bool:
    """Whether the disk refuses to write, also to files that are open: a bind mount's flag is enough for new ones."""
    try:
        (disk / "probe").touch()
    except OSError:
        return True
    return False


async def test_a_disk_that_becomes_read_only(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Commits fail and inputs wait, what is held can be read; when the disk takes writes again all goes on."""
    async with opened(small_disk / "spool") as spool:
        await commit(spool, 1, 2)
        await _read_only_while(spool, small_disk)
        await asyncio.wait_for(spool.room(), 10)
        await commit(spool, 4)
        assert_closed(spool)
        assert lost(spool) == {}
    texts = [record.getMessage() for record in caplog.records]
    assert sum("refuses" in text and "inputs wait" in text for text in texts) == 1
    assert sum(text.endswith("takes something again") and "wait" not in text for text in texts) == 1


async def _read_only_while(spool: module.Spool, disk: Path) -> None:
    """Files that are open for writing keep a disk from becoming read-only: writes fail as they do on one that did."""
    worker = spool._worker
    assert worker is not None
    writer = worker._writer
    assert writer is not None
    real = writer.connection

    class Connection:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement.startswith("BEGIN"):
                error = sqlite3.OperationalError("attempt to write a readonly database")
                error.sqlite_errorcode = sqlite3.SQLITE_READONLY
                raise error
            return real.execute(statement, *values)

    writer.connection = Connection()  # type: ignore[assignment]
    with pytest.raises(SpoolError, match="readonly"):
        await commit(spool, 3)
    assert not spool.has_room()
    assert "readonly" in spool.trouble()
    assert [each.number for each in await spool.fresh(ES, 0, 2**20)] == [1, 2]
    with pytest.raises(SpoolError):
        await spool.settle(delivered(ES, 1, 3))
    await asyncio.sleep(1.2)
    assert not spool.has_room()
    writer.connection = real


async def test_a_start_on_a_read_only_disk_waits(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A daemon that is started on a disk that refuses says so once, and opens its spool when the disk is back."""
    async with opened(small_disk / "spool") as spool:
        await commit(spool, 1)
    remount(small_disk, "ro")
    if not read_only(small_disk):
        missing("this file system cannot be made read-only")
    spool = new_spool(small_disk / "spool")
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(spool.open())
        await asyncio.sleep(0.3)
        assert not opening.done()
        assert "Read-only file system" in spool.trouble()
        assert not spool.has_room()
        remount(small_disk, "rw")
        await asyncio.wait_for(opening, 10)
    assert spool.trouble() == ""
    await commit(spool, 2)
    await spool.close()
    assert sum("inputs wait until then" in record.getMessage() for record in caplog.records) == 1


async def test_a_start_that_waits_can_be_ended(small_disk: Path) -> None:
    """A daemon that waits for its disk stops when it is told to."""
    (small_disk / "spool").mkdir()
    remount(small_disk, "ro")
    spool = new_spool(small_disk / "spool")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(spool.open(), 0.2)
    remount(small_disk, "rw")


async def test_pages_that_the_disk_does_not_give_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be read is tried some times, then it is damaged: what can be read of it is saved."""
    async with opened(tmp_path) as spool:
        await commit(spool, 1, 2)
    inode = os.stat(tmp_path / DATABASE).st_ino
    attempts = 0

    def fail(self: Recovery, *arguments: object) -> None:
        nonlocal attempts
        if os.stat(tmp_path / DATABASE).st_ino == inode:
            attempts += 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error

    monkeypatch.setattr(Recovery, "_compare", fail)
    async with opened(tmp_path) as spool:
        assert len(await spool.fresh(ES, 0, 2**20)) == 2
        assert [notice.kind for notice in spool.notices()] == ["database"]
    assert attempts > module.PATIENCE


async def test_a_salvage_on_a_full_disk_is_made_when_there_is_room(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is damaged stays as it is until the new database can be written; nothing of it is given up meanwhile."""
    directory = small_disk / "spool"
    async with opened(directory) as spool:
        for number in range(20):
            await spool.commit(intake(chunk(2, first=10 * number, line=noise(40_000))))
    with (directory / DATABASE).open("r+b") as file:
        file.write(b"damaged")
    filling = small_disk / "other"
    with filling.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    spool = new_spool(directory)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(spool.open())
        await asyncio.sleep(0.5)
        assert not opening.done()
        filling.unlink()
        await asyncio.wait_for(opening, 10)
    assert spool.held(ES).events == 40
    assert lost(spool) == {}
    await spool.close()
