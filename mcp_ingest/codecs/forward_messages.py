"""Small frames that came together, decoded in one go: messages of one event, chunks of a few.

Found and decoded one by one such a frame costs some 60 microseconds, together 4: one pass of C counts them, one
decodes them, options and records and all. Only what is common is taken: frames of one mode, not compressed, with
options that say what the protocol says, records that JSON can hold, times of one kind. For all else the answer is
None: then the careful way (`forward.Decoder`, `forward_entries.decode_entries`) finds out what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from mcp_ingest.codecs.forward import Mode
from mcp_ingest.codecs.forward_entries import MANY, REFUSED, SLICE_EVENTS, EntryRecord, RawPair, Record, times_of
from mcp_ingest.codecs.messagepack import array_header

_FRAME_BYTES = 32 * 1024  # on average: above that the careful way copies less

#: In bytes it may be four times as long: as long as a tag may be.
_Tag = Annotated[str, Meta(max_length=16 * 1024)]


class _Nothing(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An empty map."""


class _Option(msgspec.Struct, gc=False):
    """An option that asks for nothing; others are refused by the types."""

    chunk: str | None = None
    size: int = 0
    compressed: Literal["text"] = "text"
    fluent_signal: Literal[0] = 0
    metadata: _Nothing | None = None


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    tag: _Tag
    time: msgspec.Raw
    record: EntryRecord
    option: _Option | None = None


class _Forward(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    tag: _Tag
    entries: list[tuple[msgspec.Raw, EntryRecord]]
    option: _Option | None = None


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    tag: _Tag
    entries: bytes
    option: _Option | None = None


_Row = TypeVar("_Row", _Message, _Forward, _Packed)
_NO_OPTION = _Option()


@dataclass(slots=True)
class Messages:
    """Frames side by side: tag, chunk id and number of events of each; times and records of all, one after another.

    `chunks` is empty where no frame has an id; frames with and without one are not the common kind.
    """

    tags: list[str]
    chunks: list[bytes]
    counts: list[int]
    size: int
    times: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def decode_messages(mode: Mode, data: bytes | bytearray | memoryview, count: int) -> Messages | None:
    """So many frames as the elements of one array, header and all; None if they are not the common kind."""
    if count > SLICE_EVENTS or len(data) > count * _FRAME_BYTES:
        return None
    try:
        if mode is Mode.MESSAGE:
            return _messages(_decoder(_Message).decode(data), len(data))
        return _chunks(_decoder(_Forward if mode is Mode.FORWARD else _Packed).decode(data), len(data))
    except REFUSED:
        return None


@cache
def _decoder(row: type[_Row]) -> msgspec.msgpack.Decoder[list[_Row]]:
    """Made when it is first asked for: each takes ten milliseconds, which no start has to wait for."""
    return msgspec.msgpack.Decoder(list[row])  # type: ignore[valid-type]


def _messages(rows: list[_Message], size: int) -> Messages | None:
    times = times_of([row.time for row in rows])
    if times is None or (chunks := _chunk_ids([row.option or _NO_OPTION for row in rows])) is None:
        return None
    return Messages([row.tag for row in rows], chunks, [1] * len(rows), size, times, [row.record for row in rows])


def _chunks(rows: Sequence[_Forward | _Packed], size: int) -> Messages | None:
    options = [row.option or _NO_OPTION for row in rows]
    chunks = _chunk_ids(options)
    if chunks is None:
        return None
    pairs, counts = list[RawPair](), list[int]()
    for row, option in zip(rows, options, strict=True):
        entries: list[RawPair] = row.entries if isinstance(row, _Forward) else _unpacked(row.entries, option.size or 1)
        if not entries:  # a heartbeat, or an empty chunk
            return None
        pairs += entries
        counts.append(len(entries))
    if len(pairs) > SLICE_EVENTS or (times := times_of([pair[0] for pair in pairs])) is None:
        return None
    records = [pair[1] for pair in pairs]
    if set(map(type, records)) != {dict}:
        return None
    return Messages([row.tag for row in rows], chunks, counts, size, times, records)


def _unpacked(packed: bytes, count: int) -> list[RawPair]:
    if not 0 < count <= len(packed):
        raise msgspec.DecodeError("not so many")
    return MANY.decode(b"".join((array_header(count), packed)))


def _chunk_ids(options: list[_Option]) -> list[bytes] | None:
    """The chunk ids as their acks must repeat them; None if only some have one."""
    chunks = [option.chunk.encode() for option in options if option.chunk is not None]
    return chunks if len(chunks) in (0, len(options)) else None
