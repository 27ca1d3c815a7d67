"""Letting go of the oldest chunks: the rows, the counters, and what follows from them, in the spool's transaction.

Everything here runs in the spool's thread. Whose chunks may go is decided by `overflow.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from mcp_ingest.event import Term
from mcp_ingest.spool.model import HIGH, NORMAL, OutputKey
from mcp_ingest.spool.overflow import SLICE_BYTES, SLICE_CHUNKS, Drop, Dropped, InHand, Part

if TYPE_CHECKING:
    from mcp_ingest.spool.transaction import Transaction


class _Debt(NamedTuple):
    """What one output owes of a chunk that is let go."""

    chunk: int
    output: int
    events: int
    size: int


def let_go(connection: sqlite3.Connection, transaction: Transaction, drop: Drop, names: Mapping[int, str]) -> Dropped:
    """Carry out a slice of the cut, the names by the outputs' ids; empty when nothing of it may go now."""
    dropping = _Dropping(connection, transaction, drop, names)
    for reasons in drop.cut.tiers:
        for priority in (NORMAL, HIGH):
            dropping.oldest(reasons, priority)
    dropping.forget_last()
    return dropping.dropped


class _Dropping:
    def __init__(
        self, connection: sqlite3.Connection, transaction: Transaction, drop: Drop, names: Mapping[int, str]
    ) -> None:
        self.dropped = Dropped()
        self._wanted = min(drop.cut.size, SLICE_BYTES)
        self._chunks = self._kept = 0
        self._execute = connection.execute
        self._transaction = transaction
        self._drop = drop
        self._names = names
        self._gone: dict[int, set[int]] = {}  # chunks by the output's id

    def oldest(self, reasons: Mapping[int, str], priority: int) -> None:
        """Let go of the oldest of this priority that these outputs owe, until it is enough."""
        debts: list[_Debt] = []
        for number, size in self._candidates(reasons, priority):
            if self._is_enough() or self._chunks >= SLICE_CHUNKS:
                break
            if owed := self._owed(number, reasons):
                debts += owed
                self.dropped.size += size
                self._chunks += 1
            else:
                self._kept += size
        by_output = sorted(debts, key=lambda debt: (debt.output, debt.chunk))
        for output, group in groupby(by_output, key=lambda debt: debt.output):
            self._count(output, reasons[output], priority, [*group])
        self._delete(debts)

    def _is_enough(self) -> bool:
        return self.dropped.size >= self._wanted

    def _candidates(self, reasons: Mapping[int, str], priority: int) -> Iterable[tuple[int, int]]:
        """Chunks and their bytes, the oldest first; nothing is read when it is enough already."""
        if self._is_enough():
            return []
        ids = ", ".join(map(str, reasons))
        if self._drop.cut.frees:
            rows = (
                "SELECT chunk, max(bytes) FROM owed WHERE priority = ? GROUP BY chunk"  # noqa: S608  numbers of ours
                f" HAVING total(output NOT IN ({ids})) = 0 ORDER BY chunk"
            )
        else:
            rows = f"SELECT chunk, bytes FROM owed WHERE priority = ? AND output IN ({ids}) ORDER BY chunk"  # noqa: S608  as above
        return self._execute(rows, (priority,))

    def _owed(self, number: int, reasons: Mapping[int, str]) -> list[_Debt]:
        """What these outputs owe of the chunk; nothing while one of them has it in hand."""
        found = []
        for output, events, size in self._execute(
            "SELECT output, events, bytes FROM owed WHERE chunk = ?", (number,)
        ).fetchall():
            if output not in reasons:
                continue
            if number in self._drop.in_hand.get(output, InHand()):
                if self._kept < self._wanted:
                    self.dropped.kept.setdefault(self._names[output], set()).add(number)
                return []
            if number <= self._transaction.marks[output]:
                (events,) = self._execute(
                    "SELECT coalesce(sum(events), 0) FROM pending WHERE output = ? AND chunk = ?", (output, number)
                ).fetchone()
            found.append(_Debt(number, output, events, size))
        return found

    def _count(self, output: int, reason: str, priority: int, debts: list[_Debt]) -> None:
        changes, name = self._transaction.changes, self._names[output]
        events = sum(debt.events for debt in debts)
        changes.held[output] -= events
        changes.bytes[output] -= sum(debt.size for debt in debts)
        changes.ledger[OutputKey(name, Term.DROPPED, reason)] += events
        oldest, newest = self._created(debts[0].chunk), self._created(debts[-1].chunk)
        self.dropped.parts.append(Part(name, reason, priority, events, oldest, newest))
        numbers = {debt.chunk for debt in debts}
        self._gone.setdefault(output, set()).update(numbers)
        self.dropped.chunks.setdefault(name, set()).update(numbers)

    def _created(self, number: int) -> int:
        row = self._execute("SELECT created FROM chunks WHERE number = ?", (number,)).fetchone()
        return int(row[0]) if row else self._transaction.changes.time

    def _delete(self, debts: list[_Debt]) -> None:
        for debt in debts:
            self._execute("DELETE FROM pending WHERE output = ? AND chunk = ?", (debt.output, debt.chunk))
            self._execute("DELETE FROM owed WHERE chunk = ? AND output = ?", (debt.chunk, debt.output))
        for number in dict.fromkeys(debt.chunk for debt in debts):
            deleted = self._execute(
                "DELETE FROM chunks WHERE number = ? AND NOT EXISTS (SELECT 1 FROM owed WHERE chunk = number)",
                (number,),
            )
            if deleted.rowcount:
                self._transaction.changes.gone.append(number)

    def forget_last(self) -> None:
        """What each output is not to be given any more, and the last chunk that it owes now."""
        transaction = self._transaction
        for name, numbers in self.dropped.chunks.items():
            transaction.changes.forgotten.setdefault(name, set()).update(numbers)
        for output, numbers in self._gone.items():
            transaction.touched.add(output)
            if transaction.last[output] in numbers:
                row = self._execute(
                    "SELECT chunk FROM owed WHERE output = ? ORDER BY chunk DESC LIMIT 1", (output,)
                ).fetchone()
                transaction.changes.last[output] = transaction.last[output] = row[0] if row else 0
