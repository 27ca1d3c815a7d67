"""Tests of the database's settings and version."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mcp_ingest.spool import schema
from mcp_ingest.spool.files import DATABASE


def test_what_durability_stands_on_is_set(tmp_path: Path) -> None:
    """Each commit is synced, deletes write nothing, nobody else can write, pages can be given back."""
    connection = schema.connect(tmp_path)
    expected = {
        "synchronous": 2,
        "journal_mode": "wal",
        "secure_delete": 0,
        "auto_vacuum": 2,
        "locking_mode": "exclusive",
    }
    for pragma, value in expected.items():
        assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    assert not (tmp_path / f"{DATABASE}-shm").exists()
    connection.close()


def test_another_connection_cannot_write(tmp_path: Path) -> None:
    """A second process that opens the file meanwhile is kept out by SQLite itself."""
    connection = schema.connect(tmp_path)
    schema.uuids(connection)
    other = sqlite3.connect(tmp_path / DATABASE, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("DELETE FROM meta")
    other.close()
    connection.close()


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A spool of a later version is neither damaged nor touched."""
    connection = schema.connect(tmp_path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(sqlite3.NotSupportedError, match="version 99") as caught:
        schema.connect(tmp_path)
    assert not schema.is_damage(caught.value)


def test_the_uuid_stays(tmp_path: Path) -> None:
    """A database keeps its name over restarts, two databases have two."""
    first = schema.connect(tmp_path)
    names = schema.uuids(first)
    first.close()
    again = schema.connect(tmp_path)
    assert schema.uuids(again) == names
    again.close()
    (tmp_path / "other").mkdir()
    other = schema.connect(tmp_path / "other")
    assert schema.uuids(other) != names
    other.close()
