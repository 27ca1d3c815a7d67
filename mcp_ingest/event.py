"""What flows: `Batch`, columns side by side, and `Event`, a view of one row for who wants one.

A batch has no object for each event: `tags`, `times`, `records` and `positions` are parallel lists, and what
changes seldom (where the events came from, when they were received) stands once for a run of events.
"""

from __future__ import annotations

import base64
import hashlib
import operator
import os
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, chain, compress, repeat
from typing import Any

import msgspec

from mcp_ingest.errors import IngestError

Record = dict[str, Any]

OURS = "mcp-ingest"  # where an input's name stands of events that mcp-ingest makes itself: `generated`, not received


class Term(StrEnum):
    """The terms of the ledger's three sums (way in, each output, dead letters)."""

    RECEIVED = "received"
    GENERATED = "generated"
    ACCEPTED = "accepted"
    FILTERED = "filtered"
    JOINED = "joined"
    DEDUPLICATED = "deduplicated"
    DEAD_LETTERED = "dead_lettered"
    DROPPED = "dropped"
    ASSIGNED = "assigned"
    REPLAYED = "replayed"
    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    REDIRECTED = "redirected"
    LOST = "lost"
    EXPIRED = "expired"
    DELETED = "deleted"


# --- ids ---------------------------------------------------------------------------------------------------

PREFIX_BYTES = 15
_SMALL = 65_536
_BLOCK = 1024
_SUFFIXES: list[str] = []  # of the positions from 0 on, a block at a time


def id_suffixes(positions: Sequence[int]) -> list[str]:
    """The last 8 characters of an `_id` for each position (0 to 2**48 - 1), small ones from a table."""
    highest = max(positions, default=0)
    if highest >= _SMALL:
        return _made(positions)
    while highest >= len(_SUFFIXES):
        _SUFFIXES.extend(_made(range(len(_SUFFIXES), len(_SUFFIXES) + _BLOCK)))
    return [*map(_SUFFIXES.__getitem__, positions)]


def _made(positions: Sequence[int]) -> list[str]:
    """All at once: 6 bytes are 8 characters, wherever they stand."""
    text = base64.urlsafe_b64encode(b"".join([position.to_bytes(6, "big") for position in positions])).decode()
    return [text[start : start + 8] for start in range(0, len(text), 8)]


def id_parts(event_id: str) -> tuple[str, int]:
    """Prefix and position of an `_id`; ValueError if it is none."""
    if len(event_id) != 28:
        raise ValueError(f"an id has 28 characters, not {len(event_id)}")
    return event_id[:20], int.from_bytes(base64.urlsafe_b64decode(event_id[20:].encode("ascii")), "big")


def id_prefix(raw: bytes) -> str:
    """The first 20 characters of an `_id`, from the 15 bytes that name its source."""
    if len(raw) != PREFIX_BYTES:
        raise ValueError(f"an id prefix has {PREFIX_BYTES} bytes, not {len(raw)}")
    return base64.urlsafe_b64encode(raw).decode()


def hashed_prefix(*parts: bytes) -> str:
    """A prefix that is the same for the same parts: BLAKE2b over them, each with its length before it."""
    digest = hashlib.blake2b(digest_size=PREFIX_BYTES)
    for part in parts:
        digest.update(struct.pack(">I", len(part)) + part)
    return id_prefix(digest.digest())


def new_uid(time_ns: int) -> bytes:
    """12 bytes that nothing else has: 6 of the time in microseconds (so that ids grow), 6 random."""
    return (time_ns // 1000 & 0xFFFF_FFFF_FFFF).to_bytes(6, "big") + os.urandom(6)


def uid_prefix(uid: bytes, generation: int = 0) -> str:
    """The prefix of a source with a uid of its own: 12 bytes of uid, 3 of generation."""
    return id_prefix(uid + generation.to_bytes(3, "big"))


# --- where events come from --------------------------------------------------------------------------------


class Origin(msgspec.Struct, frozen=True, gc=False):
    """What a run of events has in common.

    `input` is the input's name, `prefix` the first 20 characters of the ids, `received` nanoseconds since
    1970, `metadata` what the protocol said of the whole run (peer address, file path, resource attributes).
    """

    input: str
    prefix: str
    received: int
    metadata: dict[str, Any] = {}


class Stream:
    """One ordered source (a connection, a file): after a failed emit every later one fails, too.

    So a later offset is never committed over events that were lost; the input goes back to what is
    committed and opens a new `Stream`.
    """

    __slots__ = ("failed",)

    def __init__(self) -> None:
        self.failed: BaseException | None = None


class ChunkSlice(msgspec.Struct, frozen=True, gc=False):
    """Part of a forward chunk: `digest` (16 bytes) names the chunk, `start` is the first event's index."""

    digest: bytes
    start: int
    last: bool


#: A whole forward chunk, by its digest (16 bytes), or a slice of one.
Chunk = bytes | ChunkSlice


@dataclass(slots=True)
class Progress:
    """What becomes durable together with a batch: new positions (None deletes), the forward chunks' ids.

    One chunk, or a slice of one, is the whole batch; of several whole ones each is the run with its number
    (`Batch.origins`), which may be empty.
    """

    stream: Stream | None = None
    positions: dict[str, bytes | None] = field(default_factory=dict)
    chunks: Sequence[Chunk] = ()


# --- the batch ---------------------------------------------------------------------------------------------

_INPUT, _PREFIX = operator.attrgetter("input"), operator.attrgetter("prefix")


@dataclass(slots=True)
class Rejected:
    """An event that left the chain as a dead letter: `record` may be bytes where nothing could be decoded."""

    tag: str
    time: int
    record: Any
    position: int
    origin: Origin
    reason: str
    stage: str = ""
    why: str = "stage"  # the class of the reason, bounded: a label of the ledger


@dataclass(slots=True)
class Outcome:
    """What became of events that are no longer in the batch, and what is to be counted after the commit."""

    removed: Counter[tuple[str, Term, str]] = field(default_factory=Counter)  # (input, term, reason)
    rejected: list[Rejected] = field(default_factory=list)
    effects: list[Callable[[], None]] = field(default_factory=list)

    def take(self, other: Outcome) -> None:
        """Add all that the other one has; it is empty then."""
        self.removed.update(other.removed)
        self.rejected += other.rejected
        self.effects += other.effects
        for part in (other.removed, other.rejected, other.effects):
            part.clear()


class Batch:
    """Events of one pipeline as columns; see the module's docstring.

    `times` are nanoseconds since 1970 as the protocol had them (0: it had none). `positions` are the events'
    places in their source, the last part of their ids. `origins[i]` holds for the events from `ends[i-1]` to
    `ends[i]`. Records belong to the pipeline: stages change them in place.

    `serialised` is each record's JSON, where a stage had to make it and later ones left the record alone (empty
    bytes: they did not), so that it is not made twice; None where nobody did. See `Stage.keeps_serialised`.
    """

    __slots__ = ("ends", "origins", "outcome", "positions", "records", "serialised", "size", "tags", "times")

    def __init__(
        self,
        tags: list[str],
        times: list[int],
        records: list[Record],
        positions: list[int],
        origins: list[Origin],
        ends: list[int],
        size: int = 0,
    ) -> None:
        self.tags = tags
        self.times = times
        self.records = records
        self.positions = positions
        self.origins = origins
        self.ends = ends
        self.size = size  # bytes as received, for the counters; 0 where nobody knows
        self.serialised: list[bytes] | None = None
        self.outcome = Outcome()

    @classmethod
    def of(
        cls,
        origin: Origin,
        tags: str | list[str],
        times: list[int],
        records: list[Record],
        positions: list[int],
        size: int = 0,
    ) -> Batch:
        """A batch of one run; a single tag stands for all events."""
        count = len(records)
        columns = [tags] * count if isinstance(tags, str) else tags
        return cls(columns, times, records, positions, [origin], [count], size)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Event]:
        return (Event(self, index) for index in range(len(self.records)))

    def reject(self, rejected: Rejected) -> None:
        """Hand in an event that could not even be decoded: it is received, and a dead letter."""
        self.outcome.rejected.append(rejected)

    def keep(self, mask: Sequence[object], term: Term, reason: str) -> Batch:
        """Take out the events whose place in `mask` is false, counted under `term` and `reason`."""
        before = self.counts()
        self._compress(mask)
        for name, gone in (before - self.counts()).items():
            self.outcome.removed[name, term, reason] += gone
        return self

    def fail(self, errors: dict[int, BaseException], stage: str) -> Batch:
        """Take out the events at these indices as dead letters of a stage, each with its reason."""
        if not errors:
            return self
        for index, error in errors.items():
            self.outcome.rejected.append(
                Rejected(
                    self.tags[index],
                    self.times[index],
                    self.records[index],
                    self.positions[index],
                    self.origin(index),
                    describe(error),
                    stage,
                )
            )
        self._compress([index not in errors for index in range(len(self))])
        return self

    def origin(self, index: int) -> Origin:
        """Where the event at this index came from."""
        return self.origins[bisect_right(self.ends, index)]

    def runs(self) -> Iterator[tuple[Origin, int, int]]:
        """Each run of one origin as (origin, first index, index behind the last)."""
        start = 0
        for origin, end in zip(self.origins, self.ends, strict=True):
            yield origin, start, end
            start = end

    def ids(self) -> list[str]:
        """The `_id` of each event: prefix of its source, position in it."""
        suffixes = id_suffixes(self.positions)
        if len(self.origins) == 1:
            prefix = self.origins[0].prefix
            return [prefix + suffix for suffix in suffixes]
        prefixes: Iterable[str] = map(_PREFIX, self.origins)
        if self.ends != [*range(1, len(suffixes) + 1)]:  # messages of one event each have one for each
            lengths = map(operator.sub, self.ends, [0, *self.ends])
            prefixes = chain.from_iterable(map(repeat, prefixes, lengths))
        return [*map(operator.add, prefixes, suffixes)]

    def select(self, indices: Sequence[int]) -> Batch:
        """A new batch of these events, in this order, with an outcome of its own; records are shared."""
        if len(self.origins) == 1:
            origins, ends = self.origins[:], [len(indices)]
        else:
            origins, ends = [self.origin(i) for i in indices], list(range(1, len(indices) + 1))
        selected = Batch(
            [self.tags[i] for i in indices],
            [self.times[i] for i in indices],
            [self.records[i] for i in indices],
            [self.positions[i] for i in indices],
            origins,
            ends,
        )
        if self.serialised is not None:
            selected.serialised = [self.serialised[i] for i in indices]
        return selected

    def take_runs(self, numbers: Collection[int]) -> Batch:
        """Take out the runs with these numbers, before any stage: a batch of them and of what was rejected of them.

        `origins` of different runs must be different objects, equal or not.
        """
        rest, taken = Batch([], [], [], [], [], []), Batch([], [], [], [], [], [])
        for number, (origin, start, end) in enumerate(self.runs()):
            part = taken if number in numbers else rest
            part.tags += self.tags[start:end]
            part.times += self.times[start:end]
            part.records += self.records[start:end]
            part.positions += self.positions[start:end]
            part.origins.append(origin)
            part.ends.append(len(part))
        theirs = set(map(id, rest.origins))
        taken.outcome.rejected = [each for each in self.outcome.rejected if id(each.origin) not in theirs]
        self.outcome.rejected = [each for each in self.outcome.rejected if id(each.origin) in theirs]
        taken.size = self.size * len(taken) // max(len(self), 1)
        self.size -= taken.size
        self.tags, self.times, self.records, self.positions = rest.tags, rest.times, rest.records, rest.positions
        self.origins, self.ends = rest.origins, rest.ends
        return taken

    @classmethod
    def merge(cls, batches: Iterable[Batch]) -> Batch:
        """One batch of all, in order; their outcomes move into its own, so that nothing is counted twice.

        It has no `serialised`.
        """
        whole = cls([], [], [], [], [], [])
        for batch in batches:
            offset = len(whole)
            whole.tags += batch.tags
            whole.times += batch.times
            whole.records += batch.records
            whole.positions += batch.positions
            whole.origins += batch.origins
            whole.ends += [offset + end for end in batch.ends]
            whole.size += batch.size
            whole.outcome.take(batch.outcome)
        return whole

    def counts(self) -> Counter[str]:
        """How many events of each input are in the batch."""
        inputs = set(map(_INPUT, self.origins))
        if len(inputs) == 1:
            return Counter({inputs.pop(): len(self.records)})
        counts: Counter[str] = Counter()
        for origin, start, end in self.runs():
            counts[origin.input] += end - start
        return counts

    def _compress(self, mask: Sequence[object]) -> None:
        for column in ("tags", "times", "records", "positions", "serialised"):
            values = getattr(self, column)
            if values is not None:
                setattr(self, column, list(compress(values, mask)))
        if len(self.ends) == 1:
            self.ends = [len(self.records)]
        elif self.ends == [*range(1, len(mask) + 1)]:  # messages of one event each: a run that is empty is no run
            self.origins = list(compress(self.origins, mask))
            self.ends = [*range(1, len(self.records) + 1)]
        else:
            kept = [0, *accumulate(map(bool, mask))]
            self.ends = [kept[end] for end in self.ends]


class Event:
    """One row of a batch, for a stage of one event: `record` may be changed in place or replaced."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    @property
    def tag(self) -> str:
        """The tag, which chose the pipeline."""
        return self._batch.tags[self._index]

    @property
    def time(self) -> int:
        """Nanoseconds since 1970 as the protocol had them, 0 where it had none."""
        return self._batch.times[self._index]

    @time.setter
    def time(self, value: int) -> None:
        self._batch.times[self._index] = value

    @property
    def record(self) -> Record:
        """The event's fields."""
        return self._batch.records[self._index]

    @record.setter
    def record(self, value: Record) -> None:
        self._batch.records[self._index] = value

    @property
    def origin(self) -> Origin:
        """Where the event came from."""
        return self._batch.origin(self._index)


def describe(error: BaseException) -> str:
    """An error as one line for a person: our own sentences as they are, others with their type before."""
    text = " ".join(str(error).split())
    return text if isinstance(error, IngestError) and text else f"{type(error).__name__}: {text}"
