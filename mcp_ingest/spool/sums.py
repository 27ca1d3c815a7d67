"""The small file beside the database: how many commits there were, and the ledger's sums after the last of them.

It is rewritten after each commit and never synced, so it survives a `kill -9` and says nothing after a power cut: then
it is behind, and that is no loss. A database that is behind *it* has forgotten commits that were acknowledged: a
write-ahead log that was deleted or cut short, an old copy that was put back, a disk that lied.

    two slots of 64 KiB, written in turn, so that a torn write leaves the one before:
        magic 4 | version 1 | the schema's version 1 | first uuid 16 | uuid 16 | commits 8 | last chunk 8 | inode 8
            | number of sums 4 | bytes of their names 4 | CRC-32 of these names 4
        sums     8 bytes each
        crc      CRC-32 of all before it
    behind them the names of the sums, lines of JSON that only ever grow in number

Numbers are the machine's own: the file is of no use on another. The sums have no reasons: a name for each input and
pipeline, each output and each term, so that there are few. A write takes 5 microseconds of CPU beside the 300 of the
smallest commit.
"""

from __future__ import annotations

import contextlib
import os
import struct
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson
from isal.isal_zlib import crc32

from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey, Ledger, LetterKey, OutputKey
from mcp_ingest.spool.schema import VERSION as SCHEMA

SUMS = "spool.sums"
MAGIC = b"MCPs"
VERSION = 1
SLOT = 65_536

_MARK = "mark"  # the scope of a line with an output, its type and its id: its low-water mark stands among the sums
_HEADER = struct.Struct("=4sBB16s16sQQQIII")
_CRC = struct.Struct("=I")
_MOST = (SLOT - _HEADER.size - _CRC.size) // 8


class Sum(NamedTuple):
    """What is counted: a term of an input and pipeline, of an output, or of the dead letters."""

    scope: str  # input, output or letters
    name: str
    pipeline: str
    term: Term


class Marked(NamedTuple):
    """An output and its low-water mark."""

    name: str
    type: str
    mark: int


@dataclass(slots=True)
class Sums:
    """What the file says. `first` is the uuid that the spool began with, `uuid` the one that it has."""

    first: bytes
    uuid: bytes
    commits: int
    last: int  # the highest number that a chunk ever had
    inode: int = 0  # of the database: a copy has another
    counts: Counter[Sum] = field(default_factory=Counter)
    outputs: dict[int, Marked] = field(default_factory=dict)  # by their ids
    schema: int = SCHEMA


def sum_of(key: InputKey | OutputKey | LetterKey) -> Sum:
    """The sum that a counter of the ledger is part of."""
    match key:
        case InputKey(name, pipeline, term, _):
            return Sum("input", name, pipeline, term)
        case OutputKey(name, term, _):
            return Sum("output", name, "", term)
        case LetterKey(term, _):
            return Sum("letters", "", "", term)


def counter_of(each: Sum, reason: str) -> InputKey | OutputKey | LetterKey:
    """The counter of the ledger under which a part of this sum stands for that reason."""
    if each.scope == "input":
        return InputKey(each.name, each.pipeline, each.term, reason)
    if each.scope == "output":
        return OutputKey(each.name, each.term, reason)
    return LetterKey(each.term, reason)


def summed(ledger: Ledger) -> Counter[Sum]:
    """The ledger without its reasons."""
    counts: Counter[Sum] = Counter()
    for key, count in ledger.items():
        counts[sum_of(key)] += count
    return counts


# --- reading -----------------------------------------------------------------------------------------------


def read_sums(directory: Path) -> Sums | None:
    """What the file says: the newer of its two slots; None when it is not there or neither can be read."""
    try:
        data = (directory / SUMS).read_bytes()
    except OSError:
        return None
    slots = [_decoded(data[start : start + SLOT], data[2 * SLOT :]) for start in (0, SLOT)]
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot.commits, default=None)


def _decoded(slot: bytes, names: bytes) -> Sums | None:
    if len(slot) < _HEADER.size:
        return None
    magic, version, schema, first, uuid, commits, last, inode, count, length, crc = _HEADER.unpack_from(slot)
    end = _HEADER.size + 8 * count
    if magic != MAGIC or version != VERSION or count > _MOST or len(slot) < end + _CRC.size:
        return None
    if crc32(slot[:end]) != _CRC.unpack_from(slot, end)[0] or crc32(names[:length]) != crc:
        return None
    found = Sums(first, uuid, commits, last, inode, schema=schema)
    numbers = struct.unpack_from(f"={count}q", slot, _HEADER.size)
    for line, number in zip(names[:length].splitlines(), numbers, strict=True):
        scope, name, second, term = orjson.loads(line)
        if scope == _MARK:
            found.outputs[int(term)] = Marked(name, second, number)
        else:
            found.counts[Sum(scope, name, second, Term(term))] = number
    return found


# --- writing -----------------------------------------------------------------------------------------------


class SumsFile:
    """The file, open for writing. Where the disk does not take it, it is behind, which says nothing."""

    def __init__(self, directory: Path, sums: Sums) -> None:
        """Written anew with these sums."""
        self._path = directory / SUMS
        self._first, self._uuid, self._inode = sums.first, sums.uuid, sums.inode
        self._places: dict[InputKey | OutputKey | LetterKey, int] = {}
        self._sums: dict[Sum, int] = {}
        self._counts = array("q")
        self._names = b""
        self._names_crc = 0
        self._slot = 0
        self._descriptor = -1
        self._marks: dict[int, int] = {}
        for each, count in sums.counts.items():
            self._sums[each] = self._name([*each], count)
        for number, (name, kind, mark) in sums.outputs.items():
            self._marks[number] = self._name([_MARK, name, kind, str(number)], mark)
        self._commits, self._last = sums.commits, sums.last
        self.create(sums.inode)

    def create(self, inode: int) -> None:
        """Write the file anew, for the database with this inode, if that is possible now."""
        self.close()
        self._inode = inode
        with contextlib.suppress(OSError):
            self._create()

    def _create(self) -> None:
        """A file beside it, put in its place when it is whole: there is a valid one at every moment."""
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, 2 * SLOT)  # so that a full disk does not stop it
            os.pwrite(descriptor, self._names, 2 * SLOT)
            os.pwrite(descriptor, self._record(), 0)
            os.replace(fresh, self._path)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        self._descriptor, self._slot = descriptor, 1

    def write(self, ledger: Ledger, commits: int, last: int, marks: Mapping[int, int]) -> None:
        """A commit with these counts was made; it is the number `commits`, its highest chunk `last`."""
        counts, places = self._counts, self._places
        for output, mark in marks.items():
            if output in self._marks:
                counts[self._marks[output]] = mark
        for key, count in ledger.items():
            place = places.get(key)
            if place is None:
                place = self._place(key)
            if place >= 0:
                counts[place] += count
        self._commits, self._last = commits, last
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, self._record(), self._slot * SLOT)
        self._slot = 1 - self._slot

    def know(self, number: int, output: Marked) -> None:
        """There is a new output, with this id."""
        if number not in self._marks and len(self._counts) < _MOST:
            self._marks[number] = self._named([_MARK, output.name, output.type, str(number)], output.mark)

    def is_there(self) -> bool:
        """Whether the file that is written to still has its name in the folder."""
        if self._descriptor < 0:
            return False
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _record(self) -> bytes:
        counts = self._counts
        record = _HEADER.pack(
            MAGIC, VERSION, SCHEMA, self._first, self._uuid, self._commits, self._last, self._inode,
            len(counts), len(self._names), self._names_crc,
        ) + counts.tobytes()  # fmt: skip
        return record + _CRC.pack(crc32(record))

    def _place(self, key: InputKey | OutputKey | LetterKey) -> int:
        """Where a counter is summed up; a new sum gets its name written, -1 when there are too many."""
        each = sum_of(key)
        if each not in self._sums and len(self._counts) < _MOST:
            self._sums[each] = self._named([*each], 0)
        place = self._places[key] = self._sums.get(each, -1)
        return place

    def _named(self, parts: list[str], number: int) -> int:
        """A place for one more number, its name written."""
        before = len(self._names)
        place = self._name(parts, number)
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, self._names[before:], 2 * SLOT + before)
        return place

    def _name(self, parts: list[str], number: int) -> int:
        """A place for one more number, and the line that names it."""
        line = orjson.dumps(parts) + b"\n"
        self._names += line
        self._names_crc = crc32(line, self._names_crc)
        self._counts.append(number)
        return len(self._counts) - 1
