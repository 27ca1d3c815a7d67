"""The entries of a forward frame, decoded in slices: columns of times and records, and what was no event.

The fast way decodes a whole slice at once by types that JSON can hold. That refuses what is not UTF-8, bin values,
keys that are not strings, extensions, NaN and deep nesting; then the slice is decoded entry by entry, changing
what JSON cannot hold (`values.clean`), and one bad entry does not lose its neighbours.

Fluent Bit's additions: a v1.5 entry's metadata goes into the record's `metadata` (see `_with_metadata`); the
attributes of an OTLP group's resource become fields of the records between its markers.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mcp_ingest.codecs import values
from mcp_ingest.codecs.compression import decompressed_pieces, sniff
from mcp_ingest.codecs.forward import MAX_FRAME_BYTES, Frame
from mcp_ingest.codecs.messagepack import HEADER_BYTES, array_header, unpack, value_ends
from mcp_ingest.errors import DecodeError

SLICE_BYTES = 2 * 2**20
SLICE_EVENTS = 10_000
MAX_ENTRY_BYTES = 32 * 2**20
KEPT_BYTES = 64 * 1024  # of an entry that cannot be decoded

_LATEST = 2**63  # nanoseconds: in the year 2262
_GROUP_OPEN, _GROUP_CLOSE = 0xFFFF_FFFF, 0xFFFF_FFFE

_Finite = Annotated[float, Meta(ge=-1.7976931348623157e308, le=1.7976931348623157e308)]
_Json: Any = str | int | _Finite | bool | None
for _ in range(6):
    _Json = str | int | _Finite | bool | None | list[_Json] | dict[str, _Json]
EntryRecord = dict[str, _Json]
Record = dict[str, Any]
Pair = tuple[Any, Any]  # time as the protocol's value, record
RawPair = tuple[msgspec.Raw, Any]  # time as it is packed, record

_ONE: msgspec.msgpack.Decoder[Pair] = msgspec.msgpack.Decoder(tuple[Any, EntryRecord | str])
#: Decodes entries behind an array header, and what it raises where it cannot.
MANY: msgspec.msgpack.Decoder[list[RawPair]] = msgspec.msgpack.Decoder(list[tuple[msgspec.Raw, EntryRecord | str]])
_INTEGERS = msgspec.msgpack.Decoder(list[Annotated[int, Meta(ge=0, lt=_GROUP_CLOSE)]])
_VALUE = msgspec.msgpack.Decoder()
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Invalid:
    """An entry that is no event: the index in its frame, what could be decoded of it (bytes: nothing), why not."""

    index: int
    time: int
    record: Any
    reason: str


@dataclass(slots=True)
class Entries:
    """A slice of a frame as columns; `times` are nanoseconds since 1970, 0 where there is none that can be used.

    `indices` are the events' places in the frame, over which group markers and invalid entries count, too.
    `changed` values could not be held by JSON. `size` is in bytes, packed and not compressed.
    """

    start: int
    count: int
    size: int
    last: bool
    indices: Sequence[int] = ()
    times: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    invalid: list[Invalid] = field(default_factory=list)
    changed: int = 0


def decode_entries(
    frame: Frame,
    *,
    slice_bytes: int = SLICE_BYTES,
    slice_events: int = SLICE_EVENTS,
    max_bytes: int = MAX_FRAME_BYTES,
) -> Iterator[Entries]:
    """The frame's entries, a slice at a time; always one with `last`, which may be empty.

    DecodeError if the compressed data is damaged, TooLargeError if it holds more than `max_bytes`: both may come
    after slices that were good.
    """
    decoding = _Decoding(frame)
    for part in _parts(frame, slice_bytes, slice_events, max_bytes):
        yield decoding.decode(part)


# --- slices ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """Packed entries: `count` of them where it is known or guessed; `rest` is not to be decoded at all."""

    data: bytes | memoryview
    count: int | None
    last: bool
    ends: list[int] | None = None
    rest: bytes | bytearray = b""
    roomy: memoryview | None = None  # see `Frame`


def _pieces(frame: Frame, slice_bytes: int, max_bytes: int) -> Iterator[bytes | memoryview]:
    """The payload without its compression: magic bytes say it, `compressed` is asked where there are none."""
    payload = frame.payload
    if sniff(payload):
        yield from decompressed_pieces(payload, max_bytes, slice_bytes)
    elif frame.option.compressed != "text" and payload:
        said = frame.option.compressed
        name = said if said in ("gzip", "zstd") else f"a text of {len(said)} characters"  # it may be anything
        raise DecodeError(f"`compressed` says {name}, the bytes are neither gzip nor zstd")
    else:
        view = memoryview(payload)
        yield from (view[at : at + slice_bytes] for at in range(0, len(view), slice_bytes))


def _parts(frame: Frame, slice_bytes: int, slice_events: int, max_bytes: int) -> Iterator[_Part]:
    pieces = _pieces(frame, slice_bytes, max_bytes)
    first, second = next(pieces, b""), next(pieces, None)
    hint = frame.option.size if frame.count is None else frame.count
    if second is None and 0 < hint <= min(slice_events, len(first)):
        roomy = frame.roomy if isinstance(first, memoryview) else None  # bytes are decompressed ones
        yield _Part(first, hint, True, roomy=roomy)
        return
    held, wanted = bytearray(first), slice_bytes
    while second is not None:
        if len(held) >= wanted:
            yield from _cut(held, slice_bytes, slice_events)
            wanted = max(slice_bytes, 2 * len(held))  # an entry longer than that is not looked through each time
        held += second
        second = next(pieces, None)
    parts = list(_cut(held, slice_bytes, slice_events)) or [_Part(b"", 0, True, [])]
    parts[-1].rest, parts[-1].last = held, True
    yield from parts


def _cut(held: bytearray, slice_bytes: int, slice_events: int) -> Iterator[_Part]:
    """Parts of the entries that are complete, which are taken out of `held`."""
    ends, _ = value_ends(held)
    done = ends[-1] if ends else 0
    data = memoryview(bytes(held[:done]))
    del held[:done]
    start = at = 0
    while at < len(ends):
        until = max(at + 1, min(bisect_right(ends, start + slice_bytes), at + slice_events))
        some = ends[at:until]
        yield _Part(data[start : some[-1]], len(some), False, [end - start for end in some])
        start, at = some[-1], until


# --- one slice ---------------------------------------------------------------------------------------------


def _fast(part: _Part) -> list[RawPair] | None:
    """All entries at once, behind an array header; None where something asks for the careful way."""
    if not part.count or len(part.data) > MAX_ENTRY_BYTES:
        return None
    header = array_header(part.count)
    try:
        if part.roomy is not None:
            part.roomy[:HEADER_BYTES] = header
            return MANY.decode(part.roomy)
        return MANY.decode(b"".join((header, part.data)))
    except REFUSED:
        return None


class _Decoding:
    """What goes on from slice to slice of a frame: the index, and the group that is open."""

    def __init__(self, frame: Frame) -> None:
        self._next = 0
        self._metadata = frame.option.metadata
        self._group: Record | None = None

    def decode(self, part: _Part) -> Entries:
        pairs = _fast(part)
        if pairs is None and part.ends is None:
            part = self._counted(part)
            pairs = _fast(part)
        count = (part.count or 0) + bool(part.rest)
        entries = Entries(self._next, count, len(part.data) + len(part.rest), part.last)
        if pairs is None or not self._columns(pairs, entries):
            self._one_by_one(_with_values(pairs) or self._careful(part, entries), entries)
        if part.rest:
            why = f"{len(part.rest)} bytes that are no entry, or not all of one"
            entries.invalid.append(Invalid(self._next + count - 1, 0, bytes(part.rest[:KEPT_BYTES]), why))
        self._next += count
        return entries

    @staticmethod
    def _counted(part: _Part) -> _Part:
        ends, _ = value_ends(part.data)
        done = ends[-1] if ends else 0
        return _Part(part.data[:done], len(ends), part.last, ends, bytes(part.data[done:]))

    def _careful(self, part: _Part, entries: Entries) -> list[Pair]:
        pairs, start = list[Pair](), 0
        for end in value_ends(part.data)[0] if part.ends is None else part.ends:
            raw = part.data[start:end]
            start = end
            pairs.append(_careful_pair(raw, entries))
        return pairs

    def _columns(self, pairs: list[RawPair], entries: Entries) -> bool:
        """The common case as columns: times of one form, maps as records, no metadata."""
        records = [pair[1] for pair in pairs]
        if self._group is not None or self._metadata or not set(map(type, records)) <= {dict}:
            return False
        times = times_of([pair[0] for pair in pairs])
        if times is None:
            return False
        entries.times, entries.records = times, records
        entries.indices = range(self._next, self._next + len(pairs))
        return True

    def _one_by_one(self, pairs: list[Pair], entries: Entries) -> None:
        indices: list[int] = []
        for index, (when, record) in enumerate(pairs, self._next):
            try:
                event = self._event(when, record, entries)
            except DecodeError as error:
                entries.invalid.append(_invalid(index, when, record, error))
                continue
            if event is not None:
                indices.append(index)
                entries.times.append(event[0])
                entries.records.append(event[1])
        entries.indices = indices

    def _event(self, when: Any, record: Any, entries: Entries) -> tuple[int, Record] | None:
        """Time and record; None for a group's marker; DecodeError for what is no event."""
        if isinstance(record, _Bad):
            raise DecodeError(record.reason)
        metadata = self._metadata
        if isinstance(when, list) and len(when) == 2:
            when, metadata = when
        if (marker := _marker(when)) is not None:
            self._group = _group(metadata, record) if marker == _GROUP_OPEN else None
            return None
        time_ns = _time(when)
        if isinstance(record, str):
            record = {"message": record}
        if metadata or self._group:
            entries.changed += _with_metadata(record, metadata, self._group)
        return time_ns, record


@dataclass(frozen=True, slots=True)
class _Bad:
    """In the place of a record: what was there (bytes: nothing could be decoded), and why it is no event."""

    record: Any
    reason: str


def _careful_pair(raw: bytes | memoryview, entries: Entries) -> Pair:
    """One entry: as it is, or with what JSON cannot hold changed, or `_Bad`."""
    if len(raw) > MAX_ENTRY_BYTES:
        return None, _Bad(bytes(raw[:KEPT_BYTES]), f"an entry of {len(raw)} bytes, the limit is {MAX_ENTRY_BYTES}")
    try:
        return _ONE.decode(raw)
    except REFUSED:
        return _slow(raw, entries)


def _slow(raw: bytes | memoryview, entries: Entries) -> Pair:
    try:
        value = unpack(raw)
    except DecodeError as error:
        return None, _Bad(bytes(raw[:KEPT_BYTES]), str(error))
    if not isinstance(value, list) or len(value) < 2:
        return None, _Bad(values.clean_value(value)[0], "an entry is not [time, record]")
    try:
        record, changed = values.clean(value[1])
    except DecodeError as error:
        return value[0], _Bad(values.clean_value(value[1])[0], str(error))
    entries.changed += changed
    return value[0], record


def _invalid(index: int, when: Any, record: Any, error: DecodeError) -> Invalid:
    try:
        time_ns = _time(when[0] if isinstance(when, list) and when else when)
    except DecodeError:
        time_ns = 0
    return Invalid(index, time_ns, record.record if isinstance(record, _Bad) else record, str(error))


# --- times -------------------------------------------------------------------------------------------------


#: What is before and behind the eight bytes of an EventTime in both of its forms, and with the empty metadata of
#: Fluent Bit's entries.
_EVENT_TIMES = [(b"\xd7\x00", b""), (b"\xc7\x08\x00", b""), (b"\x92\xd7\x00", b"\x80")]


def times_of(times: Sequence[msgspec.Raw]) -> list[int] | None:
    """Nanoseconds of times that are all EventTime or all integers; None where one must be looked at alone."""
    joined, count = b"".join(times), len(times)
    for head, tail in _EVENT_TIMES:
        if (numbers := _numbers(joined, count, head, tail)) is not None:
            seconds, nanoseconds = numbers[0::2], numbers[1::2]
            if max(seconds, default=0) >= _GROUP_CLOSE or max(nanoseconds, default=0) >= 10**9:
                return None
            return [s * 1_000_000_000 + n for s, n in zip(seconds, nanoseconds, strict=True)]
    try:
        found = _INTEGERS.decode(b"".join((array_header(count), joined)))
    except REFUSED:
        return None
    return [seconds * 1_000_000_000 for seconds in found]


def _numbers(joined: bytes, count: int, head: bytes, tail: bytes) -> tuple[int, ...] | None:
    """Seconds and nanoseconds of times of one form, one behind the other; None if they are of another.

    The first bytes say how long a value is, so it is enough that each has its bytes where it must.
    """
    size = len(head) + 8 + len(tail)
    fixed = [*enumerate(head), *enumerate(tail, size - len(tail))]
    if len(joined) != size * count or any(joined[at::size] != bytes([byte]) * count for at, byte in fixed):
        return None
    packed = bytearray(8 * count)
    for place in range(8):
        packed[place::8] = joined[len(head) + place :: size]
    return struct.unpack(f">{2 * count}I", packed)


def _with_values(pairs: list[RawPair] | None) -> list[Pair] | None:
    try:
        return pairs and [(_VALUE.decode(when), record) for when, record in pairs]
    except REFUSED:
        return None


def _time(value: Any) -> int:
    """Nanoseconds of one time; 0 for nil, zero and what 64 bits cannot hold; DecodeError for what is no time."""
    if value is None:
        return 0
    if _is_event_time(value):
        seconds, nanoseconds = struct.unpack(">II", value.data)
        if nanoseconds >= 10**9:
            raise DecodeError(f"an EventTime with {nanoseconds} nanoseconds")
        return int(seconds * 1_000_000_000 + nanoseconds)
    if type(value) in (int, float):
        time_ns = round(value * 1_000_000_000) if 0 <= value < _LATEST else 0  # NaN is not
        return time_ns if time_ns < _LATEST else 0
    raise DecodeError(f"the time is of type {type(value).__name__}")


def _is_event_time(value: Any) -> bool:
    return getattr(value, "code", None) == 0 and len(value.data) == 8


# --- metadata and groups -----------------------------------------------------------------------------------


def _marker(when: Any) -> int | None:
    """Which of a group's markers this time is, or None: Fluent Bit writes them as -1 and -2 seconds."""
    if not _is_event_time(when):
        return None
    seconds, nanoseconds = struct.unpack(">II", when.data)
    return int(seconds) if seconds >= _GROUP_CLOSE and nanoseconds == 0 else None


def _group(metadata: Any, record: Any) -> Record:
    """What a group's opening says: attributes of its resource and its scope, as JSON can hold them."""
    said = record if isinstance(record, dict) else {}
    resource, scope = said.get("resource"), said.get("scope")
    attributes = resource.get("attributes") if isinstance(resource, dict) else None
    group: Record = {"attributes": attributes if isinstance(attributes, dict) else {}}
    if scope and isinstance(scope, dict):
        group["scope"] = scope
    cleaned: Record = values.clean_value(group)[0]
    return cleaned


def _with_metadata(record: Record, metadata: Any, group: Record | None) -> int:
    """Put metadata and the group's scope under the record's `metadata`, and resource attributes beside its fields.

    What the record has already stays; where its own `metadata` is no map, `otel_metadata` takes them. Returns how
    many values had to be changed.
    """
    cleaned, changed = values.clean_value(metadata if isinstance(metadata, dict) else {})
    if group:
        for key, value in group["attributes"].items():
            record.setdefault(key, value)
        if "scope" in group:
            cleaned.setdefault("scope", group["scope"])
    if cleaned:
        held = record.setdefault("metadata", {})
        target = held if isinstance(held, dict) else record.setdefault("otel_metadata", {})
        if isinstance(target, dict):
            record["metadata" if target is held else "otel_metadata"] = {**cleaned, **target}
    return changed
