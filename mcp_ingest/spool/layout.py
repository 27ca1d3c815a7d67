"""What the rows of each table look like on a page: so that a row can be told to be one when the schema is gone.

All comes from the schema itself: a database is made in memory and asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from mcp_ingest.codecs.sqlite_pages import Value
from mcp_ingest.spool import schema

_TYPES: dict[str, type] = {"INTEGER": int, "TEXT": str, "BLOB": bytes}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type, whether it may be null."""

    name: str
    type: type
    null: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table (or, without a `name`, an index): its columns in the order of the pages, and its first page.

    `rowid` is the place of the column that is the row's number and so stands beside the record (None: it has no such
    column); `order` takes the values of a record to the order of the table's columns.
    """

    name: str
    root: int
    columns: tuple[Column, ...]
    keyed: bool  # WITHOUT ROWID: on pages of an index
    rowid: int | None
    order: tuple[int, ...]

    def row(self, values: Sequence[Value], rowid: int) -> list[Value] | None:
        """The values in the table's order; None when these are not one of its rows."""
        if len(values) != len(self.columns):
            return None
        for place, (column, value) in enumerate(zip(self.columns, values, strict=True)):
            if place == self.rowid:
                if value is not None:
                    return None
            elif not (isinstance(value, column.type) or (value is None and column.null)):
                return None
        found = [*values]
        if self.rowid is not None:
            found[self.rowid] = rowid
        return [found[place] for place in self.order]


@cache
def tables() -> tuple[Table, ...]:
    """The tables of a spool, then its indexes."""
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        connection.execute(f"PRAGMA page_size={schema.PAGE}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        schema.make_tables(connection)
        made = tuple(_tables(connection))
    connection.close()
    return made


def table(name: str) -> Table:
    """The table of this name."""
    return next(each for each in tables() if each.name == name)


def _tables(connection: sqlite3.Connection) -> Iterator[Table]:
    rows = connection.execute("SELECT type, name, rootpage, sql FROM sqlite_master ORDER BY type DESC").fetchall()
    for kind, name, root, sql in rows:
        if kind == "table":
            yield _table(connection, name, root, keyed="WITHOUT ROWID" in sql)
    for kind, name, root, _ in rows:
        if kind == "index":
            yield _index(connection, name, root)


def _table(connection: sqlite3.Connection, name: str, root: int, *, keyed: bool) -> Table:
    info = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,)).fetchall()
    places = [*range(len(info))]
    rowid = None
    if keyed:  # the key's columns come first
        places.sort(key=lambda place: (info[place][3] == 0, info[place][3]))
    else:
        rowid = next((n for n, (_, kind, _, pk) in enumerate(info) if pk and kind == "INTEGER"), None)
    columns = tuple(
        Column(info[n][0], _TYPES.get(info[n][1], object), not info[n][2] and not (keyed and info[n][3]))
        for n in places
    )
    return Table(name, root, columns, keyed, rowid, tuple(places.index(n) for n in range(len(places))))


def _index(connection: sqlite3.Connection, name: str, root: int) -> Table:
    types = {
        row[0]: _TYPES.get(row[1], object)
        for row in connection.execute(
            "SELECT c.name, c.type FROM sqlite_master m, pragma_table_info(m.tbl_name) c WHERE m.name = ?", (name,)
        )
    }
    names = [row[0] for row in connection.execute("SELECT name FROM pragma_index_info(?)", (name,))]
    columns = (*(Column(each, types[each], True) for each in names), Column("rowid", int, False))
    return Table("", root, columns, True, None, tuple(range(len(columns))))


def candidates(values: Sequence[Value], rowid: int, *, keyed: bool) -> list[tuple[Table, list[Value]]]:
    """The tables and indexes that this could be a row of, each with the row."""
    found = []
    for each in tables():
        if each.keyed == keyed:
            row = each.row(values, rowid)
            if row is not None:
                found.append((each, row))
    return found
