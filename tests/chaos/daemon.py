"""`mcp-ingest run` with a wall clock that can be set and commits that fail: `python -m tests.chaos.daemon -c FILE`.

Both follow the file that the variable `MCP_CHAOS_CONTROL` names (`control.py`). It dies with whoever started it, but
for a worker, which has to notice by itself that its supervisor is gone. Workers are started by this module, too.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp_ingest.cli import _supervisor, _worker, main, run
from mcp_ingest.config.model import Configuration
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.supervisor import Supervisor
from tests.chaos.control import VARIABLE, Control

_PR_SET_PDEATHSIG = 1  # prctl(2)


class SettableClock:
    """The machine's clocks; the wall clock is off by what the control says, the monotonic one never is."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, control: Control) -> None:
        self._control = control

    def time_ns(self) -> int:
        """Nanoseconds since 1970, or thereabouts."""
        return time.time_ns() + self._control.clock_offset


def fail_commits(control: Control) -> None:
    """From now on SQLite's COMMIT fails as on a disk that gives an I/O error, whenever the control says so."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "COMMIT" and control.failing_commits:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                error.sqlite_errorname = "SQLITE_IOERR"
                raise error
            return super().execute(sql, *values)

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]


def _supervise(config: Configuration, command: Sequence[str], *others: Any) -> Supervisor:
    """A supervisor of such daemons: `command` is `python -m mcp_ingest run …`."""
    return Supervisor(config, [command[0], "-m", "tests.chaos.daemon", *command[4:]], *others)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    if "--worker" not in sys.argv:
        _die_with_parent()
    told = Control(Path(os.environ[VARIABLE]))
    fail_commits(told)
    for place in (run, _worker):
        vars(place)["Daemon"] = functools.partial(Daemon, clock=SettableClock(told))
    vars(_supervisor)["Supervisor"] = _supervise
    main(["run", *sys.argv[1:]], prog_name="mcp-ingest")
