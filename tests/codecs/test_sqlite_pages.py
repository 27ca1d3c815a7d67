"""Pages of databases that SQLite itself has written, read without it; and of whatever else."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.codecs import sqlite_pages as codec
from mcp_ingest.errors import DecodeError


def written(tmp_path: Path, size: int, rows: Sequence[tuple[object, ...]], columns: str, more: str = "") -> bytes:
    path = tmp_path / f"{size}.db"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute(f"PRAGMA page_size={size}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute(f"CREATE TABLE t ({columns}) {more}")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)
    connection.close()
    return path.read_bytes()


def rows_of(data: bytes) -> list[tuple[int, list[codec.Value]]]:
    """All rows of all trees but the schema's, found by going over the pages."""
    size = codec.page_size(data[:100])
    pages = {n + 1: data[n * size : (n + 1) * size] for n in range(len(data) // size)}
    found = []
    for number, page in pages.items():
        if number == 1 or codec.is_map_page(number, size):
            continue
        map_number = codec.map_page_of(number, size)
        kind, _ = codec.map_entry(pages[map_number], map_number, number)
        if kind not in (codec.ROOT_PAGE, codec.TREE_PAGE):
            continue
        tree = codec.tree_page(page, number)
        assert tree.whole
        for cell in tree.cells:
            payload, following = cell.local, cell.overflow
            while following:
                following, more = codec.overflow_page(pages[following])
                payload += more
            found.append((cell.rowid, codec.record(payload[: cell.size])))
    return found


VALUES: list[tuple[object, ...]] = [
    (None, 0, 1, -1, 127, -129),
    (2**15, 2**23, 2**31, 2**47, -(2**63), 2**63 - 1),
    (1.5, -0.25, "", "text", "ü" * 300, b""),
    (b"\0\1", b"x" * 70_000, "y" * 5000, b"z" * 4061, b"z" * 4057, 3),
]


@pytest.mark.parametrize("size", [512, 1024, 4096, 16_384, 65_536])
@pytest.mark.parametrize("more", ["", "WITHOUT ROWID"])
def test_every_kind_of_value_is_read(tmp_path: Path, size: int, more: str) -> None:
    """What SQLite has written is read as it was, at every page size, on its page and over many of them."""
    rows = [(number, *VALUES[number % 4]) for number in range(1, 60)]
    columns = "number INTEGER PRIMARY KEY, a, b, c, d, e, f"
    data = written(tmp_path, size, rows, columns, more)
    found = rows_of(data)
    if more:
        assert sorted(found) == [(0, [*row]) for row in rows]
    else:
        assert sorted(found) == [(row[0], [None, *row[1:]]) for row in rows]


def test_lengths_about_the_bounds_of_a_page(tmp_path: Path) -> None:
    """A record goes on on other pages exactly where SQLite's does."""
    rows = [(number, b"x" * number) for number in range(3900, 4200)]
    for more in ("", "WITHOUT ROWID"):
        found = rows_of(written(tmp_path, 4096, rows, "number INTEGER PRIMARY KEY, a", more))
        assert sorted(len(values[1]) for _, values in found if isinstance(values[1], bytes)) == [*range(3900, 4200)]


def test_pages_of_many_maps(tmp_path: Path) -> None:
    """Each page's entry is found in the right page of the pointer map, also behind the first of them."""
    data = written(tmp_path, 512, [(number, b"x" * 3000) for number in range(200)], "number INTEGER PRIMARY KEY, a")
    assert len(data) // 512 > 300  # three pages of the map
    assert len(rows_of(data)) == 200


@pytest.mark.parametrize("head", [b"", b"SQLite format 3\0" + bytes(84), b"SQLite format 4\0" + bytes(84)])
def test_no_database(head: bytes) -> None:
    """What does not begin like a database is a DecodeError."""
    with pytest.raises(DecodeError):
        codec.page_size(head)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16_383, 16_384, 2**56 - 1, 2**63, 2**64 - 1])
def test_varints(value: int) -> None:
    """Nine bytes at the most, the last one with eight bits; what is cut off is a DecodeError."""
    data = _varint(value)
    found, end = codec.varint(b"." + data + b"..", 1)
    assert (found % 2**64, end) == (value, 1 + len(data))
    with pytest.raises(DecodeError):
        codec.varint(data[:-1], 0)


def _varint(value: int) -> bytes:
    if value >= 2**56:
        return bytes(0x80 | value >> 8 + 7 * n & 0x7F for n in range(7, -1, -1)) + bytes([value & 0xFF])
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_pages_raise_nothing_else(data: st.DataObject) -> None:
    """A page of whatever bytes is decoded or is a DecodeError, and so is each of its records."""
    start = data.draw(st.sampled_from([b"\x0d", b"\x0a", b"\x02", b"\x05", b"\0"]))
    page = (start + data.draw(st.binary(max_size=600))).ljust(
        1024, data.draw(st.sampled_from([b"\0", b"\x81", b"\xff"]))
    )
    try:
        tree = codec.tree_page(page, 2)
    except DecodeError:
        return
    for cell in tree.cells:
        with contextlib.suppress(DecodeError):
            codec.record(cell.local)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_damaged_records_raise_nothing_else(payload: bytes) -> None:
    """A record of whatever bytes is decoded or is a DecodeError."""
    with contextlib.suppress(DecodeError):
        codec.record(payload)


def test_the_free_list(tmp_path: Path) -> None:
    """The pages of deleted rows are on the free list, and the pointer map says the same."""
    path = tmp_path / "t.db"
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA page_size=512")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, a)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, b"x" * 2000) for n in range(100)])
        connection.execute("DELETE FROM t WHERE number >= 10")
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    connection.close()
    data = path.read_bytes()
    pages = {n + 1: data[n * 512 : (n + 1) * 512] for n in range(len(data) // 512)}
    trunk, listed = int.from_bytes(data[32:36], "big"), set()
    while trunk:
        listed.add(trunk)
        trunk, leaves = codec.free_list(pages[trunk])
        listed |= set(leaves)
    assert len(listed) == free > 100
    for number in listed:
        place = codec.map_page_of(number, 512)
        assert codec.map_entry(pages[place], place, number)[0] == codec.FREE_PAGE


def test_a_damaged_free_list() -> None:
    """A trunk that names more pages than fit is a DecodeError."""
    with pytest.raises(DecodeError):
        codec.free_list(bytes(4) + b"\xff" * 508)


def test_where_something_stands() -> None:
    """Every place of the bytes that are looked for."""
    assert [*codec.starts_of(b"MCPk..MCPkMCPk", b"MCPk")] == [0, 6, 10]
