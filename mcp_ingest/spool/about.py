"""What the spool knows of single events: those that it holds, and the dead letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from mcp_ingest.codecs.segments import inflate
from mcp_ingest.spool.letter_reader import LetterReader
from mcp_ingest.spool.model import Chunk, DeadLetter
from mcp_ingest.spool.reader import Reader
from mcp_ingest.spool.transaction import Damage


@dataclass(frozen=True, slots=True)
class Wanted:
    """Events by their whole `_id`, by the first 20 characters of it, or by their `trace_id`."""

    ids: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()
    trace: str | None = None

    def needles(self) -> list[bytes]:
        """Byte strings of which one at least stands in the entries of a chunk that has such an event."""
        starts = [f'"_id":"{name}'.encode() for name in (*self.ids, *self.prefixes)]
        return starts if self.trace is None else [*starts, self._trace()]

    def fits(self) -> Callable[[str, bytes], bool]:
        """Whether the event with this id and this line is one of them."""
        trace = None if self.trace is None else self._trace()
        return lambda name, line: (
            name in self.ids or name[:20] in self.prefixes or (trace is not None and trace in line)
        )

    def _trace(self) -> bytes:
        return b'"trace_id":' + orjson.dumps(self.trace)


@dataclass(slots=True)
class Owed:
    """That an output has not answered for an event yet; `attempt` and `why` if it was refused for now."""

    output: str
    destination: str
    attempt: int = 0
    why: str = ""


@dataclass(slots=True)
class HeldEvent:
    """An event of a chunk that the spool holds; `settled` are the outputs that have answered for it."""

    id: str
    tag: str
    chunk: int
    committed: int  # nanoseconds since 1970
    pipeline: str
    owed: list[Owed] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Look:
    """What one look at some chunks found; `last` is the number of the last one, None when there is no more."""

    events: list[HeldEvent]
    chunks: int
    last: int | None


def held_events(reader: Reader, wanted: Wanted, after: int, chunks: int) -> Look:
    """Look for events in so many of the chunks numbered above `after`; one that cannot be read is passed over."""
    numbers = [
        number
        for (number,) in reader.connection.execute(
            "SELECT number FROM chunks WHERE number > ? ORDER BY number LIMIT ?", (after, chunks)
        )
    ]
    events: list[HeldEvent] = []
    needles = wanted.needles()
    for number in numbers:
        chunk = reader.chunk(number)
        if chunk is None or isinstance(chunk, Damage):
            continue
        body = inflate(chunk.entries)
        if any(needle in body for needle in needles):
            events += _events(reader.connection, chunk, wanted)
    return Look(events, len(numbers), numbers[-1] if len(numbers) == chunks else None)


def _events(connection: sqlite3.Connection, chunk: Chunk, wanted: Wanted) -> Iterator[HeldEvent]:
    fits = wanted.fits()
    owes = _who_owes(connection, chunk)
    for index, (name, line) in enumerate(zip(chunk.ids, chunk.lines, strict=True)):
        if not fits(name, line):
            continue
        event = HeldEvent(name, chunk.tags[index], chunk.number, chunk.created, chunk.pipeline)
        for output, column in chunk.destinations.items():
            destination = column[index]
            if destination is None:
                continue
            owed = owes(output, index, destination)
            if owed is None:
                event.settled.append(output)
            else:
                event.owed.append(owed)
        yield event


def _who_owes(connection: sqlite3.Connection, chunk: Chunk) -> Callable[[str, int, str], Owed | None]:
    """Tells of an output, an event's index and its destination whether that is owed still."""
    execute, number = connection.execute, (chunk.number,)
    marks = dict(execute("SELECT name, mark FROM owed JOIN outputs ON id = output WHERE chunk = ?", number))
    columns = "name, destination, bitmap, attempt, why"
    rows = execute(f"SELECT {columns} FROM pending JOIN outputs ON id = output WHERE chunk = ?", number)  # noqa: S608  ours
    pending = {(name, place): rest for name, place, *rest in rows}

    def owed(output: str, index: int, destination: str) -> Owed | None:
        bits, attempt, why = pending.get((output, destination), (b"", 0, ""))
        if index // 8 < len(bits) and bits[index // 8] >> index % 8 & 1:
            return Owed(output, destination, attempt, why)
        return Owed(output, destination) if chunk.number > marks.get(output, chunk.number) else None

    return owed


def letters_about(reader: Reader, wanted: Wanted, below: int, letters: int) -> list[DeadLetter]:
    """Such of the dead letters with the `letters` numbers right below `below`, the newest first."""
    clauses, values = ["0"], list[object]()
    for name in wanted.ids:
        clauses.append("event_id = ?")
        values.append(name)
    for prefix in wanted.prefixes:
        clauses.append("substr(event_id, 1, 20) = ?")
        values.append(prefix)
    if wanted.trace is not None:
        clauses.append("json_extract(record, '$.trace_id') = ?")
        values.append(wanted.trace)
    where = f"number < ? AND number >= ? AND ({' OR '.join(clauses)})"
    rows = reader.connection.execute(
        f"SELECT number FROM dead_letters WHERE {where} ORDER BY number DESC",  # noqa: S608  words of ours
        (below, below - letters, *values),
    ).fetchall()
    read = LetterReader(reader.connection).letter
    return [letter for letter in (read(number) for (number,) in rows) if letter is not None]


def newest_letter(reader: Reader) -> int:
    """The number of the newest dead letter, 0 if there is none."""
    (number,) = reader.connection.execute("SELECT coalesce(max(number), 0) FROM dead_letters").fetchone()
    return int(number)
