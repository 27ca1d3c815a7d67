"""Who follows a supervisor that is gone waits until the last of its workers has ended.

They notice that it is gone, end cleanly, and hold its lock until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

from mcp_ingest.context import Clock
from mcp_ingest.engine.orders import ORPHAN_SECONDS
from mcp_ingest.errors import SpoolDiskError, SpoolError
from mcp_ingest.spool.files import Lock, cannot_use, make_directory
from mcp_ingest.spool.spool import DISK_SECONDS

_LOCK = "supervisor.lock"


def had_a_supervisor(directory: Path) -> bool:
    """Whether workers had their spools in this folder."""
    return (directory / _LOCK).exists()


async def supervisors_lock(directory: Path, stop: asyncio.Event, clock: Clock, logger: logging.Logger) -> Lock | None:
    """The lock of the spools' folder, which is made; None if `stop` was set while it waited.

    It waits while nobody but workers of a supervisor that is gone has it, and while the disk refuses. SpoolError: a
    supervisor that lives has it, or the folder cannot be used.
    """
    lock, said = Lock(directory, _LOCK), False
    end = clock.monotonic() + ORPHAN_SECONDS + 5
    while not stop.is_set():
        try:
            make_directory(directory)
            lock.take(patience=0)
        except OSError as error:
            refused = cannot_use(error)
            if not isinstance(refused, SpoolDiskError):
                raise refused from error
            if not said:
                logger.error("%s: it is tried again every %g s", refused, DISK_SECONDS)
            said = True
            await _pause(stop, DISK_SECONDS)
        except SpoolError:
            if _lives(lock.holder()) or clock.monotonic() > end:
                raise
            await _pause(stop, 0.1)
        else:
            return lock
    return None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _lives(process: int | None) -> bool:
    """Whether the process that took a lock is there; one with our own number was in another container."""
    if process is None or process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
