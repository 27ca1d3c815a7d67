"""What one output still owes: the books behind its low-water mark and its pending rows, synchronous and without I/O.

All of a chunk (its counters, its dead letters, its pending rows) is recorded in the transaction in which the mark
passes it; so after a crash a chunk counts either whole or not at all, and what is sent again is found to be there by
its id. Events of a pending row are recorded as they are settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from mcp_ingest.event import Term
from mcp_ingest.spool.model import Chunk, DeadLetter, Ledger, LetterKey, OutputKey, Pending, Settlement
from mcp_ingest.spool.rows import bitmap, indices_of


@dataclass(slots=True, eq=False)
class Work:
    """Events of one chunk for one destination, to be sent: in order, by their indices in the chunk."""

    chunk: Chunk
    destination: str
    indices: Sequence[int]
    attempt: int = 0
    repaired: dict[int, bytes] = field(default_factory=dict)  # lines that replace the chunk's, on the way out only
    line_bytes: int = -1  # of its events, once it was counted
    trial: bool = False  # the one that finds out whether its destination takes something again


@dataclass(slots=True)
class _Open:
    """A chunk that the mark has not passed: how many of its events were never answered, and what was said of others."""

    unanswered: int
    ledger: Ledger = field(default_factory=Counter)
    letters: list[DeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class _Row:
    """A pending row of which events are on their way; events as the bits of a number."""

    owed: int
    resting: int  # of these, the ones that no work in memory holds
    attempt: int
    why: str


class Account:
    """The books of one output."""

    def __init__(self, output: str, mark: int) -> None:
        self.output = output
        self.mark = mark
        self.cursor = mark  # the newest chunk that was fetched
        self._open: dict[int, _Open] = {}  # in the order of their numbers
        self._rows: dict[tuple[int, str], _Row] = {}
        self._ledger: Ledger = Counter()
        self._letters: list[DeadLetter] = []
        self._changed: set[tuple[int, str]] = set()

    def fetched(self, chunk: Chunk) -> list[Work]:
        """A fresh chunk: its events for this output, one work for each destination."""
        column = chunk.destinations[self.output]
        places: dict[str, Sequence[int]] = {}
        if column.indices is None:
            places = {place: range(len(column)) for place in column.values if place is not None}
        else:
            lists: dict[str, list[int]] = {place: [] for place in column.values if place is not None}
            for index, place in enumerate(column):
                if place is not None:
                    lists[place].append(index)
            places.update(lists)
        self.cursor = chunk.number
        count = sum(map(len, places.values()))
        if count:
            self._open[chunk.number] = _Open(count)
        return [Work(chunk, place, indices) for place, indices in places.items()]

    def has(self, number: int, destination: str) -> bool:
        """Whether this pending row is in memory; one that rests and is recorded is on disk alone."""
        return (number, destination) in self._rows

    def restored(self, row: Pending) -> None:
        """A pending row as it is recorded, all of it at rest."""
        bits = _bits(row.indices)
        self._rows[row.chunk, row.destination] = _Row(bits, bits, row.attempt, row.why)

    def taken_up(self, number: int, destination: str) -> tuple[list[int], int]:
        """The resting events of a pending row, which are a work's from now on, and how often they were tried."""
        row = self._rows.get((number, destination))
        if row is None:
            return [], 0
        indices, row.resting = _indices(row.resting), 0
        return indices, row.attempt

    def lost(self, numbers: Collection[int]) -> None:
        """Chunks with pending rows are no longer there: forget them; the spool has counted them."""
        for key in [key for key in self._rows if key[0] in numbers]:
            del self._rows[key]

    def in_hand(self) -> set[int]:
        """The chunks behind the mark of which works in memory have events, or of which something is unrecorded."""
        held = {number for (number, _), row in self._rows.items() if row.resting != row.owed}
        return held | {number for number, _ in self._changed}

    def settled(self, work: Work, indices: Sequence[int], term: Term, reason: str = "") -> None:
        """These events are done with: delivered, duplicate, redirected."""
        ledger, count = self._answered(work, indices)
        if count:
            ledger[OutputKey(self.output, term, reason)] += count

    def died(self, work: Work, index: int, letter: DeadLetter) -> None:
        """This event is a dead letter."""
        ledger, count = self._answered(work, [index])
        if not count:
            return
        ledger[OutputKey(self.output, Term.DEAD_LETTERED, letter.kind)] += 1
        ledger[LetterKey(Term.DEAD_LETTERED, letter.kind)] += 1
        opened = self._open.get(work.chunk.number)
        (self._letters if opened is None else opened.letters).append(letter)

    def postponed(self, work: Work, indices: Sequence[int], why: str, *, resting: bool = False) -> bool:
        """These events were refused for now: the mark may pass them, a pending row holds them.

        `resting`: it alone does, until they are taken up; otherwise a work in memory goes on with them. Whether the
        row begins to rest.
        """
        key = (work.chunk.number, work.destination)
        row = self._rows.get(key) or _Row(0, 0, 0, "")
        bits = _bits(indices)
        opened = self._open.get(key[0])
        if opened is not None:
            opened.unanswered -= (bits & ~row.owed).bit_count()
        rested = row.resting
        row.owed |= bits
        row.resting = rested | bits if resting else rested & ~bits
        row.attempt, row.why = work.attempt, why
        self._rows[key] = row
        self._changed.add(key)
        return resting and not rested

    def settlement(self) -> Settlement | None:
        """What is to be recorded now; None if nothing is."""
        mark = self._advance()
        rows = []
        for key in sorted(self._changed):
            if key[0] in self._open:
                continue  # it is written when the mark passes its chunk
            self._changed.discard(key)
            row = self._rows.get(key) or _Row(0, 0, 0, "")
            rows.append(Pending(self.output, key[0], key[1], _indices(row.owed), row.attempt, row.why))
        if mark == self.mark and not rows and not self._ledger and not self._letters:
            return None
        self.mark = mark
        made = Settlement(self.output, mark, rows, self._letters, self._ledger)
        self._letters, self._ledger = [], Counter()
        return made

    def recorded(self, settlement: Settlement) -> None:
        """It is durable: rows that rest whole need not be in memory any more, however many they are."""
        for pending in settlement.pending:
            key = (pending.chunk, pending.destination)
            row = self._rows.get(key)
            if row is not None and row.owed == row.resting and key not in self._changed:
                del self._rows[key]

    def _answered(self, work: Work, indices: Sequence[int]) -> tuple[Ledger, int]:
        """Take the events out of what is owed; the counters to write into, and how many were owed."""
        key = (work.chunk.number, work.destination)
        row = self._rows.get(key)
        was_pending = 0
        if row is not None:
            gone = row.owed & _bits(indices)
            was_pending = gone.bit_count()
            if was_pending:
                self._changed.add(key)
            row.owed &= ~gone
            row.resting &= ~gone
            if not row.owed:
                del self._rows[key]
        opened = self._open.get(key[0])
        if opened is None:  # what is in no row either went with its chunk, and was counted as lost
            return self._ledger, was_pending
        opened.unanswered -= len(indices) - was_pending
        return opened.ledger, len(indices)

    def _advance(self) -> int:
        """Pass the chunks that are wholly answered, oldest first; the new mark."""
        for number, opened in list(self._open.items()):
            if opened.unanswered:
                return number - 1
            self._ledger.update(opened.ledger)
            self._letters += opened.letters
            del self._open[number]
        return self.cursor


def _bits(indices: Sequence[int]) -> int:
    return int.from_bytes(bitmap(indices), "little")


def _indices(bits: int) -> list[int]:
    return indices_of(bits.to_bytes((bits.bit_length() + 7) // 8, "little"))
