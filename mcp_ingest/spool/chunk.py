"""A chunk as one self-describing blob: what the database holds, and what can be read without the database.

    magic 4 | version 1 | priority 1 | compressed 1 | spool uuid 16 | number 8 | created 8 | events 4
        | head 4 | indices 4 | entries 4 | their length 4 | their CRC-32 4
    head     JSON: pipeline, tags, and for each output its destinations (null: "not for this one")
    indices  for tags and for each output with more than one different value an index for each event (one, two or
             four bytes, by the number of values)
    entries  ids and lines as the body of a bulk request (`codecs/bulk.py`), as one segment (`codecs/segments.py`);
             as they are where they are short
    crc      CRC-32 of all before it

All numbers are little-endian. What is in the spool is what goes on the wire: a request is made of the segments of its
chunks. Before, ids, times, lengths and lines stood in a zstd frame: compressing them cost the same (1.15 µs of CPU an
event for zstd -5, 3.5 : 1, as for deflate, 4.7 : 1), but then each request had to be built and compressed (another
1.5). The lines have the times: nobody needs them twice. CRC-32 of isal is eighteen times as fast as zlib's (0.007
against 0.13 an event).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from isal.isal_zlib import crc32

from mcp_ingest.codecs.columns import Coded, index_code
from mcp_ingest.codecs.segments import Segment, segment
from mcp_ingest.errors import DecodeError
from mcp_ingest.spool.model import Chunk, NewChunk

MAGIC = b"MCPk"
VERSION = 1

_HEADER = struct.Struct("<4sBB?16sQqIIIIII")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the spool adds to a chunk: the uuid of its database (16 bytes), the number, the time of the commit."""

    uuid: bytes
    number: int
    created: int

    @property
    def name(self) -> str:
        """The chunk's name for ever."""
        return chunk_name(self.uuid, self.number)


def chunk_name(uuid: bytes, number: int) -> str:
    """The spool's uuid in hex, a dash, the number."""
    return f"{uuid.hex()}-{number}"


# --- in ----------------------------------------------------------------------------------------------------


def stamped(new: NewChunk, stamp: Stamp) -> Chunk:
    """The chunk under its number, its entries compressed; ValueError when its columns differ in length."""
    count = len(new.tags)
    if any(len(column) != count for column in new.destinations.values()):
        raise ValueError(f"a chunk's columns differ in length: {[count, *map(len, new.destinations.values())]}")
    return Chunk(
        stamp.number,
        stamp.name,
        stamp.created,
        new.pipeline,
        new.priority,
        segment(new.entries),
        Coded.of(new.tags),
        {name: Coded.of(column) for name, column in new.destinations.items()},
    )


def wanted(column: Coded[str | None]) -> int:
    """How many events have a destination."""
    if column.indices is None or None not in column.values:
        return len(column)
    return len(column) - [*column].count(None)


def encode(chunk: Chunk, uuid: bytes) -> bytes:
    """The blob."""
    head = orjson.dumps({
        "pipeline": chunk.pipeline,
        "tags": chunk.tags.values,
        "outputs": {name: column.values for name, column in chunk.destinations.items()},
    })  # fmt: skip
    indices = _indices(chunk.tags) + b"".join(map(_indices, chunk.destinations.values()))
    entries = chunk.entries
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        chunk.priority,
        entries.compressed,
        uuid,
        chunk.number,
        chunk.created,
        len(chunk.tags),
        len(head),
        len(indices),
        len(entries.data),
        entries.length,
        entries.crc,
    )
    body = b"".join((header, head, indices, entries.data))
    return body + _CRC.pack(crc32(body))


def _indices(column: Coded[Any]) -> bytes:
    if column.indices is None:
        return b""
    numbers = array(index_code(len(column.values)), column.indices)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


# --- out ---------------------------------------------------------------------------------------------------


class Label(NamedTuple):
    """What a blob's first bytes say of it; `size` is the blob's."""

    uuid: bytes
    number: int
    created: int
    priority: int
    events: int
    size: int


def peek(body: bytes) -> Label:
    """The label of a blob of which the beginning is there; DecodeError when it does not begin like a chunk."""
    if len(body) < _HEADER.size:
        raise DecodeError(f"no chunk: {len(body)} bytes")
    magic, version, priority, _, uuid, number, created, events, head, indices, packed, _, _ = _HEADER.unpack_from(body)
    if magic != MAGIC or version != VERSION:
        raise DecodeError("it does not begin like a chunk")
    return Label(uuid, number, created, priority, events, _HEADER.size + head + indices + packed + _CRC.size)


def is_whole(body: bytes) -> bool:
    """Whether a blob's checksum is right."""
    (crc,) = _CRC.unpack_from(body, len(body) - _CRC.size)
    return crc32(memoryview(body)[: -_CRC.size]) == int(crc)


def decode(body: bytes, number: int, uuids: Collection[bytes]) -> Chunk:
    """The chunk of this blob; DecodeError when it is damaged, another's, or of a spool not among `uuids`."""
    if len(body) < _HEADER.size + _CRC.size:
        raise DecodeError(f"chunk {number} is cut off: {len(body)} bytes")
    (magic, version, priority, compressed, uuid, written, created, count, head, indices, packed, length, crc) = (
        _HEADER.unpack_from(body)
    )
    if magic != MAGIC or version != VERSION:
        raise DecodeError(f"chunk {number} does not begin like a chunk")
    if len(body) != _HEADER.size + head + indices + packed + _CRC.size:
        raise DecodeError(f"chunk {number} has {len(body)} bytes, its header says otherwise")
    if crc32(memoryview(body)[: -_CRC.size]) != _CRC.unpack_from(body, len(body) - _CRC.size)[0]:
        raise DecodeError(f"chunk {number} is damaged: its checksum is wrong")
    if uuid not in uuids or written != number:
        raise DecodeError(f"chunk {number} is another's: {chunk_name(uuid, written)}")
    at_indices = _HEADER.size + head
    at_entries = at_indices + indices
    entries = Segment(body[at_entries : -_CRC.size], crc, length, compressed)
    try:
        columns = _Columns(count, body[at_indices:at_entries])
        said = orjson.loads(body[_HEADER.size : at_indices])
        tags = columns.next(said["tags"])
        destinations = {name: columns.next(values) for name, values in said["outputs"].items()}
        return Chunk(number, chunk_name(uuid, number), created, said["pipeline"], priority, entries, tags, destinations)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DecodeError(f"chunk {number} cannot be read: {error}") from error


class _Columns:
    """Takes the columns' indices one after the other."""

    def __init__(self, count: int, indices: bytes) -> None:
        self._count = count
        self._indices = indices
        self._at = 0

    def next(self, values: list[Any]) -> Coded[Any]:
        """The column of these values; IndexError if an index names none."""
        if len(values) < 2:
            return Coded(values, self._count)
        numbers = array(index_code(len(values)))
        end = self._at + self._count * numbers.itemsize
        numbers.frombytes(self._indices[self._at : end])
        self._at = end
        if sys.byteorder == "big":
            numbers.byteswap()
        if len(numbers) != self._count or max(numbers, default=0) >= len(values):
            raise IndexError("an index of a column names no value")
        return Coded(values, self._count, numbers)
