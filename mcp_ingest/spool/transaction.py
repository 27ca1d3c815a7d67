"""One transaction: what a group of intakes and settlements writes, and the `Changes` that it makes true.

Everything here runs in the spool's thread. Nothing outside the transaction changes before it is committed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_ingest.errors import SpoolFullError
from mcp_ingest.event import Term
from mcp_ingest.spool.chunk import Stamp, encode, stamped, wanted
from mcp_ingest.spool.dropping import let_go
from mcp_ingest.spool.letters import LetterBook, LetterBounds, letter_bytes
from mcp_ingest.spool.model import Chunk, DeadLetter, Intake, KeptLetters, OutputKey, Pending, Removal, Settlement
from mcp_ingest.spool.moving import hand_over
from mcp_ingest.spool.overflow import Drop
from mcp_ingest.spool.rows import ADD_TO_LEDGER, bitmap, commit_row, ledger_rows
from mcp_ingest.spool.schema import PAGE
from mcp_ingest.spool.seen import BLOCK, BLOCKS, DIGEST_BYTES, KEEP_NS
from mcp_ingest.spool.sums import Marked, SumsFile
from mcp_ingest.spool.truth import (
    Changes,
    OutputState,
    Truth,
    last_number,
    oldest_chunk,
    oldest_owed,
    register,
    used_bytes,
)


@dataclass(slots=True)
class PreparedChunk:
    """A chunk with its number, encoded; `owed` is the number of events for each output's id."""

    chunk: Chunk
    body: bytes
    owed: dict[int, int]


@dataclass(slots=True)
class Prepared:
    """An intake of which only the writing is left."""

    intake: Intake
    chunks: list[PreparedChunk] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Damage:
    """A chunk that cannot be read: it goes into quarantine and counts as lost."""

    number: int
    why: str


#: Why what was owed of such a chunk is lost.
DAMAGED_CHUNK = "damaged chunk"
#: What letters take of the file and of the log by their bytes: their pages are not full. And what the rest takes.
_PAGES_FOR_LETTERS = 1.4
_LOG_FOR_REST = 2**17

Work = Prepared | Settlement | Damage | Removal | Drop


class Writer:
    """The thread's side of the committed state, and the transactions that change it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        uuid: bytes,
        truth: Truth,
        time_ns: Callable[[], int],
        bounds: LetterBounds | None = None,
        sums: SumsFile | None = None,
    ) -> None:
        """`sums`, where there are some, are brought up to date after each commit."""
        self.connection = connection
        self.sums = sums
        self._commits = truth.commits
        self._uuid = uuid
        self._ids = dict(truth.ids)
        self._names: dict[int, str] = {}
        self._types: dict[int, str] = {}
        self._marks: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._oldest: dict[int, int | None] = {}
        for state in truth.outputs.values():
            self._know(state)
        self._number = self._committed = truth.last
        self._time_ns = time_ns
        self._loose = [*truth.seen.loose]
        self._letters = truth.letters
        self._bounds = bounds or LetterBounds()
        self.written = 0  # bytes of chunks and letters since the last checkpoint, about

    def register(self, outputs: Mapping[str, str]) -> tuple[dict[str, int], list[OutputState]]:
        """The ids of these outputs (name to type), and the states of those that were not there before."""
        ids = register(self.connection, outputs)
        new = []
        for name, number in ids.items():
            if number not in self._names:
                state = OutputState(number, name, outputs[name], last_number(self.connection))
                self._know(state)
                if self.sums is not None:
                    self.sums.know(number, Marked(name, state.type, state.mark))
                new.append(state)
        return ids, new

    def _know(self, state: OutputState) -> None:
        self._names[state.id], self._types[state.id] = state.name, state.type
        self._marks[state.id], self._last[state.id], self._oldest[state.id] = state.mark, state.last, state.oldest

    def take(self, ids: Mapping[str, int], marks: Mapping[int, int], bounds: LetterBounds) -> None:
        """Names mean these outputs from now on; those of `marks`, which owe nothing, begin behind these chunks."""
        self._bounds = bounds
        self._ids.update(ids)
        self._marks.update(marks)

    def prepare(self, intake: Intake) -> Prepared:
        """Number and encode the chunks; ValueError and the like when one cannot be encoded."""
        prepared = Prepared(intake)
        if set(map(len, intake.digests)) - {DIGEST_BYTES}:
            raise ValueError(f"the digest of a chunk id has not {DIGEST_BYTES} bytes")
        for new in intake.chunks:
            self._number += 1  # never used again, whatever becomes of this commit
            chunk = stamped(new, Stamp(self._uuid, self._number, self._time_ns()))
            chunk.destinations = {n: column for n, column in chunk.destinations.items() if [*column.values] != [None]}
            owed = {self._ids[name]: wanted(column) for name, column in chunk.destinations.items()}
            prepared.chunks.append(PreparedChunk(chunk, encode(chunk, self._uuid), owed))
        return prepared

    def write(self, works: Sequence[Work], room: int | None = None) -> Changes:
        """Write all of it, durably, or raise and leave nothing of it.

        `room` are the bytes that a full disk still has: where new dead letters do not fit, the oldest make room.
        SpoolFullError when the file would grow by more: then the log could never be emptied into it.
        """
        execute = self.connection.execute
        transaction = Transaction(
            self.connection,
            Changes(time=self._time_ns()),
            dict(self._marks),
            dict(self._last),
            self._committed,
            self._letters,
            self._bounds,
        )
        execute("BEGIN IMMEDIATE")
        try:
            if room is not None:
                transaction.make_room(works, room)
            for place, work in enumerate(works):
                self._do(transaction, place, work)
            transaction.flush()
            changes = transaction.changes
            if changes.digests and len(self._loose) + len(changes.digests) >= BLOCK:
                changes.packed = _pack_seen(self.connection, self._loose + changes.digests, changes.time)
            self._find_oldest(transaction)
            if room is not None and not self._fits(transaction.written, room):
                raise SpoolFullError("the disk of the spool is full")
            execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                execute("ROLLBACK")
            raise
        if changes.packed is None:
            self._loose += changes.digests
        else:
            self._loose = []
        self._marks, self._last = transaction.marks, transaction.last
        self._committed = max(self._committed, *self._last.values(), 0)
        self._oldest.update(changes.oldest)
        self._letters = changes.letters or self._letters
        self.written += transaction.written
        changes.space.used = used_bytes(self.connection)
        self._commits = changes.commits = self._commits + 1
        if self.sums is not None:
            self.sums.write(changes.ledger, self._commits, self._committed, changes.marks)
        return changes

    def _do(self, transaction: Transaction, place: int, work: Work) -> None:
        match work:
            case Prepared():
                transaction.collect(place, work)
            case Settlement():
                output = self._ids[work.output]
                transaction.settle(output, work, self._types[output])
            case Removal():
                transaction.remove(place, work)
            case Damage():
                transaction.quarantine(work, self._names)
            case Drop():
                transaction.changes.answers[place] = let_go(self.connection, transaction, work, self._names)

    def _fits(self, written: int, room: int) -> bool:
        """Whether the disk has room for the log of this transaction and then for what the file grows by.

        If not, the log could not be emptied any more, and nothing could be written at all.
        """
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        (_, _, path) = self.connection.execute("PRAGMA database_list").fetchone()
        grows = int(pages) * PAGE - Path(path).stat().st_size
        log = _PAGES_FOR_LETTERS * written + _LOG_FOR_REST - Path(f"{path}-wal").stat().st_size
        return grows <= 0 or grows + max(0, log) <= room

    def touch(self) -> None:
        """Write something that changes nothing, durably: sqlite3.Error where the disk refuses."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.connection.execute(ADD_TO_LEDGER, commit_row(0))
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Let go of the files. What a last checkpoint cannot do, the next start does."""
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        if self.sums is not None:
            self.sums.close()

    def _find_oldest(self, transaction: Transaction) -> None:
        """What is looked up anew: outputs of which something went, and those that owed nothing before."""
        changes = transaction.changes
        first = {output for output in changes.last if self._oldest[output] is None}
        for output in first | transaction.touched:
            changes.oldest[output] = oldest_owed(
                self.connection, output, transaction.marks[output], transaction.last[output]
            )
        changes.oldest_chunk = oldest_chunk(self.connection)


def _pack_seen(connection: sqlite3.Connection, digests: list[bytes], time_ns: int) -> bytes:
    """Put these, of rows of single commits up to the last, together to one sorted row, returned; the oldest go."""
    joined = b"".join(sorted(digests))
    last, newest = connection.execute("SELECT max(id), max(created) FROM seen").fetchone()
    connection.execute("DELETE FROM seen WHERE length(digests) < ? OR id = ?", (BLOCK * DIGEST_BYTES, last))
    connection.execute("INSERT INTO seen VALUES (?, ?, ?)", (last, newest, joined))
    connection.execute(
        "DELETE FROM seen WHERE created < ? OR id NOT IN (SELECT id FROM seen ORDER BY id DESC LIMIT ?)",
        (time_ns - KEEP_NS, BLOCKS),
    )
    return joined


class Transaction:
    """Collects the rows of all intakes so that each table is written once; settlements are written as they come."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        changes: Changes,
        marks: dict[int, int],
        last: dict[int, int],
        committed: int,
        kept: KeptLetters,
        bounds: LetterBounds,
    ) -> None:
        self._connection = connection
        self._committed = committed
        self._kept = kept
        self._bounds = bounds
        self._book: LetterBook | None = None  # made when a letter comes or goes
        self.changes = changes
        self.marks = marks
        self.last = last
        self.touched: set[int] = set()
        self.written = 0
        self._chunks: list[tuple[int, int, int, int, bytes]] = []
        self._owed: list[tuple[int, int, int, int, int]] = []
        self._letters: list[DeadLetter] = []

    # --- the way in ----------------------------------------------------------------------------------------

    def collect(self, place: int, prepared: Prepared) -> None:
        """Take an intake; nothing is written before `flush`."""
        changes, intake = self.changes, prepared.intake
        changes.answers[place] = [each.chunk.number for each in prepared.chunks]
        for each in prepared.chunks:
            number = each.chunk.number
            if not each.owed:  # nobody wants it: a number, and no row
                continue
            changes.chunks.append(each.chunk)
            self._chunks.append((number, each.chunk.created, each.chunk.priority, len(each.chunk.tags), each.body))
            size, priority = len(each.body), each.chunk.priority
            for output, events in each.owed.items():
                self._owed.append((number, output, events, size, priority))
                changes.held[output] += events
                changes.bytes[output] += size
                if self.last[output] <= self.marks[output]:  # it owes nothing above its mark, which so passes over
                    self.marks[output] = changes.marks[output] = number - 1  # what only others owe: no look at that
                changes.last[output] = self.last[output] = number
        changes.positions.update(intake.positions)
        changes.digests += intake.digests
        self._letters += intake.letters
        changes.ledger.update(intake.ledger)
        if intake.moved is not None:
            hand_over(self._connection, self, intake.moved)
        if intake.replayed:
            self.letters().remove(intake.replayed, Term.REPLAYED, all_of_them=True)

    def flush(self) -> None:
        """Write what was collected."""
        many, changes = self._connection.executemany, self.changes
        if self._chunks:
            many("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", self._chunks)
            many("INSERT INTO owed VALUES (?, ?, ?, ?, ?)", self._owed)
            self.written += sum(len(row[4]) for row in self._chunks)
        if changes.positions:
            gone = [(key,) for key, value in changes.positions.items() if value is None]
            kept = [item for item in changes.positions.items() if item[1] is not None]
            many("DELETE FROM positions WHERE key = ?", gone)
            many("INSERT INTO positions VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", kept)
        if self._letters:
            self.written += self.letters().add(self._letters)
        if self._book is not None:
            changes.letters, changes.expired = self._book.close(), self._book.expired
        many(ADD_TO_LEDGER, [*ledger_rows(changes.ledger), commit_row(1)])
        if changes.digests:
            self._connection.execute(
                "INSERT INTO seen (created, digests) VALUES (?, ?)", (changes.time, b"".join(changes.digests))
            )

    # --- dead letters --------------------------------------------------------------------------------------

    def letters(self) -> LetterBook:
        """What this transaction does to them."""
        if self._book is None:
            self._book = LetterBook(self._connection, self._kept, self._bounds, self.changes.ledger, self.changes.time)
        return self._book

    def make_room(self, works: Sequence[Work], room: int) -> None:
        """Let go of the oldest letters where those that settlements bring would not fit into what the disk has."""
        letters = [letter for work in works if isinstance(work, Settlement) for letter in work.letters]
        size = int(_PAGES_FOR_LETTERS * sum(map(letter_bytes, letters)))
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        missing = size - free * PAGE
        if missing > 0 and 2 * size > room:  # in the log, and then in the file
            self.letters().make_room(missing, len(letters))

    def remove(self, place: int, removal: Removal) -> None:
        """Dead letters that leave without a chunk in their place."""
        if removal.numbers is None:
            gone = self.letters().expire()
        elif removal.term is Term.LOST:
            gone = self.letters().lose(removal.numbers, removal.why)
        else:
            gone = self.letters().remove(removal.numbers, removal.term)
        self.changes.answers[place] = gone

    # --- the way out ---------------------------------------------------------------------------------------

    def settle(self, output: int, settlement: Settlement, kind: str) -> None:
        """Move the mark, replace pending rows, delete what nobody owes any more; `kind` is the output's type."""
        self.touched.add(output)
        for letter in settlement.letters:
            letter.output_type = kind
        self._letters += settlement.letters
        self.changes.ledger.update(settlement.ledger)
        before = self.changes.held[output]
        candidates = self._move_mark(output, settlement.mark)
        for pending in settlement.pending:
            if (size := self._replace_pending(output, pending)) is not None:
                candidates[pending.chunk] = size
        self._delete_settled(output, candidates)
        settled = sum(count for key, count in settlement.ledger.items() if isinstance(key, OutputKey))
        if (beyond := settled + self.changes.held[output] - before) > 0:
            self._take_back_lost(settlement.output, beyond)

    def _move_mark(self, output: int, mark: int | None) -> dict[int, int]:
        """The chunks of this output that the mark passes over, with their bytes."""
        before = self.marks[output]
        if mark is None or mark <= before:
            return {}
        mark = min(mark, self._committed)  # never over a number that is still to be given
        between = (output, before, mark)
        passed = self._connection.execute(
            "SELECT chunk, events, bytes FROM owed WHERE output = ? AND chunk > ? AND chunk <= ?", between
        ).fetchall()
        (pending,) = self._connection.execute(
            "SELECT total(events) FROM pending WHERE output = ? AND chunk > ? AND chunk <= ?", between
        ).fetchone()
        self._connection.execute("UPDATE outputs SET mark = ? WHERE id = ?", (mark, output))
        self.marks[output] = self.changes.marks[output] = mark
        self.changes.held[output] += int(pending) - sum(events for _, events, _ in passed)
        return {chunk: size for chunk, _, size in passed}

    def _replace_pending(self, output: int, pending: Pending) -> int | None:
        """The bytes of the chunk if it is one of which now less may be owed: below the mark."""
        execute = self._connection.execute
        key = (output, pending.chunk, pending.destination)
        owed = execute("SELECT bytes FROM owed WHERE chunk = ? AND output = ?", (pending.chunk, output)).fetchone()
        if owed is None:
            return None  # it went into quarantine while the request was under way
        before = execute(
            "SELECT events FROM pending WHERE output = ? AND chunk = ? AND destination = ?", key
        ).fetchone()
        events = len(set(pending.indices))
        if events:
            execute(
                "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, events, bitmap(pending.indices), pending.attempt, pending.why),
            )
        elif before:
            execute("DELETE FROM pending WHERE output = ? AND chunk = ? AND destination = ?", key)
        if pending.chunk > self.marks[output]:
            return None
        self.changes.held[output] += events - (before[0] if before else 0)
        return int(owed[0])

    def _delete_settled(self, output: int, candidates: dict[int, int]) -> None:
        execute = self._connection.execute
        for chunk in sorted(candidates):
            settled = execute(
                "DELETE FROM owed WHERE chunk = ? AND output = ? AND NOT EXISTS"
                " (SELECT 1 FROM pending WHERE pending.output = owed.output AND pending.chunk = owed.chunk)",
                (chunk, output),
            )
            if not settled.rowcount:
                continue
            self.changes.bytes[output] -= candidates[chunk]
            deleted = execute(
                "DELETE FROM chunks WHERE number = ? AND NOT EXISTS (SELECT 1 FROM owed WHERE chunk = number)", (chunk,)
            )
            if deleted.rowcount:
                self.changes.gone.append(chunk)

    # --- damage --------------------------------------------------------------------------------------------

    def quarantine(self, damage: Damage, names: dict[int, str]) -> None:
        """Set a chunk aside; what its outputs still owed of it is lost."""
        execute, number = self._connection.execute, damage.number
        owed = execute("SELECT output, events, bytes FROM owed WHERE chunk = ?", (number,)).fetchall()
        if not owed:
            return
        for output, events, size in owed:
            lost = events
            self.changes.bytes[output] -= size
            if number <= self.marks[output]:
                (lost,) = execute(
                    "SELECT coalesce(sum(events), 0) FROM pending WHERE output = ? AND chunk = ?", (output, number)
                ).fetchone()
            execute("DELETE FROM pending WHERE output = ? AND chunk = ?", (output, number))
            self.changes.ledger[OutputKey(names[output], Term.LOST, DAMAGED_CHUNK)] += lost
            self.changes.held[output] -= lost
            self.touched.add(output)
            if self.last[output] == number:
                (before,) = execute(
                    "SELECT max(chunk) FROM owed WHERE output = ? AND chunk < ?", (output, number)
                ).fetchone()
                self.changes.last[output] = self.last[output] = before or 0
        execute(
            "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?)",
            (number, self.changes.time, damage.why, self._body(number)),
        )
        execute("DELETE FROM owed WHERE chunk = ?", (number,))
        execute("DELETE FROM chunks WHERE number = ?", (number,))
        self.changes.gone.append(number)

    def _take_back_lost(self, output: str, events: int) -> None:
        """More came to an end than was owed: it was counted as lost while it was under way from memory."""
        key = OutputKey(output, Term.LOST, DAMAGED_CHUNK)
        row = self._connection.execute(
            "SELECT count FROM ledger WHERE scope = 'output' AND name = ? AND term = ? AND reason = ?",
            (output, key.term, key.reason),
        ).fetchone()
        self.changes.ledger[key] -= min(events, (row[0] if row else 0) + self.changes.ledger[key])

    def _body(self, number: int) -> bytes | None:
        try:
            row = self._connection.execute("SELECT body FROM chunks WHERE number = ?", (number,)).fetchone()
        except sqlite3.DatabaseError:  # its pages cannot even be found
            return None
        return row[0] if row else None
