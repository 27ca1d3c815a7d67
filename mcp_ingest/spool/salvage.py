"""A new database out of a damaged one: whatever can still be read, and no more is lost than the damage touches.

SQLite is not asked: its pages are read one by one (`walk.py`), so that there is one way for every damage. Chunks say
themselves what they are, and whose. The small tables (marks, what is owed and pending, positions, chunk ids, dead
letters, counters) are taken as far as they can be read; where it is not known any more whether an output had a chunk,
the chunk is owed again: it keeps its name and its events their ids, by which they are known as what was there before.

It streams: a page at a time and a chunk at a time are in memory. The damaged files are only read.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path

from mcp_ingest.codecs.sqlite_pages import Value
from mcp_ingest.errors import DecodeError
from mcp_ingest.event import Term
from mcp_ingest.spool import chunk as chunks
from mcp_ingest.spool import layout, schema
from mcp_ingest.spool.files import free_bytes
from mcp_ingest.spool.letters import regroup
from mcp_ingest.spool.model import Ledger
from mcp_ingest.spool.pages import DatabaseFile
from mcp_ingest.spool.reconcile import owed_by
from mcp_ingest.spool.rows import (
    ADD_TO_LEDGER,
    COMMITS,
    bitmap,
    commit_row,
    commits_of,
    indices_of,
    ledger_from,
    ledger_rows,
)
from mcp_ingest.spool.sums import Sums
from mcp_ingest.spool.walk import Damaged, Row, Walk

AGAIN = "salvaged"  # why events are pending that the mark has passed, nobody knows which
_BATCH = 500
_LOOK = 64  # chunks between two looks at the disk


@dataclass(slots=True)
class Known:
    """What a running daemon has in memory and need not read from damaged pages."""

    outputs: list[tuple[int, str, str, int]]  # id, name, type, mark
    positions: dict[str, bytes]
    ledger: Ledger
    commits: int


@dataclass(slots=True)
class Findings:
    """What a salvage found and what it missed."""

    chunks: int = 0
    damaged: set[int] = field(default_factory=set)  # chunks of which something was left, but not all
    missing: set[int] = field(default_factory=set)  # chunks that are owed, and nowhere
    no_room: int = 0  # chunks that could be read and did not fit on the disk
    torn: list[str] = field(default_factory=list)  # tables that are not whole
    last: int = 0
    uuids: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Output:
    id: int
    name: str
    type: str
    mark: int


@dataclass(slots=True)
class _Owing:
    """A chunk and an output that it names: its events for it, and whether some are pending."""

    output: _Output
    events: int
    was_owed: bool
    pending: bool


class Salvage:
    """One salvage: from the files at `database` and `log` (either may be missing) to a new database at `target`."""

    def __init__(
        self,
        database: Path,
        log: Path,
        target: Path,
        outputs: Mapping[str, str],
        progress: Callable[[int, int, int], None],
        known: Known | None = None,
        reserve: int = 0,
    ) -> None:
        """`outputs` are the configuration's, name to type. `progress` hears of pages done, all pages, chunks found.

        So many bytes of the disk are left alone as `reserve` says: settlements need them.
        """
        self._pages = DatabaseFile(database, log)
        self._walk = Walk(self._pages)
        self._target = target
        self._types = outputs
        self._progress = progress
        self._known = known
        self._reserve = reserve
        self._whole: dict[str, bool] = {}
        self._uuids: dict[bytes, None] = {}
        self._sequence: dict[str, int] = {}
        self._waiting: dict[str, list[list[Value]]] = {}
        self._sums: Sums | None = None
        self._lost_pending: set[str] = set()
        self.findings = Findings()

    def run(self, sums: Sums | None) -> Findings:
        """Make the new database, durably; `sums` are those of the last commit, if they are known."""
        self._target.unlink(missing_ok=True)
        self._sums = sums
        self.findings.last = sums.last if sums else 0
        with self._pages:
            self._connection = _new_database(self._target)
            try:
                self._tables()
                self._everything_else()
                self._flush()
                self._conclude()
                self._connection.execute("COMMIT")
            finally:
                self._connection.close()
        _sync(self._target)
        return self.findings

    # --- rows ---

    def _tables(self) -> None:
        """The small tables by their trees, and all that memory knows better."""
        self._remember()
        for table in layout.tables():
            if table.name == "sqlite_sequence":
                self._walk.table(table, self._take_sequence)
            elif table.name and table.name != "chunks":
                self._whole[table.name] = True
                whole = self._walk.table(table, partial(self._take, table.name))
                self._whole[table.name] = self._whole[table.name] and whole
        if self._known is not None:
            self._whole |= dict.fromkeys(("outputs", "positions", "ledger"), True)
        self.findings.torn = [name for name, whole in self._whole.items() if not whole]

    def _remember(self) -> None:
        if self._known is None:
            return
        execute = self._connection.executemany
        execute("INSERT INTO outputs VALUES (?, ?, ?, ?)", self._known.outputs)
        execute("INSERT INTO positions VALUES (?, ?)", self._known.positions.items())
        execute(ADD_TO_LEDGER, [*ledger_rows(self._known.ledger), commit_row(self._known.commits)])

    def _take_sequence(self, row: list[Value]) -> None:
        name, number = row
        if isinstance(name, str) and isinstance(number, int):
            self._sequence[name] = number

    def _take(self, table: str, row: list[Value]) -> None:
        if self._known is not None and table in ("outputs", "positions", "ledger"):
            return
        if not _is_possible(table, row):
            self._whole[table] = False
            return
        waiting = self._waiting.setdefault(table, [])
        waiting.append(row)
        if len(waiting) >= _BATCH or any(isinstance(value, bytes) and len(value) > schema.PAGE for value in row):
            self._flush()

    def _flush(self) -> None:
        for table, rows in self._waiting.items():
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608  names of our schema
                rows.clear()

    def _everything_else(self) -> None:
        total = self._pages.count
        for found in self._walk.everything_else(lambda done: self._progress(done, total, self.findings.chunks)):
            match found:
                case Damaged(number):
                    self.findings.damaged.add(number)
                case Row("chunks", values):
                    self._chunk(values)
                case Row("sqlite_sequence", values):
                    self._take_sequence(values)
                case Row(table, values):
                    if not self._whole[table]:
                        self._take(table, values)
        self._progress(total, total, self.findings.chunks)

    def _chunk(self, values: list[Value]) -> None:
        """Keep a chunk if it is what its row says, and remember who it is for."""
        number, body = values[0], values[4]
        assert isinstance(number, int)
        assert isinstance(body, bytes)
        try:
            label = chunks.peek(body)
            chunk = chunks.decode(body, number, [label.uuid])
        except DecodeError:
            self.findings.damaged.add(number)
            return
        if self.findings.chunks % _LOOK == 0 and not self._has_room():
            self.findings.no_room += 1
            return
        row = (number, label.created, label.priority, label.events, body)
        if not self._connection.execute("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?, ?)", row).rowcount:
            return
        self._uuids[label.uuid] = None
        self._connection.executemany(
            "INSERT INTO temp.named VALUES (?, ?, ?)",
            [(number, name, chunks.wanted(column)) for name, column in chunk.destinations.items()],
        )
        self.findings.chunks += 1

    def _has_room(self) -> bool:
        return free_bytes(self._target.parent) > self._reserve

    # --- what is owed ---

    def _conclude(self) -> None:
        """Make `owed` and `pending` anew for what was found; what nobody owes goes."""
        findings, execute = self.findings, self._connection.execute
        self._last_marks()
        self._numbers()
        outputs = self._outputs()
        self._damaged_marks(outputs)
        self._damaged_pending()
        self._whole["owed"] = self._whole["owed"] and self._adds_up()
        execute("CREATE TEMP TABLE was_owed AS SELECT chunk, output FROM owed")
        execute("CREATE UNIQUE INDEX temp.by_chunk ON was_owed (chunk, output)")
        if self._owed_is_known:
            rows = execute("SELECT DISTINCT chunk FROM owed WHERE chunk NOT IN (SELECT number FROM chunks)")
            findings.missing = {number for (number,) in rows}
        findings.damaged -= {row[0] for row in execute("SELECT number FROM chunks")} if findings.damaged else set()
        execute("DELETE FROM owed")
        self._find_lost_pending(outputs)
        rows = execute("SELECT chunk, name, events FROM temp.named ORDER BY chunk")
        for number, named in groupby(rows, lambda row: row[0]):
            self._owe(number, [self._owing(number, outputs, name, events) for _, name, events in named])
        execute("DELETE FROM pending WHERE (chunk, output) NOT IN (SELECT chunk, output FROM owed)")
        execute("DELETE FROM chunks WHERE number NOT IN (SELECT chunk FROM owed)")
        regroup(self._connection)
        (findings.chunks,) = execute("SELECT count(*) FROM chunks").fetchone()
        self._uuids_of_meta()

    def _numbers(self) -> None:
        execute, findings = self._connection.execute, self.findings
        (highest,) = execute("SELECT coalesce(max(number), 0) FROM chunks").fetchone()
        findings.last = max(findings.last, highest, self._sequence.get("chunks", 0))
        for name, number in {**self._sequence, "chunks": findings.last}.items():
            execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, name))
            execute(
                "INSERT INTO sqlite_sequence SELECT ?, ? WHERE ? NOT IN (SELECT name FROM sqlite_sequence)",
                (name, number, name),
            )

    def _outputs(self) -> dict[str, list[_Output]]:
        """The outputs by name; one that chunks name and no row is there for is made, with nothing settled."""
        execute = self._connection.execute
        for (name,) in execute(
            "SELECT DISTINCT name FROM temp.named WHERE name NOT IN (SELECT name FROM outputs)"
        ).fetchall():
            execute(
                "INSERT INTO outputs SELECT 1 + max(id), ?, ?, 0 FROM (SELECT 0 AS id UNION SELECT id FROM outputs"
                " UNION SELECT output FROM owed UNION SELECT output FROM pending)",  # rows of lost ones have their ids
                (name, self._types.get(name, "unknown")),
            )
        found: dict[str, list[_Output]] = {}
        for row in execute("SELECT id, name, type, mark FROM outputs ORDER BY mark").fetchall():
            found.setdefault(row[1], []).append(_Output(*row))
        return found

    def _last_marks(self) -> None:
        """The outputs of the sums for damaged ones; their marks, where the pages are those of the last commit."""
        sums = self._sums
        if sums is None or self._known is not None or self._whole["outputs"]:
            return
        whole = self._whole["pending"] and self._whole["ledger"] and commits_of(self._connection) == sums.commits
        self._connection.execute("DELETE FROM outputs")
        self._connection.executemany(
            "INSERT INTO outputs VALUES (?, ?, ?, ?)",
            [(number, each.name, each.type, each.mark if whole else 0) for number, each in sums.outputs.items()],
        )
        self._whole["outputs"] = True

    def _damaged_marks(self, outputs: dict[str, list[_Output]]) -> None:
        """A mark beyond every chunk is none."""
        for output in [each for named in outputs.values() for each in named]:
            if not 0 <= output.mark <= self.findings.last:
                output.mark = 0
                self._connection.execute("UPDATE outputs SET mark = 0 WHERE id = ?", (output.id,))

    def _adds_up(self) -> bool:
        """Whether what was owed is what the counters say: a page may have lost rows and look whole."""
        owed = self._counted()
        if owed is None:
            return True
        for name, fresh, pending in self._connection.execute(
            "SELECT name,"
            " (SELECT total(events) FROM owed WHERE output = id AND chunk > mark),"
            " (SELECT total(events) FROM pending WHERE output = id AND chunk <= mark) FROM outputs"
        ):
            owed[name] -= int(fresh + pending)
        if self._whole["pending"]:
            return not any(owed.values())
        return min(owed.values(), default=0) >= 0  # what is missing may have been pending

    def _counted(self) -> Counter[str] | None:
        """The events that each output should hold as the counters have it; None when they cannot all be read."""
        if self._whole["ledger"]:
            return owed_by(ledger_from(self._connection.execute("SELECT * FROM ledger").fetchall()))
        return None

    def _find_lost_pending(self, outputs: dict[str, list[_Output]]) -> None:
        """The outputs of which pending rows may be gone: all that is found before their marks is owed again."""
        if self._whole["pending"] or self._owed_is_known:
            return
        counted = self._counted()
        for name, named in outputs.items():
            mark = min(output.mark for output in named)
            (fresh,) = self._connection.execute(
                "SELECT total(events) FROM temp.named WHERE name = ? AND chunk > ?", (name, mark)
            ).fetchone()
            if counted is None or counted[name] > fresh:
                self._lost_pending.add(name)

    def _damaged_pending(self) -> None:
        """A pending row that means events which its chunk does not have says nothing."""
        rows = self._connection.execute(
            "SELECT output, chunk, destination, pending.events, bitmap, chunks.events"
            " FROM pending JOIN chunks ON number = chunk"
        )
        wrong = []
        for output, chunk, destination, events, bits, there in rows:
            indices = indices_of(bits)
            if not indices or len(indices) != events or indices[-1] >= there:
                wrong.append((output, chunk, destination))
        self._connection.executemany("DELETE FROM pending WHERE output = ? AND chunk = ? AND destination = ?", wrong)
        if wrong:
            self._whole["pending"] = False

    def _owing(self, number: int, outputs: dict[str, list[_Output]], name: str, events: int) -> _Owing:
        """What is known of a chunk and the output of this name: the one that owed it, else the configuration's."""
        named = outputs[name]
        was = [each for each in named if self._has("temp.was_owed", number, each)]
        configured = [each for each in named if each.type == self._types.get(name)]
        output = (was or configured or named)[0]
        return _Owing(output, events, bool(was), self._has("pending", number, output))

    def _has(self, table: str, number: int, output: _Output) -> bool:
        query = f"SELECT 1 FROM {table} WHERE chunk = ? AND output = ?"  # noqa: S608  one of two names
        return self._connection.execute(query, (number, output.id)).fetchone() is not None

    @property
    def _owed_is_known(self) -> bool:
        return self._whole["owed"] and self._whole["outputs"]

    def _owe(self, number: int, owing: list[_Owing]) -> None:
        """Write down who owes the chunk."""
        if self._owed_is_known:
            owes = [each for each in owing if each.was_owed]
        else:
            owes = [
                each
                for each in owing
                if number > each.output.mark or each.pending or each.output.name in self._lost_pending
            ]
            if not owes and not self._whole["pending"]:  # somebody does, or it would not be there
                owes = owing
        for each in owes:
            self._connection.execute(
                "INSERT INTO owed (chunk, output, events, bytes, priority)"
                " SELECT number, ?, ?, length(body), priority FROM chunks WHERE number = ?",
                (each.output.id, each.events, number),
            )
            if number <= each.output.mark and not each.pending:
                self._owe_all_again(number, each.output)

    def _owe_all_again(self, number: int, output: _Output) -> None:
        """The mark has passed it and nobody knows which of its events are pending: all are."""
        (body,) = self._connection.execute("SELECT body FROM chunks WHERE number = ?", (number,)).fetchone()
        chunk = chunks.decode(body, number, [chunks.peek(body).uuid])
        places: dict[str, list[int]] = {}
        for index, place in enumerate(chunk.destinations[output.name]):
            if place is not None:
                places.setdefault(place, []).append(index)
        self._connection.executemany(
            "INSERT INTO pending VALUES (?, ?, ?, ?, ?, 0, ?)",
            [(output.id, number, place, len(indices), bitmap(indices), AGAIN) for place, indices in places.items()],
        )

    def _uuids_of_meta(self) -> None:
        """All uuids that chunks have, those that the database had first; a new one comes when it is opened."""
        execute, findings = self._connection.execute, self.findings
        row = execute("SELECT value FROM meta WHERE key = 'uuids'").fetchone()
        known = [row[0][start : start + 16] for start in range(0, len(row[0]), 16)] if row else []
        findings.uuids = [*dict.fromkeys([*known, *self._uuids])]
        execute("INSERT OR REPLACE INTO meta VALUES ('uuids', ?)", (b"".join(findings.uuids),))


def _is_possible(table: str, row: list[Value]) -> bool:
    """Whether a row of the right shape makes sense: counters have known terms, and uuids 16 bytes."""
    if table == "ledger":
        scope, term, count = row[0], row[3], row[5]
        known = scope == COMMITS or (scope in ("input", "output", "letters") and term in {*Term})
        return known and isinstance(count, int) and count >= 0
    if table == "meta":
        return row[0] == "uuids" and isinstance(row[1], bytes) and len(row[1]) % 16 == 0
    return True


def _new_database(path: Path) -> sqlite3.Connection:
    """An empty spool, without a journal: what a crash leaves of it is made anew."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (f"page_size={schema.PAGE}", "auto_vacuum=INCREMENTAL", "journal_mode=OFF", "synchronous=OFF"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    schema.make_tables(connection)
    connection.execute("CREATE TEMP TABLE named (chunk INTEGER, name TEXT, events INTEGER)")
    connection.execute("BEGIN")
    return connection


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
