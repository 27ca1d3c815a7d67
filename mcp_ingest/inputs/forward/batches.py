"""Batches out of the frames of one connection: ids, tags, and the fields that name the sender."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, chain, groupby, repeat
from typing import Any

import re2

from mcp_ingest.codecs.forward import NO_OPTION, Frame, Mode
from mcp_ingest.codecs.forward_entries import SLICE_BYTES, SLICE_EVENTS, Entries, decode_entries
from mcp_ingest.codecs.forward_messages import Messages
from mcp_ingest.context import Context
from mcp_ingest.event import PREFIX_BYTES, Batch, Chunk, ChunkSlice, Origin, Rejected, new_uid, uid_prefix
from mcp_ingest.metrics import SANITIZED

#: Fluentd's chunk ids: 16 random bytes in base64. Others may be the same for equal payloads of two senders.
_RANDOM_ID = re.compile(rb"[A-Za-z0-9+/]{22}==\n?").fullmatch
#: Several of them, all of so many bytes, one behind the other.
_RANDOM_IDS = {24: re2.compile(rb"(?:[A-Za-z0-9+/]{22}==)+"), 25: re2.compile(rb"(?:[A-Za-z0-9+/]{22}==\n)+")}

#: Decoded, an event takes that many times its packed size; compressed, packed is that many times smaller.
_DECODED, _COMPRESSED = 4, 8


def memory(frames: Sequence[Frame]) -> int:
    """Bytes of memory that the frames take from now until their events are durable."""
    size = sum(frame.length for frame in frames)
    unpacked = sum(f.length * (1 if f.option.compressed == "text" else _COMPRESSED) for f in frames)
    return memory_of(size, unpacked)


def memory_of(size: int, unpacked: int | None = None) -> int:
    """The same for a frame of which only the length is known: it is held whole, and decoded in slices."""
    return size + _DECODED * min(unpacked or size, SLICE_BYTES)


def name_parts(chunk: bytes, tag: str | None, peer: str | None) -> list[bytes]:
    """What a forward chunk's events are named after: its id, with tag and sender unless it is random.

    ValueError if tag or sender are missing where they are needed.
    """
    if _RANDOM_ID(chunk):
        return [chunk]
    if tag is None or peer is None:
        raise ValueError("as the id of a forward chunk it is not random: tag and sender's address are needed beside it")
    return [chunk, tag.encode("utf-8", "replace"), peer.encode()]


class Batches:
    """Makes the batches of one connection. `fields` are put into each record."""

    def __init__(self, context: Context, settings: Any, peer: str) -> None:
        self._context = context
        self._peer = peer
        self._about = {"peer_address": peer}
        self._prefix = ""
        self._sequence = 0
        self.change(settings)

    def change(self, settings: Any) -> None:
        """Make them by these settings from now on."""
        self.fields: dict[str, str] = {}
        self._settings = settings
        self._renames = settings.tag is not None or settings.tag_prefix is not None

    def of_chunk(self, frame: Frame, received: int) -> Iterator[tuple[Batch, Chunk]]:
        """A frame with a chunk id, slice by slice; nothing for one that holds nothing."""
        (prefix,), (digest,) = self._named([frame.option.chunk or b""], [frame.tag])
        origin = Origin(self._context.name, prefix, received, self._about)
        for entries in decode_entries(frame, max_bytes=self._settings.max_frame_bytes):
            start, last = entries.start, entries.last
            run = _Run(origin)
            run.add(self._with_fields(entries), self._tag(frame.tag), 0)
            del entries  # while the batch is emitted nobody else holds its records
            if run or start:
                yield run.batch(), ChunkSlice(digest, start, last) if start or not last else digest

    def of_messages(self, messages: Messages, received: int) -> tuple[Batch, list[bytes]]:
        """Frames that were decoded together: a run for each with its chunk id, or one for all that have none."""
        counts, count = messages.counts, len(messages.records)
        tags = [*map(self._tag, messages.tags)] if self._renames else messages.tags
        if count != len(tags):
            tags = [*chain.from_iterable(map(repeat, tags, counts))]
        for record in messages.records if self.fields else ():
            record.update(self.fields)
        if messages.chunks:
            prefixes, chunks = self._named(messages.chunks, messages.tags)
            name, about = self._context.name, self._about
            origins = [*map(Origin, repeat(name), prefixes, repeat(received), repeat(about))]
            if count == len(counts):
                ends, positions = [*range(1, count + 1)], [0] * count
            else:
                ends, positions = [*accumulate(counts)], [*chain.from_iterable(map(range, counts))]
        else:
            origins, ends, chunks = [self._own(received)], [count], []
            positions = [*range(self._sequence, self._sequence + count)]
            self._sequence += count
        return Batch(tags, messages.times, messages.records, positions, origins, ends, messages.size), chunks

    def of_loose(self, frames: Sequence[Frame], received: int) -> Iterator[Batch]:
        """Frames without a chunk id, put together up to the size of a slice."""
        origin = self._own(received)
        run = _Run(origin)
        for frame, tags in _merged(frames):
            own = [self._tag(tag) for tag in tags] if len(tags) > 1 else self._tag(tags[0])
            for entries in decode_entries(frame, max_bytes=self._settings.max_frame_bytes):
                run.add(self._with_fields(entries), own, self._sequence - entries.start)
                self._sequence += entries.count
                if run.full:
                    yield run.batch()
                    run = _Run(origin)
        if run:
            yield run.batch()

    def _own(self, received: int) -> Origin:
        """Of events without a chunk id: the connection's."""
        self._prefix = self._prefix or uid_prefix(new_uid(received))
        return Origin(self._context.name, self._prefix, received, self._about)

    def _named(self, chunks: Sequence[bytes], tags: Sequence[str]) -> tuple[list[str], list[bytes]]:
        """Id prefix (`hashed_prefix` of its `name_parts`) and digest of each chunk."""
        random = _RANDOM_IDS.get(len(chunks[0])) if len(set(map(len, chunks))) == 1 else None
        if random and random.fullmatch(b"".join(chunks)):
            return _hashed(_length(chunks[0]), chunks)
        named = [name_parts(chunk, tag, self._peer) for chunk, tag in zip(chunks, tags, strict=True)]
        return _hashed(b"", [b"".join([_length(part) + part for part in parts]) for parts in named])

    def _with_fields(self, entries: Entries) -> Entries:
        if entries.changed:
            self._context.metrics.counter(SANITIZED, input=self._context.name).inc(entries.changed)
        if self.fields:
            for record in entries.records:
                record.update(self.fields)
        return entries

    def _tag(self, tag: str) -> str:
        if self._settings.tag is not None:
            return str(self._settings.tag)
        return f"{self._settings.tag_prefix}.{tag}" if self._settings.tag_prefix else tag


def _length(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big")


def _hashed(head: bytes, names: Sequence[bytes]) -> tuple[list[str], list[bytes]]:
    """Id prefix and digest of each name behind the `head`: one hash is both, as text and as 16 bytes."""
    begun, hashed = blake2b(head, digest_size=PREFIX_BYTES), []
    for name in names:
        one = begun.copy()  # 0.4 µs, begun anew 0.7
        one.update(name)
        hashed.append(one.digest())
    text = urlsafe_b64encode(b"".join(hashed)).decode()
    return [text[at : at + 20] for at in range(0, len(text), 20)], [each + b"\0" for each in hashed]


def _merged(frames: Sequence[Frame]) -> Iterator[tuple[Frame, list[str]]]:
    """Frames with the tags of their entries (one: of all); neighbours in Message mode become one frame."""
    for single, group in groupby(frames, lambda f: f.mode is Mode.MESSAGE and f.option.metadata is None):
        if not single:
            yield from ((frame, [frame.tag]) for frame in group)
            continue
        some = list(group)
        payload = b"".join(frame.payload for frame in some)
        length = sum(frame.length for frame in some)
        yield Frame("", Mode.FORWARD, payload, NO_OPTION, len(some), length), [frame.tag for frame in some]


class _Run:
    """Columns of events of one origin, until they are a batch."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._batch = Batch([], [], [], [], [origin], [0])

    def __bool__(self) -> bool:
        return bool(len(self._batch) or self._batch.outcome.rejected)

    @property
    def full(self) -> bool:
        return self._batch.size >= SLICE_BYTES or len(self._batch) >= SLICE_EVENTS

    def add(self, entries: Entries, tags: str | list[str], offset: int) -> None:
        """Take a slice; `tags` are by the entries' indices, or one for all; positions are indices plus `offset`."""
        batch = self._batch
        count = len(entries.records)
        batch.tags += [tags] * count if isinstance(tags, str) else [tags[index] for index in entries.indices]
        batch.times += entries.times
        batch.records += entries.records
        batch.positions += [index + offset for index in entries.indices] if offset else entries.indices
        batch.size += entries.size
        for bad in entries.invalid:
            tag = tags if isinstance(tags, str) else tags[bad.index]
            position = bad.index + offset
            batch.reject(Rejected(tag, bad.time, bad.record, position, self._origin, bad.reason, why="undecodable"))

    def batch(self) -> Batch:
        """What was taken."""
        self._batch.ends = [len(self._batch)]
        return self._batch
