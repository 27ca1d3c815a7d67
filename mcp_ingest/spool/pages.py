"""The pages of a damaged database, each in its last version: from its file, or from the write-ahead log beside it.

The log is read to its end, also behind damaged frames. What stands behind its last commit is an unfinished
transaction, which nobody was told of, and is left out; unless a frame before it is damaged, which may have been the
commit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from mcp_ingest.codecs import sqlite_log as log
from mcp_ingest.codecs import sqlite_pages as codec
from mcp_ingest.errors import DecodeError
from mcp_ingest.spool.schema import PAGE

_FRAME = log.FRAME_HEADER_BYTES + PAGE


class LogFile:
    """The frames of a write-ahead log: the newest valid version of each page, and where damaged ones stand."""

    def __init__(self, path: Path, pages: int = 0) -> None:
        """`pages`: how many the database's file has. OSError when the log cannot be opened; whatever is wrong with it
        leaves it without pages.
        """
        self._file = _File(path)
        self._in_file = pages
        self.pages: dict[int, int] = {}  # to the place of its newest version in the file
        self.suspects: list[int] = []  # places of pages whose frames are damaged
        self.size = 0  # of the database in pages, after the last commit
        self.beyond = False  # there is something behind the first damaged frame, which SQLite does not see
        self._read()

    def page(self, number: int) -> bytes | None:
        """The page as the log has it, None when it has not."""
        place = self.pages.get(number)
        return None if place is None else self._file.read(place, PAGE)

    def suspect_pages(self) -> Iterator[bytes]:
        """What stands in damaged frames."""
        for place in self.suspects:
            page = self._file.read(place, PAGE)
            if page is not None:
                yield page

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read(self) -> None:
        big, salt, before = self._begin()
        waiting: dict[int, int] = {}  # of a transaction whose end has not been seen
        unchecked: set[int] = set()  # pages of frames behind one without a checksum to go on from
        for start in range(log.HEADER_BYTES, self._file.size - _FRAME + 1, _FRAME):
            data = self._file.read(start, _FRAME)
            head = data[: log.FRAME_HEADER_BYTES] if data else b""
            if data is None or head[8:16] != salt:
                before = None  # the next one cannot be checked
                if data is None or self._is_torn(head, start, salt):
                    self.suspects.append(start + log.FRAME_HEADER_BYTES)
                continue
            frame, page = log.frame(head), data[log.FRAME_HEADER_BYTES :]
            if before is None:
                unchecked.add(frame.page)
            elif not log.is_right(head, page, before, big=big):
                before = frame.checksum
                self.suspects.append(start + log.FRAME_HEADER_BYTES)
                continue
            self.beyond = self.beyond or bool(self.suspects)
            waiting[frame.page] = start + log.FRAME_HEADER_BYTES
            if frame.size and before is not None:
                self.pages |= waiting
                waiting = {}
                self.size = frame.size
            before = frame.checksum
        if self.suspects:
            self.pages |= waiting
        self._drop_impossible(unchecked)

    def _drop_impossible(self, unchecked: set[int]) -> None:
        """Pages that no frame with a right checksum speaks for, and that lie far behind all others."""
        known = max((number for number in self.pages if number not in unchecked), default=0)
        most = max(known, self._in_file) + self._file.size // _FRAME
        for number in unchecked:
            if number > most:
                self.pages.pop(number, None)

    def _begin(self) -> tuple[bool, bytes, log.Checksum | None]:
        """Byte order, salt and first checksum: the header's, or those that its frames speak for."""
        with contextlib.suppress(DecodeError):
            header = log.log_header(self._file.read(0, log.HEADER_BYTES) or b"")
            if header.whole:
                return header.big, header.salt, header.checksum
        first, second = (self._salt(log.HEADER_BYTES + n * _FRAME) for n in (1, 2))
        self.suspects += [log.HEADER_BYTES + log.FRAME_HEADER_BYTES] if first == second else []
        return False, second, None

    def _salt(self, start: int) -> bytes:
        return (self._file.read(start, log.FRAME_HEADER_BYTES) or bytes(16))[8:16]

    def _is_torn(self, head: bytes, start: int, salt: bytes) -> bool:
        """Whether a frame with another salt is a damaged one of this log: one of this log comes behind it."""
        return self._salt(start + _FRAME) == salt or self._salt(start + 2 * _FRAME) == salt


class DatabaseFile:
    """The pages of a database in a folder; use it with `with`."""

    def __init__(self, database: Path, write_ahead_log: Path) -> None:
        """Either file may be missing."""
        self._file = _File(database) if database.exists() else None
        in_file = self._file.size // PAGE if self._file else 0
        self.log = LogFile(write_ahead_log, in_file) if write_ahead_log.exists() else None
        self.count = self._count()
        self._map: tuple[int, bytes] = (0, b"")
        self._listed = self._free_list()

    def __enter__(self) -> DatabaseFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for part in (self._file, self.log):
            if part is not None:
                part.close()

    def _count(self) -> int:
        """How many pages there are: as the last commit says, or all that there may be where that is not known."""
        if self.log is not None and self.log.size and self.log_is_whole:
            return self.log.size
        in_file = self._file.size // PAGE if self._file else 0
        return max(in_file, max(self.log.pages, default=0) if self.log else 0)

    @property
    def log_is_whole(self) -> bool:
        """Whether the log has no damaged frame."""
        return self.log is None or not self.log.suspects

    def page(self, number: int) -> bytes | None:
        """A page in its last version; None when there is none, or the disk does not give it back."""
        if number < 1:
            return None
        if self.log is not None and number in self.log.pages:
            return self.log.page(number)
        return self._file.read((number - 1) * PAGE, PAGE) if self._file else None

    def is_free(self, number: int) -> bool:
        """Whether what stands on the page is no longer of use, as far as that can be told."""
        return bool(self._listed[number]) or self._entry(number)[0] == codec.FREE_PAGE

    def is_tree(self, number: int) -> bool:
        """Whether the page is one of a tree, even if it does not look like one any more."""
        return self._entry(number)[0] in (codec.ROOT_PAGE, codec.TREE_PAGE)

    def _entry(self, number: int) -> tuple[int, int]:
        if number < 3 or codec.is_map_page(number, PAGE):
            return 0, 0
        place = codec.map_page_of(number, PAGE)
        if self._map[0] != place:
            self._map = (place, self.page(place) or bytes(PAGE))
        return codec.map_entry(self._map[1], place, number)

    def _free_list(self) -> bytearray:
        """A byte for each page, set for those that the free list names; it is followed as far as it goes."""
        first, free = self.page(1), bytearray(self.count + 1)
        if first is None or not first.startswith(codec.MAGIC):
            return free
        trunk = int.from_bytes(first[32:36], "big")
        while 0 < trunk <= self.count and not free[trunk]:
            free[trunk] = 1
            page = self.page(trunk)
            if page is None:
                break
            try:
                trunk, leaves = codec.free_list(page)
            except DecodeError:
                break
            for leaf in leaves:
                if leaf <= self.count:
                    free[leaf] = 1
        return free

    def payload(self, cell: codec.Cell) -> bytes:
        """A whole record, with what stands on its overflow pages; DecodeError when one of them is missing."""
        if not cell.overflow:
            return cell.local
        pieces, missing, number = [cell.local], cell.size - len(cell.local), cell.overflow
        if missing > self.count * PAGE:
            raise DecodeError("a record is larger than its database")
        while missing > 0:
            page = self.page(number) if 2 < number <= self.count else None
            if page is None or len(page) < PAGE:
                raise DecodeError(f"a record goes on on page {number}, which cannot be read")
            number, content = codec.overflow_page(page)
            pieces.append(content[:missing])
            missing -= len(pieces[-1])
        return b"".join(pieces)


class _File:
    """Bytes of a file; what the disk does not give back is None."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, length: int) -> bytes | None:
        try:
            data = os.pread(self._descriptor, length, start)
        except OSError:
            return None
        return data if len(data) == length else None

    def close(self) -> None:
        os.close(self._descriptor)
