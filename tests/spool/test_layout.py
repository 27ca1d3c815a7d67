"""What the tables' rows look like on their pages."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mcp_ingest.codecs.sqlite_pages import Value
from mcp_ingest.spool import schema
from mcp_ingest.spool.layout import candidates, table, tables


def test_the_roots_are_those_of_every_spool(tmp_path: Path) -> None:
    """A spool's tables begin on the same pages as those of the database in memory."""
    connection = schema.connect(tmp_path)
    roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    connection.close()
    assert {each.name: each.root for each in tables() if each.name} == roots


def test_rows_are_known_by_their_shape() -> None:
    """A row of `positions` is one of it, and with a number too many of none."""
    ((found, row),) = [each for each in candidates(["key", b"value"], 0, keyed=True) if each[0].name == "positions"]
    assert (found.name, row) == ("positions", ["key", b"value"])
    assert candidates(["key", b"value", 1, 2, 3, 4, 5, 6], 0, keyed=True) == []
    assert candidates(["key", b"value"], 7, keyed=False) == [] or "sqlite_sequence" in {
        each.name for each, _ in candidates(["key", b"value"], 7, keyed=False)
    }


def test_the_number_stands_beside_the_record() -> None:
    """A rowid takes the place of the null that stands for it."""
    assert table("seen").row([None, 5, b"x"], 3) == [3, 5, b"x"]
    assert table("seen").row([1, 5, b"x"], 3) is None
    assert table("seen").row([None, "5", b"x"], 3) is None


def test_columns_of_a_key_come_first(tmp_path: Path) -> None:
    """Rows of tables without a rowid come back in the order of the table's columns."""
    connection = sqlite3.connect(":memory:")
    schema.make_tables(connection)
    names = [row[1] for row in connection.execute("PRAGMA table_info(pending)")]
    connection.close()
    pending = table("pending")
    stored = [column.name for column in pending.columns]
    values: dict[str, Value] = {
        "output": 1,
        "chunk": 2,
        "destination": "d",
        "events": 3,
        "bitmap": b"b",
        "attempt": 4,
        "why": "w",
    }
    assert pending.row([values.get(name, 0) for name in stored], 0) == [values.get(name, 0) for name in names]
