"""A removed output's backlog becomes another's: both sides in one transaction of the spool.

What is moved is a new chunk for the other output, with the same ids and lines; of the old chunk the removed one owes
nothing any more. So both sums close at every moment. Everything here runs in the spool's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mcp_ingest.errors import SpoolError
from mcp_ingest.spool.model import Chunk, Moved

if TYPE_CHECKING:
    from mcp_ingest.spool.reader import Reader
    from mcp_ingest.spool.transaction import Damage, Transaction
    from mcp_ingest.spool.truth import OutputState


class Owed(NamedTuple):
    """What an output owes of a chunk: these of its events, by their indices."""

    chunk: Chunk
    indices: Sequence[int]


def owed_by(reader: Reader, state: OutputState, max_bytes: int) -> tuple[list[Owed], list[Damage]]:
    """What the output owes, oldest chunk first: of one chunk at least, of chunks up to so many bytes of lines."""
    chunks, damages = reader.fresh(state.id, 0, max_bytes)
    return [Owed(chunk, _indices(reader, state, chunk)) for chunk in chunks], damages


def _indices(reader: Reader, state: OutputState, chunk: Chunk) -> Sequence[int]:
    if chunk.number <= state.mark:
        rows = reader.pending(state.name, state.id, chunk.number)
        return sorted({index for row in rows for index in row.indices})
    return [index for index, place in enumerate(chunk.destinations[state.name]) if place is not None]


def hand_over(connection: sqlite3.Connection, transaction: Transaction, moved: Moved) -> None:
    """Take from the output what it owes of these chunks.

    SpoolError when that is not what it owed when it was looked at: some of it was let go meanwhile.
    """
    execute, changes, output = connection.execute, transaction.changes, moved.output
    for number, events in moved.chunks.items():
        changes.bytes[output] -= _size(connection, output, number, events, transaction.marks[output])
        changes.held[output] -= events
        execute("DELETE FROM pending WHERE output = ? AND chunk = ?", (output, number))
        execute("DELETE FROM owed WHERE chunk = ? AND output = ?", (number, output))
        gone = execute(
            "DELETE FROM chunks WHERE number = ? AND NOT EXISTS (SELECT 1 FROM owed WHERE chunk = number)", (number,)
        )
        if gone.rowcount:
            changes.gone.append(number)
    transaction.touched.add(output)
    if transaction.last[output] in moved.chunks:
        (last,) = execute("SELECT max(chunk) FROM owed WHERE output = ?", (output,)).fetchone()
        changes.last[output] = transaction.last[output] = last or 0


def _size(connection: sqlite3.Connection, output: int, number: int, events: int, mark: int) -> int:
    """The bytes of the chunk; SpoolError unless it is owed, and just so many of its events are."""
    key = (number, output)
    row = connection.execute("SELECT events, bytes FROM owed WHERE chunk = ? AND output = ?", key).fetchone()
    if row is None:
        raise SpoolError(f"chunk {number} is not owed any more")
    owed, size = row
    if number <= mark:
        (owed,) = connection.execute("SELECT total(events) FROM pending WHERE chunk = ? AND output = ?", key).fetchone()
    if owed != events:
        raise SpoolError(f"of chunk {number} {owed:.0f} events are owed, not {events}")
    return int(size)
