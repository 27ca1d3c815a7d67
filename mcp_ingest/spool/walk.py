"""Rows of a damaged database: by a table's tree as far as it is whole, and from every page that looks like one.

A tree is followed from the root that the schema has (a spool's tables are always made in the same order, so that their
first pages are known also when the page that names them is gone). Behind a page that is damaged everything is still on
its own pages: so all pages are looked at, one after the other, and a row is known by its shape. Free pages are left
out: what stands on them was deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mcp_ingest.codecs import sqlite_pages as codec
from mcp_ingest.codecs.sqlite_pages import Cell, Value
from mcp_ingest.errors import DecodeError
from mcp_ingest.spool import chunk as chunks
from mcp_ingest.spool.layout import Table, candidates
from mcp_ingest.spool.pages import DatabaseFile
from mcp_ingest.spool.schema import PAGE

_KEYS_OF_META = {"uuids"}
_DEEPEST = 40  # levels of a tree; the highest that there can be is far lower


class Row(NamedTuple):
    """A row and its table."""

    table: str
    values: list[Value]


@dataclass(slots=True)
class Damaged:
    """A row of the table `chunks` whose blob cannot be put together; the number is its key."""

    number: int


class Walk:
    """Goes over the pages of one database. `seen` has a byte for each page that a whole tree consists of."""

    def __init__(self, pages: DatabaseFile) -> None:
        self._pages = pages
        self._seen = bytearray(pages.count + 1)

    # --- by the trees ---

    def table(self, table: Table, take: Callable[[list[Value]], None]) -> bool:
        """Hand every row of the table's tree to `take`; whether the tree is whole, so that there are no others."""
        whole = self._pages.log_is_whole
        for number, tree in self._tree(table.root, 0):
            if tree is None:
                whole = False
                continue
            whole = tree.whole and tree.kind in _kinds(table) and whole
            for cell in tree.cells:
                row = self._row(cell, table)
                if row is None:
                    whole = False
                else:
                    take(row)
            if number <= self._pages.count:
                self._seen[number] = 1
        return whole

    def _tree(self, number: int, depth: int) -> Iterator[tuple[int, codec.Tree | None]]:
        tree = self._read(number) if depth < _DEEPEST and number <= self._pages.count else None
        if tree is not None and self._seen[number]:
            tree = None  # of another table, or in a circle
        yield number, tree
        if tree is not None:
            for child in tree.children:
                yield from self._tree(child, depth + 1)

    def _read(self, number: int) -> codec.Tree | None:
        page = self._pages.page(number)
        if page is None or len(page) != PAGE:
            return None
        try:
            return codec.tree_page(page, number)
        except (DecodeError, ValueError):
            return None

    def _row(self, cell: Cell, table: Table) -> list[Value] | None:
        try:
            return table.row(codec.record(self._pages.payload(cell)), cell.rowid)
        except DecodeError:
            return None

    # --- by all pages ---

    def everything_else(self, progress: Callable[[int], None]) -> Iterator[Row | Damaged]:
        """The rows on all pages that belong to no tree walked before; `progress` hears how many pages are done."""
        for number in range(1, self._pages.count + 1):
            if not number & 0xFFF:
                progress(number)
            if self._seen[number] or codec.is_map_page(number, PAGE):
                continue
            yield from self._page(number)
        if self._pages.log is not None:
            for page in self._pages.log.suspect_pages():
                yield from self._torn(page)

    def _page(self, number: int) -> Iterator[Row | Damaged]:
        page = self._pages.page(number)
        if page is None:
            return
        if not page[0] and not self._pages.is_tree(number):  # the usual: a page on which a record goes on
            return
        if self._pages.is_free(number):
            return
        tree = self._read(number)
        whole = tree is not None and tree.whole
        for cell in tree.cells if tree else ():
            row = self._any_row(cell, keyed=tree is not None and tree.kind != codec.TABLE_LEAF)
            whole = whole and isinstance(row, Row)
            if row is not None:
                yield row
        if not whole:
            yield from self._torn(page)

    def _any_row(self, cell: Cell, *, keyed: bool) -> Row | Damaged | None:
        """The row of whatever table it fits; None for one of an index, and for none at all."""
        try:
            values = codec.record(self._pages.payload(cell))
        except DecodeError:
            return Damaged(cell.rowid) if chunks.MAGIC in cell.local else None
        found = [(table, row) for table, row in candidates(values, cell.rowid, keyed=keyed) if table.name]
        if not found:
            return None
        table, row = found[0]
        for other, other_row in found[1:]:
            if (other.name == "meta") == (values[0] in _KEYS_OF_META):
                table, row = other, other_row
        return Row(table.name, row)

    # --- pages whose own order is gone ---

    def _torn(self, page: bytes) -> Iterator[Row]:
        """Chunks that stand on a damaged page still: each says itself how long it is."""
        for start in codec.starts_of(page, chunks.MAGIC):
            body = self._chunk_at(page, start)
            if body is not None:
                found = chunks.peek(body)
                yield Row("chunks", [found.number, found.created, found.priority, found.events, body])

    def _chunk_at(self, page: bytes, start: int) -> bytes | None:
        """The chunk that begins here; how much of it is on this page depends on the length of what stands before."""
        try:
            size = chunks.peek(page[start:]).size
        except DecodeError:
            return None
        if start + size <= len(page) and chunks.is_whole(page[start : start + size]):
            return page[start : start + size]
        for before in range(6, 40):  # bytes of the record's header and of the columns before the body
            local = codec.local_bytes(before + size, PAGE, table=True) - before
            if not 0 < local < size or start + local + 4 > len(page):
                continue
            overflow = int.from_bytes(page[start + local : start + local + 4], "big")
            try:
                body = self._pages.payload(Cell(0, size, page[start : start + local], overflow))
            except DecodeError:
                continue
            if chunks.is_whole(body):
                return body
        return None


def _kinds(table: Table) -> tuple[int, int]:
    return (codec.INDEX_LEAF, codec.INDEX_INTERIOR) if table.keyed else (codec.TABLE_LEAF, codec.TABLE_INTERIOR)
