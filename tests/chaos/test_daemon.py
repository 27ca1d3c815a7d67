"""The daemon's clock and its commits, as the driver commands them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from tests.chaos.control import Control
from tests.chaos.daemon import SettableClock, fail_commits


def test_the_wall_clock_follows_the_driver(tmp_path: Path) -> None:
    """What the driver writes is what the clock is off, at once; the monotonic clock never is."""
    drivers = Control(tmp_path / "control")
    clock = SettableClock(Control(tmp_path / "control"))
    for offset in (0, 3600 * 10**9, -(86400 * 10**9)):
        drivers.clock_offset = offset
        assert abs(clock.time_ns() - time.time_ns() - offset) < 10**9
        assert abs(clock.monotonic() - time.monotonic()) < 1
    assert drivers.failing_commits is False


def test_commits_fail_on_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the driver says so COMMIT raises and can be rolled back; then it goes on."""
    monkeypatch.setattr(sqlite3, "connect", sqlite3.connect)
    drivers = Control(tmp_path / "control")
    fail_commits(Control(tmp_path / "control"))
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    connection.execute("CREATE TABLE t (n)")
    drivers.failing_commits = True
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.OperationalError) as failure:
        connection.execute("COMMIT")
    assert failure.value.sqlite_errorcode == sqlite3.SQLITE_IOERR
    connection.execute("ROLLBACK")
    drivers.failing_commits = False
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (2)")
    connection.execute("COMMIT")
    assert connection.execute("SELECT n FROM t").fetchall() == [(2,)]
    connection.close()
