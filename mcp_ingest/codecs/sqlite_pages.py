"""Pages of an SQLite database, read without SQLite: what is left to do when SQLite says that a file is malformed.

Formats are those of https://www.sqlite.org/fileformat.html: section 1.3 (the first 100 bytes), 1.6 (b-tree pages), 1.8
(pointer map pages) and 2.1 (records). Whatever is damaged is a DecodeError or left out; nothing is believed that does
not fit its page.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcp_ingest.errors import DecodeError

MAGIC = b"SQLite format 3\0"
INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
#: Kinds of the pointer map's entries.
ROOT_PAGE, FREE_PAGE, FIRST_OVERFLOW, LATER_OVERFLOW, TREE_PAGE = 1, 2, 3, 4, 5
ENTRY_BYTES = 5

Value = int | float | str | bytes | None

_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)


class Cell(NamedTuple):
    """A row as it stands on a page: `local` is the beginning of its record, `overflow` the page that goes on (or 0)."""

    rowid: int  # 0 on pages of an index
    size: int  # of the whole record
    local: bytes
    overflow: int


class Tree(NamedTuple):
    """A b-tree page: its kind, its rows, and the pages below it."""

    kind: int
    cells: list[Cell]
    children: list[int]
    whole: bool  # every cell could be read


def page_size(head: bytes) -> int:
    """The size of a page that the first 100 bytes of a database say; DecodeError when they are not those."""
    if not head.startswith(MAGIC) or len(head) < 100:
        raise DecodeError("not the beginning of an SQLite database")
    (size,) = struct.unpack_from(">H", head, 16)
    size = 65_536 if size == 1 else size
    if size < 512 or size & (size - 1):
        raise DecodeError(f"a page cannot have {size} bytes")
    return int(size)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer, and where it ends."""
    value = 0
    for end in range(at, min(at + 8, len(data))):
        byte = data[end]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, end + 1
    if at + 9 > len(data):
        raise DecodeError("an integer is cut off")
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >> 63 else value, at + 9


# --- b-tree pages ------------------------------------------------------------------------------------------


def tree_page(page: bytes, number: int) -> Tree:
    """A b-tree page of a database without reserved bytes; DecodeError when it is none."""
    start = 100 if number == 1 else 0
    kind = page[start]
    if kind not in (INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF):
        raise DecodeError(f"page {number} is no page of a tree")
    head = 12 if kind in (INDEX_INTERIOR, TABLE_INTERIOR) else 8
    (count,) = struct.unpack_from(">H", page, start + 3)
    pointers = start + head
    if pointers + 2 * count > len(page):
        raise DecodeError(f"page {number} has {count} cells, which it cannot have")
    tree = Tree(kind, [], [], True)
    whole = page[start + 7] <= 60
    for place in struct.unpack_from(f">{count}H", page, pointers):
        try:
            if place < pointers + 2 * count or place > len(page) - 4:
                raise DecodeError("a cell lies outside of its page")
            _cell(page, place, tree)
        except DecodeError:
            whole = False
    if head == 12:
        tree.children.append(*struct.unpack_from(">I", page, start + 8))
    return tree._replace(whole=whole)


def _cell(page: bytes, at: int, tree: Tree) -> None:
    if tree.kind in (INDEX_INTERIOR, TABLE_INTERIOR):
        tree.children.append(*struct.unpack_from(">I", page, at))
        at += 4
        if tree.kind == TABLE_INTERIOR:
            return
    size, at = varint(page, at)
    rowid = 0
    if tree.kind == TABLE_LEAF:
        rowid, at = varint(page, at)
    tree.cells.append(_payload(page, at, rowid, size, table=tree.kind == TABLE_LEAF))


def _payload(page: bytes, at: int, rowid: int, size: int, *, table: bool) -> Cell:
    local = local_bytes(size, len(page), table=table)
    end = at + local
    if size < 1 or end + (4 if local < size else 0) > len(page):
        raise DecodeError("a record goes beyond its page")
    overflow = struct.unpack_from(">I", page, end)[0] if local < size else 0
    return Cell(rowid, size, page[at:end], overflow)


def local_bytes(size: int, usable: int, *, table: bool) -> int:
    """How many bytes of a record of this size stand on its own page."""
    most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    return local if local <= most else least


# --- records -----------------------------------------------------------------------------------------------


def record(payload: bytes) -> list[Value]:
    """The values of a record; DecodeError unless its header and its values fill it exactly."""
    end, at = varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = varint(payload, at)
        kinds.append(kind)
    if at != end:
        raise DecodeError("a record's header goes beyond its end")
    values: list[Value] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload):
        raise DecodeError("a record has more bytes than values")
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (8, 9):
        return kind - 8, at
    if kind < 0 or kind in (10, 11):
        raise DecodeError("a value of no known kind")
    length = _INTEGER_BYTES[kind] if kind < 7 else 8 if kind == 7 else (kind - 12) // 2
    raw = payload[at : at + length]
    if len(raw) < length:
        raise DecodeError("a value is cut off")
    at += length
    if kind == 0:
        return None, at
    if kind == 7:
        return struct.unpack(">d", raw)[0], at
    if kind < 7:
        return int.from_bytes(raw, "big", signed=True), at
    if kind % 2 == 0:
        return raw, at
    try:
        return raw.decode(), at
    except UnicodeDecodeError:
        raise DecodeError("a text is no UTF-8") from None


# --- the pointer map ---------------------------------------------------------------------------------------


def map_page_of(number: int, size: int) -> int:
    """The pointer map page of a database with auto-vacuum that has the entry of page `number` (from 3 on)."""
    every = size // ENTRY_BYTES + 1
    return (number - 2) // every * every + 2


def is_map_page(number: int, size: int) -> bool:
    """Whether a page of such a database is one of its pointer map."""
    return number >= 2 and map_page_of(number, size) == number


def map_entry(map_page: bytes, map_number: int, number: int) -> tuple[int, int]:
    """The kind of page `number` and its parent, as its pointer map page says; (0, 0) where that makes no sense."""
    at = (number - map_number - 1) * ENTRY_BYTES
    kind, parent = struct.unpack_from(">BI", map_page, at)
    return (kind, parent) if ROOT_PAGE <= kind <= TREE_PAGE else (0, 0)


def overflow_page(page: bytes) -> tuple[int, bytes]:
    """The number of the overflow page behind this one (0: it is the last), and what stands on it."""
    return struct.unpack_from(">I", page)[0], page[4:]


def free_list(page: bytes) -> tuple[int, list[int]]:
    """A trunk page of the free list: the next trunk (0: none) and the free pages that it names."""
    following, count = struct.unpack_from(">II", page)
    if count > len(page) // 4 - 2:
        raise DecodeError("a trunk of the free list names more pages than it can")
    return following, [*struct.unpack_from(f">{count}I", page, 8)]


def starts_of(page: bytes, magic: bytes) -> Iterator[int]:
    """Where these bytes stand on a page whose own order is gone."""
    at = page.find(magic)
    while at >= 0:
        yield at
        at = page.find(magic, at + 1)
