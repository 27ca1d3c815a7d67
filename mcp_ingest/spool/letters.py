"""Dead letters as rows: how they come in, how they leave, and what is kept of them. In the spool's thread.

Each row has a checksum, for SQLite has none: what a disk gives back changed must not be replayed. Letters leave by
their number and are counted under their kind in the same transaction, so that their sum closes at every moment; who
wants to replay one that has left meanwhile fails. The bounds are kept without looking: how many bytes there are and
when the oldest died is known; a transaction that brings letters looks at the bytes, the engine now and then at the age.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from zlib import crc32

from mcp_ingest.errors import LetterGoneError
from mcp_ingest.event import Term
from mcp_ingest.spool.model import DeadLetter, KeptLetters, Ledger, LetterKey, SpoolSettings
from mcp_ingest.spool.signature import signature

#: Rows that one transaction lets go beyond the bounds at the most (and twice those it brings): others wait for it.
EXPIRED_AT_ONCE = 2000
#: Bytes that a letter takes beside its texts: the row's numbers, its places in the indices and in its group.
_OVERHEAD = 150

_TEXTS = (
    "kind", "input", "pipeline", "stage", "output", "output_type", "reason", "tag", "event_id", "destination", "form",
)  # fmt: skip
_NUMBERS = ("time", "event_time", "received")
COLUMNS = (*_TEXTS, *_NUMBERS, "record", "signature")
_INSERT = f"INSERT INTO dead_letters ({', '.join(COLUMNS)}, size, crc) VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"  # noqa: S608  names of ours
_ADD_TO_GROUP = """
INSERT INTO dead_letter_groups VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET letters = letters + excluded.letters, bytes = bytes + excluded.bytes
"""
_texts, _numbers, _values = attrgetter(*_TEXTS), attrgetter(*_NUMBERS), attrgetter(*COLUMNS)


@dataclass(frozen=True, slots=True)
class LetterBounds:
    """Nanoseconds and bytes above which the oldest letters go."""

    max_age: int = 2**62
    max_bytes: int = 2**62

    @classmethod
    def of(cls, settings: SpoolSettings) -> LetterBounds:
        """Those of the configuration."""
        return cls(int(settings.dead_letters.max_age * 1e9), settings.dead_letter_bytes)

    def passed_by(self, kept: KeptLetters, now: int) -> bool:
        """Whether letters have to go."""
        return kept.bytes > self.max_bytes or (kept.oldest is not None and kept.oldest < now - self.max_age)


def checksum(letter: DeadLetter) -> int:
    """CRC-32 of all that the letter says."""
    head = "\0".join((*_texts(letter), *map(str, _numbers(letter)), letter.signature))
    return crc32(letter.record, crc32(head.encode("utf-8", "surrogatepass")))


def letter_bytes(letter: DeadLetter) -> int:
    """What it counts for the bound of bytes."""
    return len(letter.record) + len(letter.reason) + len(letter.destination) + _OVERHEAD


def signed(letter: DeadLetter) -> DeadLetter:
    """The letter with its signature."""
    where = (letter.output, letter.input, letter.pipeline, letter.stage)
    letter.signature = signature(letter.kind, where, letter.reason)
    return letter


def load_kept(connection: sqlite3.Connection) -> KeptLetters:
    """What is kept, counted: one look through an index."""
    kinds: Counter[str] = Counter()
    for kind, count in connection.execute(
        "SELECT coalesce(kind, ''), count"
        " FROM (SELECT signature, count(*) AS count FROM dead_letters GROUP BY signature)"
        " LEFT JOIN dead_letter_groups USING (signature)"
    ):
        kinds[kind] += count
    (size,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM dead_letter_groups").fetchone()
    return KeptLetters(kinds.total(), kinds, size, _oldest(connection))


def regroup(connection: sqlite3.Connection) -> None:
    """Count the groups anew, from the letters that are there."""
    connection.execute("DELETE FROM dead_letter_groups")
    connection.execute(
        "INSERT INTO dead_letter_groups (signature, kind, output, input, pipeline, stage, letters, bytes)"
        " SELECT signature, kind, output, input, pipeline, stage, count(*), sum(size) FROM dead_letters"
        " GROUP BY signature"
    )


def _oldest(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT min(time) FROM dead_letters").fetchone()
    return row[0] if row else None


class LetterBook:
    """What one transaction does to the letters; `kept` is what there is of them once it is committed."""

    def __init__(
        self, connection: sqlite3.Connection, before: KeptLetters, bounds: LetterBounds, ledger: Ledger, now: int
    ) -> None:
        self.kept = replace(before, kinds=before.kinds.copy())
        self.expired = 0
        self._connection = connection
        self._bounds = bounds
        self._ledger = ledger
        self._now = now

    def add(self, letters: Sequence[DeadLetter]) -> int:
        """Insert them, and let go of the oldest where that is too much; bytes that were written."""
        rows, groups, first = [], Counter[str](), dict[str, DeadLetter]()
        sizes: Counter[str] = Counter()
        for letter in map(signed, letters):
            size = letter_bytes(letter)
            rows.append((*_values(letter), size, checksum(letter)))
            groups[letter.signature] += 1
            sizes[letter.signature] += size
            first.setdefault(letter.signature, letter)
            self.kept.kinds[letter.kind] += 1
        self._connection.executemany(_INSERT, rows)
        self._connection.executemany(
            _ADD_TO_GROUP,
            [
                (name, each.kind, each.output, each.input, each.pipeline, each.stage, groups[name], sizes[name])
                for name, each in first.items()
            ],
        )
        written = sizes.total()
        self.kept.count += len(letters)
        self.kept.bytes += written
        self._keep_within_bytes(EXPIRED_AT_ONCE + 2 * len(letters))
        return written

    def remove(self, numbers: Iterable[int], term: Term, *, all_of_them: bool = False) -> list[int]:
        """Delete those that are there and count them; LetterGoneError where one is not and `all_of_them` must be."""
        execute = self._connection.execute
        gone, groups, sizes = [], Counter[str](), Counter[str]()
        for number in numbers:
            row = execute("SELECT kind, signature, size FROM dead_letters WHERE number = ?", (number,)).fetchone()
            if row is None:
                if all_of_them:
                    raise LetterGoneError(f"dead letter {number} is no longer there")
                continue
            kind, name, size = row
            execute("DELETE FROM dead_letters WHERE number = ?", (number,))
            gone.append(number)
            groups[name] += 1
            sizes[name] += size
            self.kept.kinds[kind] -= 1
            self._ledger[LetterKey(term, kind)] += 1
        self._connection.executemany(
            "UPDATE dead_letter_groups SET letters = letters - ?, bytes = bytes - ? WHERE signature = ?",
            [(groups[name], sizes[name], name) for name in groups],
        )
        self._connection.executemany(
            "DELETE FROM dead_letter_groups WHERE signature = ? AND letters <= 0", [(name,) for name in groups]
        )
        self.kept.count -= len(gone)
        self.kept.bytes -= sizes.total()
        return gone

    def expire(self) -> list[int]:
        """Let go of the oldest beyond the bounds, some thousand at the most."""
        gone = self._keep_within_bytes(EXPIRED_AT_ONCE)
        rows = self._connection.execute(
            "SELECT number FROM dead_letters WHERE time < ? ORDER BY time LIMIT ?",
            (self._now - self._bounds.max_age, EXPIRED_AT_ONCE - len(gone)),
        ).fetchall()
        aged = self.remove([number for (number,) in rows], Term.EXPIRED)
        self.expired += len(aged)
        return gone + aged

    def make_room(self, size: int, count: int) -> None:
        """On a full disk: let go of the oldest, so that `count` letters of so many bytes find room in their pages."""
        self._shrink_to(max(0, self.kept.bytes - size), EXPIRED_AT_ONCE + 2 * count)

    def _keep_within_bytes(self, limit: int) -> list[int]:
        """Let go of the oldest beyond the bound of bytes, so many at the most."""
        return self._shrink_to(self._bounds.max_bytes, limit)

    def _shrink_to(self, size: int, limit: int) -> list[int]:
        """Let go of the oldest until no more bytes than this are left, so many letters at the most."""
        gone: list[int] = []
        while len(gone) < limit and self.kept.bytes > size:
            step = self._oldest_above(size, min(limit - len(gone), 500))
            if not step:
                break
            gone += self.remove(step, Term.EXPIRED)
        self.expired += len(gone)
        return gone

    def _oldest_above(self, size: int, limit: int) -> list[int]:
        """The oldest, until what is left of the bytes is no more than this."""
        excess, found = self.kept.bytes - size, []
        for number, bytes_ in self._connection.execute(
            "SELECT number, size FROM dead_letters ORDER BY number LIMIT ?", (limit,)
        ):
            found.append(number)
            excess -= bytes_
            if excess <= 0:
                break
        return found

    def lose(self, numbers: Sequence[int], why: str) -> list[int]:
        """Take out what cannot be read, and set aside what can be read of it."""
        for number in numbers:
            record = None
            with contextlib.suppress(sqlite3.DatabaseError):
                row = self._connection.execute("SELECT record FROM dead_letters WHERE number = ?", (number,)).fetchone()
                record = row[0] if row else None
            self._connection.execute(
                "INSERT OR IGNORE INTO damaged_letters VALUES (?, ?, ?, ?)", (number, self._now, why, record)
            )
        return self.remove(numbers, Term.LOST)

    def close(self) -> KeptLetters:
        """What there is now."""
        self.kept.kinds += Counter()  # without zeros
        self.kept.oldest = _oldest(self._connection)
        return self.kept
