"""Who comes after a supervisor waits for what is left of it."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from mcp_ingest.context import SystemClock
from mcp_ingest.engine import succession
from mcp_ingest.engine.succession import had_a_supervisor, supervisors_lock
from mcp_ingest.errors import SpoolError
from mcp_ingest.spool.files import Lock
from tests.engine.parts import until
from tests.integration.servers import missing
from tests.spool.test_care import read_only, remount

_NOBODY = 2**22 + 1  # no process has this number


async def _lock(directory: Path, stop: asyncio.Event | None = None) -> Lock | None:
    return await supervisors_lock(directory, stop or asyncio.Event(), SystemClock(), logging.getLogger("test"))


def _held(directory: Path, process: int) -> Lock:
    lock = Lock(directory, "supervisor.lock")
    lock.take()
    (directory / "supervisor.lock").write_text(f"{process}\n")
    return lock


async def test_nobody_is_before(tmp_path: Path) -> None:
    """The folder is made, and the lock is had at once; from then on the folder tells that there were workers."""
    folder = tmp_path / "spool"
    assert not had_a_supervisor(folder)
    lock = await _lock(folder)
    assert lock is not None
    assert had_a_supervisor(folder)
    lock.give()


async def test_a_lock_of_the_living_is_an_error(tmp_path: Path) -> None:
    """A spool that another supervisor has is said to be in use, at once."""
    lock = _held(tmp_path, os.getppid())
    with pytest.raises(SpoolError, match=f"in use by process {os.getppid()}"):
        await asyncio.wait_for(_lock(tmp_path), 5)
    lock.give()


@pytest.mark.parametrize("stopped", [False, True])
async def test_workers_of_one_that_is_gone_are_waited_for(tmp_path: Path, *, stopped: bool) -> None:
    """They hold its lock until they have ended; who is told to stop meanwhile has none."""
    theirs, stop = _held(tmp_path, _NOBODY), asyncio.Event()
    waiting = asyncio.create_task(_lock(tmp_path, stop))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    stop.set() if stopped else theirs.give()
    ours = await asyncio.wait_for(waiting, 5)
    assert (ours is None) == stopped
    for lock in (ours, theirs):
        if lock is not None:
            lock.give()


async def test_a_disk_that_refuses_at_the_start_is_waited_for(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a daemon alone does, with one line of log."""
    monkeypatch.setattr(succession, "DISK_SECONDS", 0.05)
    remount(small_disk, "ro")
    if not read_only(small_disk):
        missing("this file system cannot be made read-only")
    waiting = asyncio.create_task(_lock(small_disk / "spool"))
    await until(lambda: "Read-only file system" in caplog.text)
    await asyncio.sleep(0.2)
    remount(small_disk, "rw")
    lock = await asyncio.wait_for(waiting, 5)
    assert caplog.text.count("it is tried again") == 1
    assert lock is not None
    lock.give()
