"""What goes into the spool and comes out of it: values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mcp_ingest.codecs.bulk import ENTRY_BYTES, bulk_entries, entry_ids, entry_lines
from mcp_ingest.codecs.columns import Coded, Late, nanoseconds
from mcp_ingest.codecs.segments import Segment, inflate
from mcp_ingest.component import ByteSize, Duration, Settings
from mcp_ingest.errors import DamagedChunkError, DecodeError
from mcp_ingest.event import Term

NORMAL, HIGH = 0, 1


class DeadLetterSettings(Settings):
    """How long dead letters are kept, and how many bytes of them."""

    max_age: Annotated[Duration, Meta(description="Age above which a dead letter is let go, counted as `expired`.")] = (
        msgspec.field(default_factory=lambda: Duration(30 * 86_400))
    )
    max_bytes: Annotated[
        ByteSize | None,
        Meta(description="Bytes above which the oldest are let go; without it an eighth of `spool.max_bytes`."),
    ] = None


class SpoolSettings(Settings):
    """Where events are held until they are delivered, and how much of the disk they may take."""

    directory: Annotated[str, Meta(description="The spool's folder; one daemon at a time.")] = "mcp-ingest-data/spool"
    max_bytes: Annotated[
        ByteSize, Meta(description="Used bytes above which `when_full` applies; the write-ahead log counts apart.")
    ] = msgspec.field(default_factory=lambda: ByteSize(8 * 2**30))
    when_full: Annotated[
        Literal["block", "drop_oldest", "reject"],
        Meta(
            description="`block`: inputs wait, their senders see backpressure. `drop_oldest`: the oldest events are "
            "let go, errors last. `reject`: senders are refused and come again; files are read later."
        ),
    ] = "block"
    max_removed_backlog: Annotated[
        ByteSize,
        Meta(description="Bytes that an output may owe which the configuration has no more; above, its oldest go."),
    ] = msgspec.field(default_factory=lambda: ByteSize(2**30))
    ballast_bytes: Annotated[
        ByteSize,
        Meta(description="Size of the file that is given up when the disk is full, so that deletes still work."),
    ] = msgspec.field(default_factory=lambda: ByteSize(16 * 2**20))
    dead_letters: Annotated[DeadLetterSettings, Meta(description="What is kept of events that could not go on.")] = (
        msgspec.field(default_factory=DeadLetterSettings)
    )

    def check(self) -> list[str]:
        """Dead letters must leave room for events."""
        chosen = self.dead_letters.max_bytes
        if chosen is not None and chosen * 2 > self.max_bytes:
            return ["dead_letters.max_bytes: must be half of `spool.max_bytes` at most: the rest is for events"]
        return []

    @property
    def dead_letter_bytes(self) -> int:
        """The bound of the dead letters' bytes."""
        chosen = self.dead_letters.max_bytes
        return self.max_bytes // 8 if chosen is None else chosen


class InputKey(NamedTuple):
    """A counter of the way in."""

    input: str
    pipeline: str
    term: Term
    reason: str = ""


class OutputKey(NamedTuple):
    """A counter of an output."""

    output: str
    term: Term
    reason: str = ""


class LetterKey(NamedTuple):
    """A counter of the dead letters' own sum."""

    term: Term
    reason: str = ""


Ledger = Counter[InputKey | OutputKey | LetterKey]


@dataclass(slots=True)
class NewChunk:
    """One route's events of one commit; `entries` are their ids and lines as `codecs/bulk.py` has them.

    `destinations` has an entry for each output that gets events of this chunk: a destination for each event,
    None for "not for this output".
    """

    pipeline: str
    priority: int
    entries: bytes
    tags: list[str]
    destinations: dict[str, list[str | None]]

    @classmethod
    def of(
        cls,
        pipeline: str,
        priority: int,
        ids: Sequence[str],
        tags: list[str],
        lines: Sequence[bytes],
        destinations: dict[str, list[str | None]],
    ) -> NewChunk:
        """The same from columns: ids of 28 characters, lines of JSON without line ends."""
        return cls(pipeline, priority, bulk_entries(ids, lines), tags, destinations)


Form = Literal["record", "undecodable", "withheld"]


@dataclass(slots=True)
class DeadLetter:
    """An event that could not go on, masked: `record` is JSON, `output` is empty for one of the way in.

    `form` says what the record is: the event's own ("record"), what could not be decoded ("undecodable"), or only
    that masking it failed ("withheld"). `output_type`, `signature` and `number` are given by the spool.
    """

    time: int  # when it died, nanoseconds since 1970
    reason: str
    kind: str
    tag: str
    record: bytes
    event_id: str
    event_time: int
    input: str = ""
    pipeline: str = ""
    stage: str = ""
    output: str = ""
    destination: str = ""
    form: Form = "record"
    received: int = 0  # nanoseconds since 1970; of one of an output the time of its commit
    output_type: str = ""
    signature: str = ""
    number: int = 0


@dataclass(slots=True)
class LetterGroup:
    """Dead letters of one signature: how many, their bytes, when the first and the last died, the last one's reason."""

    signature: str
    kind: str
    output: str
    input: str
    pipeline: str
    stage: str
    letters: int
    bytes: int
    oldest: int
    newest: int
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant: those with these numbers, or all that fit whatever is named of the rest.

    `reason` is a part of the reason, in any case of letters; `since` nanoseconds since 1970.
    """

    numbers: tuple[int, ...] | None = None
    group: str | None = None
    output: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    reason: str | None = None
    since: int | None = None


@dataclass(slots=True)
class KeptLetters:
    """What there is of dead letters: how many, of each kind, their bytes, when the oldest died."""

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    oldest: int | None = None


@dataclass(slots=True)
class Removal:
    """Dead letters that leave: those with these numbers, under a term of their sum; None: those beyond the bounds.

    `why` is what is wrong with those that are `lost`: what can be read of them is set aside.
    """

    numbers: Sequence[int] | None
    term: Term = Term.DELETED
    why: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """What an output, by its id, owes no more: events by the chunk's number, all that it owed of it."""

    output: int
    chunks: dict[int, int]


@dataclass(slots=True)
class Intake:
    """What one commit makes durable, all of it or nothing."""

    chunks: list[NewChunk] = field(default_factory=list)
    positions: dict[str, bytes | None] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)  # of forward chunk ids, 16 bytes each, all done
    letters: list[DeadLetter] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Counter)
    replayed: list[int] = field(default_factory=list)  # numbers of dead letters that this commit takes the place of
    moved: Moved | None = None  # what this commit takes the place of


@dataclass(slots=True)
class Chunk:
    """A chunk as it is read for one output or for looking at: columns, its number and its name.

    `entries` are the ids and lines as they are stored; a column that is made of them is made when it is looked at.
    `times` are those that the lines begin with, nanoseconds since 1970 (0: a line begins otherwise).
    """

    number: int
    name: str  # spool uuid in hex, a dash, the number
    created: int  # time of the commit, nanoseconds since 1970
    pipeline: str
    priority: int
    entries: Segment
    tags: Coded[str]
    destinations: dict[str, Coded[str | None]]
    ids: Late[str] = field(init=False)
    lines: Late[bytes] = field(init=False)
    times: Late[int] = field(init=False)

    def __post_init__(self) -> None:
        number, count, entries = (
            self.number,
            len(self.tags),
            self.entries,
        )  # not `self` in what follows: it would hold itself in memory
        body = Late(1, lambda: [_inflated(entries, number, count)])
        lines = self.lines = Late(count, lambda: entry_lines(body[0]))
        self.ids = Late(count, lambda: entry_ids(body[0]))
        self.times = Late(count, lambda: [*map(_time_of, lines)])

    @property
    def line_bytes(self) -> int:
        """Bytes of all lines, without line ends."""
        return self.entries.length - ENTRY_BYTES * len(self.tags)


def _inflated(entries: Segment, number: int, events: int) -> bytes:
    """The entries' bytes; DamagedChunkError when they are not what was to be stored."""
    try:
        body = inflate(entries)
    except DecodeError as error:
        raise DamagedChunkError(number, str(error)) from error
    if body.count(b"\n") != 2 * events:
        raise DamagedChunkError(number, f"it has not two lines for each of its {events} events")
    return body


_BEFORE_TIME = b'{"@timestamp":"'


def _time_of(line: bytes) -> int:
    if not line.startswith(_BEFORE_TIME):
        return 0
    start = len(_BEFORE_TIME)
    return nanoseconds(line[start : line.find(b'"', start)].decode()) or 0


@dataclass(slots=True)
class Pending:
    """Events of a chunk that one output owes still though its mark has passed: retried or parked ones."""

    output: str
    chunk: int
    destination: str
    indices: list[int]  # event indices in the chunk; stored as a bitmap
    attempt: int = 0
    why: str = ""


@dataclass(slots=True)
class Settlement:
    """A request's verdicts, recorded in one transaction.

    `mark`: every chunk up to this number is settled for the output, but for its pending rows (None: stays).
    `pending` rows replace the rows with the same (output, chunk, destination); one without indices deletes.
    """

    output: str
    mark: int | None = None
    pending: list[Pending] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Counter)


@dataclass(slots=True)
class Usage:
    """How full the spool is: used pages in bytes, the WAL's bytes apart, chunks, and the oldest one's time."""

    bytes: int
    max_bytes: int
    wal_bytes: int
    chunks: int
    oldest: int | None
    letters: KeptLetters

    @property
    def dead_letters(self) -> int:
        """How many are kept."""
        return self.letters.count


@dataclass(slots=True)
class Held:
    """What one output owes: events, the commit time of the oldest (None: nothing), its chunks' bytes as stored."""

    events: int
    oldest: int | None
    bytes: int = 0
