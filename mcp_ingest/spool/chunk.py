"""A chunk as one self-describing blob: what the database holds, and what can be read without the database.

    magic 4 | version 1 | priority 1 | coding 1 | spool uuid 16 | number 8 | created 8 | events 4 | head 4 | payload 4
    head     JSON: pipeline, tags, and for each output its destinations (null: "not for this one")
    payload  columns: ids (28 bytes each), times (int64), lengths of lines (uint32), then for tags and for each
             output with more than one different value an index for each event (uint32), then the lines, one
             behind the other; as one zstd frame (coding 1), or as they are where they are short (coding 0)
    crc      CRC-32 of all before it

All numbers are little-endian. Tried with 1,000 JSON lines of 507 bytes on a busy shared core, microseconds of
CPU an event for compressing / decompressing, and how much smaller (ids and times are part of it):

    isal zlib 1   0.86 / 0.61   4.3 : 1
    zstd -7       0.54 / 0.24   3.1 : 1
    zstd -5       0.59 / 0.23   3.1 : 1     chosen
    zstd -3       0.63 / 0.23   3.3 : 1
    zstd -1       0.82 / 0.27   3.5 : 1
    zstd 1        1.09 / 0.36   5.0 : 1
    zstd 3        1.46 / 0.37   5.0 : 1

A better ratio saves SQLite a little (0.42 for writing and deleting 150 bytes an event) but never what it costs.
Ids, times and lengths cost 0.05 an event and 15 bytes in the same frame, so they need no coding of their own.
CRC-32 of isal is eighteen times as fast as zlib's (0.007 against 0.13 an event).
A single event is not compressed: that costs 12 microseconds, and makes 500 bytes no smaller.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from backports import zstd
from isal.isal_zlib import crc32

from mcp_ingest.errors import DecodeError
from mcp_ingest.spool.model import Chunk, NewChunk

MAGIC = b"MCPk"
VERSION = 1
ID_LENGTH = 28
LEVEL = -5

PLAIN, ZSTD = 0, 1
PLAIN_BELOW = 1024  # bytes of payload

_HEADER = struct.Struct("<4sBBB16sQqIII")
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


def encode(chunk: NewChunk, stamp: Stamp) -> bytes:
    """The blob; ValueError when columns differ in length or an id has not 28 characters."""
    count = len(chunk.lines)
    _check(chunk, count)
    indices: list[bytes] = []
    head = {
        "pipeline": chunk.pipeline,
        "tags": _dictionary(chunk.tags, indices),
        "outputs": {name: _dictionary(column, indices) for name, column in chunk.destinations.items()},
    }
    columns = [
        "".join(chunk.ids).encode("ascii"),
        _bytes(array("q", chunk.times)),
        _bytes(array("I", map(len, chunk.lines))),
        *indices,
    ]
    payload = b"".join([*columns, *chunk.lines])
    coding = PLAIN if len(payload) < PLAIN_BELOW else ZSTD
    packed = zstd.compress(payload, LEVEL) if coding == ZSTD else payload
    front = orjson.dumps(head)
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        chunk.priority,
        coding,
        stamp.uuid,
        stamp.number,
        stamp.created,
        count,
        len(front),
        len(packed),
    )
    body = b"".join((header, front, packed))
    return body + _CRC.pack(crc32(body))


def _check(chunk: NewChunk, count: int) -> None:
    columns: list[Sequence[object]] = [chunk.ids, chunk.times, chunk.tags, *chunk.destinations.values()]
    if any(len(column) != count for column in columns):
        raise ValueError(f"a chunk's columns differ in length: {[count, *map(len, columns)]}")
    if count and set(map(len, chunk.ids)) != {ID_LENGTH}:
        raise ValueError(f"an id of a chunk has not {ID_LENGTH} characters")


def _dictionary(column: Sequence[str | None], indices: list[bytes]) -> list[str | None]:
    """The different values of a column; more than one, and the column's indices are put behind `indices`."""
    values = list(dict.fromkeys(column))
    if len(values) > 1:
        places = {value: place for place, value in enumerate(values)}
        indices.append(_bytes(array("I", map(places.__getitem__, column))))
    return values


def _bytes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


# --- out ---------------------------------------------------------------------------------------------------


def decode(body: bytes, number: int, uuids: Collection[bytes]) -> Chunk:
    """The chunk of this blob; DecodeError when it is damaged, another's, or of a spool not among `uuids`."""
    if len(body) < _HEADER.size + _CRC.size:
        raise DecodeError(f"chunk {number} is cut off: {len(body)} bytes")
    magic, version, priority, coding, uuid, written, created, count, front, packed = _HEADER.unpack_from(body)
    if magic != MAGIC or version != VERSION:
        raise DecodeError(f"chunk {number} does not begin like a chunk")
    if len(body) != _HEADER.size + front + packed + _CRC.size:
        raise DecodeError(f"chunk {number} has {len(body)} bytes, its header says otherwise")
    if crc32(memoryview(body)[: -_CRC.size]) != _CRC.unpack_from(body, len(body) - _CRC.size)[0]:
        raise DecodeError(f"chunk {number} is damaged: its checksum is wrong")
    if uuid not in uuids or written != number:
        raise DecodeError(f"chunk {number} is another's: {chunk_name(uuid, written)}")
    stamp = Stamp(uuid, number, created)
    try:
        head = orjson.loads(body[_HEADER.size : _HEADER.size + front])
        payload = body[_HEADER.size + front : -_CRC.size]
        if coding == ZSTD:
            payload = zstd.decompress(payload)
        return _columns(stamp, priority, count, head, payload)
    except (zstd.ZstdError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DecodeError(f"chunk {number} cannot be read: {error}") from error


def _columns(stamp: Stamp, priority: int, count: int, head: dict[str, Any], payload: bytes) -> Chunk:
    ids_end = ID_LENGTH * count
    times_end = ids_end + 8 * count
    lengths_end = times_end + 4 * count
    joined = payload[:ids_end].decode("ascii")
    place = lengths_end

    def column(values: list[Any]) -> list[Any]:
        nonlocal place
        if len(values) < 2:
            return values * count
        place += 4 * count
        return list(map(values.__getitem__, _numbers("I", payload[place - 4 * count : place])))

    tags = column(head["tags"])
    destinations = {name: column(values) for name, values in head["outputs"].items()}
    return Chunk(
        number=stamp.number,
        name=stamp.name,
        created=stamp.created,
        pipeline=head["pipeline"],
        priority=priority,
        ids=[joined[start : start + ID_LENGTH] for start in range(0, ids_end, ID_LENGTH)],
        times=_numbers("q", payload[ids_end:times_end]),
        tags=tags,
        lines=_lines(payload, place, _numbers("I", payload[times_end:lengths_end])),
        destinations=destinations,
    )


def _numbers(code: str, data: bytes) -> list[int]:
    numbers = array(code)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


def _lines(payload: bytes, start: int, lengths: list[int]) -> list[bytes]:
    lines = []
    for length in lengths:
        end = start + length
        lines.append(payload[start:end])
        start = end
    if start != len(payload):
        raise ValueError("the lines do not fill the payload")
    return lines
