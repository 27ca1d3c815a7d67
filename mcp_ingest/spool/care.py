"""What the spool's thread does when its files are found damaged, or gone, while it runs.

- A database that turns out to be malformed is salvaged as at a start, but marks, positions and counters are those that
  are in memory.
- Files that were deleted under the daemon are still whole for as long as they are open: they are written again under
  their names before anything is acknowledged that went into them. Nothing is lost.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from mcp_ingest.spool.aside import LOG
from mcp_ingest.spool.files import DATABASE, make_directory, sync_directory
from mcp_ingest.spool.recovery import Opened, Recovery, marked
from mcp_ingest.spool.salvage import Known
from mcp_ingest.spool.sums import Sums, summed
from mcp_ingest.spool.truth import Truth

_RESCUED = "spool.db.rescued"


class Care:
    """Looks after the files of one folder, in the thread that has the connection."""

    def __init__(
        self, directory: Path, recovery: Recovery, memory: Callable[[], tuple[Known, Sums]], logger: logging.Logger
    ) -> None:
        """`memory` gives what is committed, as the event loop has it."""
        self._database, self._log = str(directory / DATABASE), str(directory / LOG)
        self._directory = directory
        self._recovery = recovery
        self._memory = memory
        self._logger = logger
        self._files: tuple[int, int] = (0, 0)
        self.is_closed = False  # there is no database open, and `open` is to be called

    def look(self) -> int | None:
        """The bytes of the write-ahead log; None when a file is not there any more or is another one."""
        try:
            database, log = os.stat(self._database), os.stat(self._log)
        except OSError:
            return None if any(self._files) else 0  # not known yet
        files = (database.st_ino, log.st_ino)
        if self._files != files:
            if any(self._files):
                return None
            self._files = files
        return log.st_size

    def rescue(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Write what is open under its name again; the new connection. sqlite3.Error or OSError: not possible now."""
        self._logger.error(
            "files of the spool in %s were deleted while it ran: they are written again", self._directory
        )
        make_directory(self._directory)
        if not self._is_open_under_its_name():
            self._copy(connection)
        else:
            _empty_log(connection)
        self._close(connection)
        rescued = self._directory / _RESCUED
        if rescued.exists():
            rescued.rename(self._database)
        sync_directory(self._directory)
        opened = self._recovery.connect()
        self.is_closed = False
        return opened

    def open(self) -> Opened:
        """The database, after it could not be renewed or opened again at once."""
        opened = self._recovery.open()
        self.is_closed = False
        return opened

    def _close(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self.is_closed, self._files = True, (0, 0)

    def inode(self) -> int:
        """The database's."""
        return os.stat(self._database).st_ino

    def _is_open_under_its_name(self) -> bool:
        with contextlib.suppress(OSError):
            return self.inode() == self._files[0]
        return False

    def _copy(self, connection: sqlite3.Connection) -> None:
        """All pages as the open connection sees them, durably in another file."""
        path = self._directory / _RESCUED
        path.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # all of it is in the one file
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def renew(self, connection: sqlite3.Connection, error: sqlite3.Error) -> Opened:
        """A new database with what can be read of this one, which is closed and set aside."""
        known, sums = self._memory()
        self._close(connection)
        opened = self._recovery.renew(str(error), known, sums)
        self.is_closed = False
        return opened


def memory(truth: Truth, uuids: list[bytes]) -> tuple[Known, Sums]:
    """What is committed, as a salvage takes it."""
    outputs = [(state.id, state.name, state.type, state.mark) for state in truth.outputs.values()]
    known = Known(outputs, dict(truth.positions), truth.ledger.copy(), truth.commits)
    return known, Sums(
        uuids[0], uuids[-1], truth.commits, truth.last, counts=summed(truth.ledger), outputs=marked(truth)
    )


def _empty_log(connection: sqlite3.Connection) -> None:
    """Bring all of the log, whose file has lost its name, into the database."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("the log cannot be written into the database")
