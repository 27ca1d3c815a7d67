"""How values of the model stand in rows, both ways: ledger, pending bitmaps."""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mcp_ingest.event import Term
from mcp_ingest.spool.model import InputKey, Ledger, LetterKey, OutputKey, Pending

LedgerRow = tuple[str, str, str, str, str, int]

ADD_TO_LEDGER = """
INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count
"""


def ledger_rows(ledger: Ledger) -> Iterator[LedgerRow]:
    """A row for each counter that is not zero."""
    for key, count in ledger.items():
        if not count:
            continue
        match key:
            case InputKey(name, pipeline, term, reason):
                yield "input", name, pipeline, term, reason, count
            case OutputKey(name, term, reason):
                yield "output", name, "", term, reason, count
            case LetterKey(term, reason):
                yield "letters", "", "", term, reason, count


COMMITS = "commits"


def commit_row(commits: int) -> LedgerRow:
    """The row that counts commits: in the ledger, because nearly every commit writes that page anyway."""
    return COMMITS, "", "", "", "", commits


def commits_of(connection: sqlite3.Connection) -> int:
    """How many commits there were."""
    row = connection.execute("SELECT count FROM ledger WHERE scope = ?", (COMMITS,)).fetchone()
    return int(row[0]) if row else 0


def ledger_from(rows: Iterable[LedgerRow]) -> Ledger:
    """The counters of these rows."""
    ledger: Ledger = Counter()
    for scope, name, pipeline, term, reason, count in rows:
        match scope:
            case "input":
                ledger[InputKey(name, pipeline, Term(term), reason)] = count
            case "output":
                ledger[OutputKey(name, Term(term), reason)] = count
            case "letters":
                ledger[LetterKey(Term(term), reason)] = count
    return ledger


def bitmap(indices: Sequence[int]) -> bytes:
    """Bit i of byte i // 8, lowest first, for each index."""
    bits = bytearray(max(indices) // 8 + 1) if indices else bytearray()
    for index in indices:
        bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def indices_of(bits: bytes) -> list[int]:
    """The indices whose bits are set, ascending."""
    return [place * 8 + bit for place, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1]


def pending_of(connection: sqlite3.Connection, name: str, output: int, chunk: int | None) -> list[Pending]:
    """The pending rows of an output, oldest chunk first; of one chunk if so asked."""
    rows = connection.execute(
        "SELECT chunk, destination, bitmap, attempt, why FROM pending"
        " WHERE output = :output AND chunk BETWEEN coalesce(:chunk, 0) AND coalesce(:chunk, 9223372036854775807)"
        " ORDER BY chunk, destination",
        {"output": output, "chunk": chunk},
    )
    return [
        Pending(name, number, destination, indices_of(bits), attempt, why)
        for number, destination, bits, attempt, why in rows
    ]


def resting_of(connection: sqlite3.Connection, output: int) -> dict[str, array[int]]:
    """The chunks of an output's pending rows by destination, oldest first: 8 bytes each."""
    found: dict[str, array[int]] = {}
    for number, destination in connection.execute(
        "SELECT chunk, destination FROM pending WHERE output = ? ORDER BY chunk", (output,)
    ):
        found.setdefault(destination, array("Q")).append(number)
    return found
