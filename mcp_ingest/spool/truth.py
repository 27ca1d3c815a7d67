"""What is committed, in memory: read from the database at start, changed only by commits that returned."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_ingest.spool.letters import load_kept
from mcp_ingest.spool.model import Chunk, Held, KeptLetters, Ledger, Usage
from mcp_ingest.spool.rows import LedgerRow, commits_of, ledger_from
from mcp_ingest.spool.schema import PAGE
from mcp_ingest.spool.seen import BLOCK, DIGEST_BYTES, Seen, split


@dataclass(slots=True)
class OutputState:
    """An output of the database: `last` is the highest chunk that names it, `oldest` the time of what it owes."""

    id: int
    name: str
    type: str
    mark: int
    last: int = 0
    events: int = 0
    oldest: int | None = None
    bytes: int = 0  # of the chunks of which it owes something, as they are stored


@dataclass(slots=True)
class Space:
    """How much of the disk is used: used pages and the write-ahead log, in bytes."""

    used: int = 0
    wal: int = 0


@dataclass(slots=True)
class Changes:
    """What one commit made true; dictionaries by the output's id in the database."""

    answers: dict[int, Any] = field(default_factory=dict)  # what who asked gets, by the work's place in the group
    chunks: list[Chunk] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    positions: dict[str, bytes | None] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)
    packed: bytes | None = None  # a block of digests: these and all before them since the last one
    ledger: Ledger = field(default_factory=Counter)
    marks: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    held: Counter[int] = field(default_factory=Counter)
    bytes: Counter[int] = field(default_factory=Counter)
    forgotten: dict[str, set[int]] = field(default_factory=dict)  # chunks that an output owes no more, though others do
    oldest: dict[int, int | None] = field(default_factory=dict)
    letters: KeptLetters | None = None  # what there is now, where that is something else than before
    expired: int = 0
    time: int = 0
    oldest_chunk: int | None = None
    space: Space = field(default_factory=Space)
    seconds: float = 0.0
    commits: int = 0


class Truth:
    """The committed state; `ids` has the outputs of the configuration."""

    def __init__(self) -> None:
        self.outputs: dict[int, OutputState] = {}
        self.ids: dict[str, int] = {}
        self.positions: dict[str, bytes] = {}
        self.ledger: Ledger = Counter()
        self.seen = Seen()
        self.last = 0
        self.chunks = 0
        self.letters = KeptLetters()
        self.oldest: int | None = None
        self.space = Space()
        self.commits = 0

    def apply(self, changes: Changes) -> None:
        """A commit returned."""
        for key, value in changes.positions.items():
            if value is None:
                self.positions.pop(key, None)
            else:
                self.positions[key] = value
        if changes.digests:
            self.seen.add(changes.digests, changes.time)
        if changes.packed is not None:
            self.seen.packed(changes.packed, changes.time)
        self.ledger.update(changes.ledger)
        self._apply_outputs(changes)
        if changes.chunks:
            self.last = changes.chunks[-1].number
        self.chunks += len(changes.chunks) - len(changes.gone)
        if changes.letters is not None:
            self.letters = changes.letters
        self.oldest = changes.oldest_chunk
        self.space = changes.space
        self.commits = changes.commits

    def _apply_outputs(self, changes: Changes) -> None:
        for output, mark in changes.marks.items():
            self.outputs[output].mark = mark
        for output, last in changes.last.items():
            self.outputs[output].last = last
        for output, events in changes.held.items():
            self.outputs[output].events += events
        for output, size in changes.bytes.items():
            self.outputs[output].bytes += size
        for output, oldest in changes.oldest.items():
            self.outputs[output].oldest = oldest

    def output(self, name: str) -> OutputState:
        """The state of an output of the configuration; KeyError for any other."""
        return self.outputs[self.ids[name]]

    def usage(self, max_bytes: int) -> Usage:
        """How full the spool is."""
        return Usage(self.space.used, max_bytes, self.space.wal, self.chunks, self.oldest, self.letters)

    def removed_state(self, name: str) -> OutputState | None:
        """The state of an output that the configuration does not have, by `name (type)`."""
        configured = set(self.ids.values())
        removed = (state for state in self.outputs.values() if state.id not in configured)
        return next((state for state in removed if name == f"{state.name} ({state.type})"), None)

    def removed(self) -> dict[str, Held]:
        """What is owed to outputs that the configuration does not have, by name and type."""
        configured = set(self.ids.values())
        return {
            f"{state.name} ({state.type})": Held(state.events, state.oldest, state.bytes)
            for state in self.outputs.values()
            if state.id not in configured and state.events
        }


# --- at start ----------------------------------------------------------------------------------------------


def register(connection: sqlite3.Connection, outputs: Mapping[str, str]) -> dict[str, int]:
    """The id of each output of the configuration (name to type); a new one starts behind the last chunk."""
    known = known_outputs(connection)
    for name, kind in outputs.items():
        if (name, kind) not in known:  # nothing is written that need not be: the disk may be full
            connection.execute(
                "INSERT INTO outputs (name, type, mark) VALUES (?, ?, ?)", (name, kind, last_number(connection))
            )
    known = known_outputs(connection)
    return {name: known[name, kind] for name, kind in outputs.items()}


def known_outputs(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """The id of each output that the database has, by name and type."""
    return {(name, kind): number for number, name, kind in connection.execute("SELECT id, name, type FROM outputs")}


def last_number(connection: sqlite3.Connection) -> int:
    """The highest number that a chunk ever had."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'").fetchone()
    return int(row[0]) if row else 0


def load(connection: sqlite3.Connection, ids: dict[str, int]) -> Truth:
    """All of it from the database."""
    truth = Truth()
    truth.ids = ids
    truth.outputs = _outputs(connection)
    truth.positions = dict(connection.execute("SELECT key, value FROM positions"))
    rows: list[LedgerRow] = connection.execute("SELECT * FROM ledger").fetchall()
    truth.ledger = ledger_from(rows)
    truth.commits = commits_of(connection)
    truth.last = last_number(connection)
    (truth.chunks,) = connection.execute("SELECT count(*) FROM (SELECT DISTINCT chunk FROM owed)").fetchone()
    truth.letters = load_kept(connection)
    truth.oldest = oldest_chunk(connection)
    truth.space = Space(used_bytes(connection))
    for created, digests in connection.execute("SELECT created, digests FROM seen ORDER BY id"):
        if len(digests) >= BLOCK * DIGEST_BYTES:
            truth.seen.add_block(digests, created)
        else:
            truth.seen.add(split(digests), created)
    return truth


def _outputs(connection: sqlite3.Connection) -> dict[int, OutputState]:
    states = {
        row[0]: OutputState(*row) for row in connection.execute("SELECT id, name, type, mark FROM outputs").fetchall()
    }
    for output, last, events, size in connection.execute(
        "SELECT output, max(chunk), total(CASE WHEN chunk > mark THEN events END), total(bytes)"
        " FROM owed JOIN outputs ON outputs.id = output GROUP BY output"
    ):
        states[output].last, states[output].events, states[output].bytes = last, int(events), int(size)
    for output, events in connection.execute(
        "SELECT output, sum(events) FROM pending JOIN outputs ON outputs.id = output"
        " WHERE chunk <= mark GROUP BY output"
    ):
        states[output].events += events
    for state in states.values():
        state.oldest = oldest_owed(connection, state.id, state.mark, state.last)
    return states


def oldest_owed(connection: sqlite3.Connection, output: int, mark: int, last: int) -> int | None:
    """The commit time of the oldest chunk that this output owes something of."""
    (first,) = connection.execute("SELECT min(chunk) FROM pending WHERE output = ?", (output,)).fetchone()
    if first is None and mark < last:
        row = connection.execute(
            "SELECT chunk FROM owed WHERE chunk > ? AND output = ? ORDER BY chunk LIMIT 1", (mark, output)
        ).fetchone()
        first = row[0] if row else None
    if first is None:
        return None
    row = connection.execute("SELECT created FROM chunks WHERE number = ?", (first,)).fetchone()
    return int(row[0]) if row else None


def oldest_chunk(connection: sqlite3.Connection) -> int | None:
    """The commit time of the oldest chunk."""
    row = connection.execute("SELECT created FROM chunks ORDER BY number LIMIT 1").fetchone()
    return row[0] if row else None


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the pages that hold something."""
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return PAGE * int(count - free)
