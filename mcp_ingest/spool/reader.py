"""What is read from the database: chunks for an output, one chunk; and `SpoolReader` for the CLI."""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from mcp_ingest.errors import DecodeError, SpoolError
from mcp_ingest.spool import schema
from mcp_ingest.spool.chunk import decode
from mcp_ingest.spool.files import DATABASE, Lock
from mcp_ingest.spool.letter_reader import LAST, LetterReader, whole
from mcp_ingest.spool.model import (
    Chunk,
    DeadLetter,
    Held,
    Ledger,
    LetterGroup,
    Pending,
    Removal,
    Selection,
    Usage,
)
from mcp_ingest.spool.recovery import look
from mcp_ingest.spool.rows import pending_of, resting_of
from mcp_ingest.spool.transaction import Damage, Writer
from mcp_ingest.spool.truth import Truth, known_outputs, load

Value = TypeVar("Value")


class Reader:
    """Reads by one `connection`, in the thread that owns it; some questions have a module of their own."""

    def __init__(self, connection: sqlite3.Connection, uuids: Collection[bytes]) -> None:
        self.connection = connection
        self._uuids = uuids

    def fresh(self, output: int, after: int, max_bytes: int) -> tuple[list[Chunk], list[Damage]]:
        """The chunks behind `after` that name the output, one at least and up to so many bytes of lines."""
        chunks: list[Chunk] = []
        damages: list[Damage] = []
        size = 0
        numbers = self.connection.execute(
            "SELECT chunk FROM owed WHERE chunk > ? AND output = ? ORDER BY chunk", (after, output)
        )
        for (number,) in numbers:
            found = self.chunk(number)
            if isinstance(found, Damage):
                damages.append(found)
            elif found is not None:
                chunks.append(found)
                size += found.line_bytes
                if size >= max_bytes:
                    break
        return chunks, damages

    def chunk(self, number: int) -> Chunk | Damage | None:
        """The chunk, what is wrong with it, or None when it is gone."""
        try:
            row = self.connection.execute("SELECT body FROM chunks WHERE number = ?", (number,)).fetchone()
            if row is None:
                return Damage(number, f"chunk {number} is not there") if self._is_owed(number) else None
            if not isinstance(row[0], bytes):
                raise DecodeError(f"chunk {number} is no longer bytes")
            return decode(row[0], number, self._uuids)
        except DecodeError as error:
            return Damage(number, str(error))
        except sqlite3.DatabaseError as error:
            if not schema.is_damage(error):
                raise
            return Damage(number, f"chunk {number} cannot be read: {error}")

    def _is_owed(self, number: int) -> bool:
        return self.connection.execute("SELECT 1 FROM owed WHERE chunk = ?", (number,)).fetchone() is not None

    def pending(self, name: str, output: int, chunk: int | None) -> list[Pending]:
        """What an output owes of chunks that its mark has passed, or of one of them."""
        return pending_of(self.connection, name, output, chunk)

    def resting(self, output: int) -> dict[str, array[int]]:
        """The chunks of its pending rows, by destination."""
        return resting_of(self.connection, output)


class SpoolReader:
    """The spool of a daemon that is not running: for `status` and `dead-letters`. Use it with `with`.

    It changes nothing but what `drop_letters` deletes.

    `outputs` (name to type) are the configuration's; without them every output of the database counts as
    configured. SpoolError when there is no spool, a process has it, or it cannot be read.
    """

    def __init__(self, directory: str | Path, outputs: Mapping[str, str] | None = None, max_bytes: int = 0) -> None:
        self._directory = Path(directory)
        self._outputs = outputs
        self._max_bytes = max_bytes
        self._lock = Lock(self._directory)

    def __enter__(self) -> SpoolReader:
        if not (self._directory / DATABASE).exists():
            raise SpoolError(f"there is no spool in {self._directory}")
        try:
            self._lock.take(patience=0)
            self._connection = look(self._directory)
            self._truth = self._load()
            self._reader = Reader(self._connection, schema.uuids(self._connection))
            self._letters = LetterReader(self._connection)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self._lock.give()
            raise SpoolError(f"the spool in {self._directory} cannot be read: {error}") from error
        except BaseException:
            self._lock.give()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._lock.give()

    def _load(self) -> Truth:
        ids = {
            name: number
            for (name, kind), number in known_outputs(self._connection).items()
            if self._outputs is None or self._outputs.get(name) == kind
        }
        return load(self._connection, ids)

    def ledger(self) -> Ledger:
        """The committed sums."""
        return self._truth.ledger

    def outputs(self) -> list[str]:
        """The names of the outputs that have a place in the spool."""
        return list(self._truth.ids)

    def held(self, output: str) -> Held:
        """What an output owes; nothing when the spool does not know it."""
        if output not in self._truth.ids:
            return Held(0, None)
        state = self._truth.output(output)
        return Held(state.events, state.oldest, state.bytes)

    def backlog_of_removed_outputs(self) -> dict[str, Held]:
        """What is owed to outputs that the configuration does not have."""
        return self._truth.removed()

    def usage(self) -> Usage:
        """How full the spool is."""
        return self._truth.usage(self._max_bytes)

    def positions(self, prefix: str = "") -> dict[str, bytes]:
        """The committed positions whose key begins so."""
        return {key: value for key, value in self._truth.positions.items() if key.startswith(prefix)}

    def letters(self, limit: int, before: int | None = None, wanted: Selection | None = None) -> list[DeadLetter]:
        """Dead letters, the newest first; those that are damaged are left out."""
        return whole(self._letters.page(wanted or Selection(), limit, before))

    def letter_groups(self, wanted: Selection) -> list[LetterGroup]:
        """Dead letters by their signatures, the largest group first."""
        return whole(self._letters.groups(wanted))

    def letter(self, number: int) -> DeadLetter | None:
        """One dead letter."""
        return self._letters.letter(number)

    def drop_letters(self, wanted: Selection, limit: int) -> int:
        """Delete up to so many of those that are meant, counted as `deleted`; how many that were."""
        numbers, _ = whole(self._letters.numbers(wanted, 0, LAST, limit))
        writer = Writer(self._connection, schema.uuids(self._connection)[-1], self._truth, time.time_ns)
        try:
            changes = writer.write([Removal(numbers)])
        except sqlite3.Error as error:
            raise SpoolError(f"the dead letters cannot be deleted: {error}") from error
        self._truth.apply(changes)
        return len(changes.answers[0])

    def look(self, question: Callable[[Reader], Value]) -> Value:
        """The answer to a question to the database."""
        return question(self._reader)

    def seen(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of these digests whose forward chunks were committed."""
        return self._truth.seen.among(digests)
