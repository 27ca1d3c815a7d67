"""Reading dead letters: single ones, pages, groups. Long looks are made in steps, so that commits go on between them.

A generator that ends with its result is such a look: `whole` makes it at once, the spool step by step. What is found
damaged on the way is left out and noted in `damaged`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from dataclasses import fields
from typing import NamedTuple, TypeVar

from mcp_ingest.errors import SpoolError
from mcp_ingest.spool import schema
from mcp_ingest.spool.letters import COLUMNS, checksum
from mcp_ingest.spool.model import DeadLetter, LetterGroup, Selection

Value = TypeVar("Value")
Steps = Generator[None, None, Value]

#: Rows that one step looks at: some milliseconds, in which nobody commits.
STEP = 1000
#: Bytes of records after which a page ends.
PAGE_BYTES = 16 * 2**20
LAST = 2**63 - 1

_SELECT = f"SELECT {', '.join(COLUMNS)}, number, crc FROM dead_letters WHERE number = ?"  # noqa: S608  names of ours


class _Head(NamedTuple):
    """What one has to know of a letter to choose it."""

    number: int
    time: int
    kind: str
    signature: str
    size: int
    input: str
    pipeline: str
    stage: str
    output: str
    reason: str

    def fits(self, wanted: Selection) -> bool:
        """Whether it is one of those that are meant."""
        named = (self.signature, self.output, self.pipeline, self.stage)
        asked = (wanted.group, wanted.output, wanted.pipeline, wanted.stage)
        return (
            all(question is None or question == answer for question, answer in zip(asked, named, strict=True))
            and (wanted.since is None or self.time >= wanted.since)
            and (wanted.reason is None or wanted.reason.casefold() in self.reason.casefold())
        )

    def group(self) -> LetterGroup:
        """The group that it is the first of, without a letter in it yet."""
        return LetterGroup(
            signature=self.signature,
            kind=self.kind,
            output=self.output,
            input=self.input,
            pipeline=self.pipeline,
            stage=self.stage,
            letters=0,
            bytes=0,
            oldest=self.time,
            newest=self.time,
            reason=self.reason,
        )


_HEAD = ", ".join(_Head._fields)
_SELECT_HEAD = f"SELECT {_HEAD} FROM dead_letters WHERE number = ?"  # noqa: S608  names of ours
_GROUP = [field.name for field in fields(LetterGroup)]


def whole(steps: Steps[Value]) -> Value:
    """All steps at once."""
    while True:
        done, value = advance(steps)
        if done:
            return value  # type: ignore[return-value]  # with the last step comes the result


def advance(steps: Steps[Value]) -> tuple[bool, Value | None]:
    """One step: whether it was the last, and then the result."""
    try:
        next(steps)
    except StopIteration as end:
        return True, end.value
    return False, None


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the rows are at fault: pages that are none, or text that is no UTF-8."""
    return schema.is_damage(error) or "decode" in str(error)


class LetterReader:
    """Reads by one connection, in the thread that owns it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.damaged: dict[int, str] = {}

    def highest(self) -> int:
        """The highest number of a letter that is kept; 0 for none."""
        (number,) = self._connection.execute("SELECT max(number) FROM dead_letters").fetchone()
        return number or 0

    def letter(self, number: int) -> DeadLetter | None:
        """One letter; None if it is gone or damaged."""
        try:
            row = self._connection.execute(_SELECT, (number,)).fetchone()
            if row is None:
                return None
            *values, crc = row
            letter = DeadLetter(**dict(zip((*COLUMNS, "number"), values, strict=True)))
            if checksum(letter) == crc:
                return letter
            self.damaged[number] = f"dead letter {number} is damaged: its checksum is wrong"
        except (TypeError, AttributeError, UnicodeError):
            self.damaged[number] = f"dead letter {number} is damaged: a column is not of its type"
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self.damaged[number] = f"dead letter {number} cannot be read: {error}"
        return None

    def page(self, wanted: Selection, limit: int, before: int | None = None) -> Steps[list[DeadLetter]]:
        """So many of those that are meant, the newest first, numbered below `before`; fewer where they are large."""
        found: list[DeadLetter] = []
        start, size = LAST if before is None else before, 0
        while heads := self._heads(wanted, start, newest_first=True):
            for head in heads:
                start = head.number
                letter = self.letter(head.number) if head.fits(wanted) else None
                if letter is not None:
                    found.append(letter)
                    size += len(letter.record)
                if len(found) == limit or size > PAGE_BYTES:
                    return found
            yield
        return found

    def numbers(self, wanted: Selection, after: int, until: int, limit: int) -> Steps[tuple[list[int], int]]:
        """Up to so many numbers of those that are meant, above `after` and up to `until`, the oldest first.

        With them the number up to which nothing is left; `until` when that is all.
        """
        found: list[int] = []
        while True:
            heads = self._heads(wanted, after, newest_first=False)
            for head in heads:
                if head.number > until:
                    return found, until
                if head.fits(wanted):
                    if len(found) == limit:
                        return found, after
                    found.append(head.number)
                after = head.number
            if not heads:
                return found, until
            yield

    def read(self, numbers: Sequence[int], max_bytes: int) -> list[DeadLetter]:
        """Those of these letters that are there, until their records have so many bytes; one at least."""
        letters: list[DeadLetter] = []
        size = 0
        for number in numbers:
            letter = self.letter(number)
            if letter is not None:
                letters.append(letter)
                size += len(letter.record)
            if size >= max_bytes:
                break
        return letters

    def groups(self, wanted: Selection) -> Steps[list[LetterGroup]]:
        """Those that are meant by their signatures, the largest group first."""
        if wanted.numbers is None and wanted.reason is None and wanted.since is None:
            found = yield from self._known_groups(wanted)
        else:
            found = yield from self._counted_groups(wanted)
        return sorted(found, key=lambda group: (-group.letters, -group.newest))

    # --- groups --------------------------------------------------------------------------------------------

    def _known_groups(self, wanted: Selection) -> Steps[list[LetterGroup]]:
        """From the groups' own table, with the ends of each."""
        rows = self._connection.execute(
            f"SELECT {', '.join(_GROUP[:8])} FROM dead_letter_groups"  # noqa: S608  names of ours
            " WHERE (:group IS NULL OR signature = :group) AND (:output IS NULL OR output = :output)"
            " AND (:pipeline IS NULL OR pipeline = :pipeline) AND (:stage IS NULL OR stage = :stage)",
            {"group": wanted.group, "output": wanted.output, "pipeline": wanted.pipeline, "stage": wanted.stage},
        ).fetchall()
        found = []
        for place, row in enumerate(rows):
            if place % STEP == STEP - 1:
                yield
            ends = self._connection.execute(
                "SELECT min(number), max(number) FROM dead_letters WHERE signature = ?", row[:1]
            ).fetchone()
            oldest, newest = map(self._end, ends)
            if oldest is not None and newest is not None:
                values = zip(_GROUP, (*row, oldest[0], *newest), strict=True)
                found.append(LetterGroup(**dict(values)))
        return found

    def _end(self, number: int | None) -> tuple[int, str] | None:
        """Time and reason of the oldest or the newest letter of a group."""
        try:
            row = self._connection.execute(
                "SELECT time, reason FROM dead_letters WHERE number = ?", (number,)
            ).fetchone()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return 0, "(damaged)"
        return (int(row[0]), str(row[1])) if row else None

    def _counted_groups(self, wanted: Selection) -> Steps[list[LetterGroup]]:
        """From the letters, the oldest first."""
        groups: dict[str, LetterGroup] = {}
        start = 0
        while heads := self._heads(wanted, start, newest_first=False):
            for head in heads:
                start = head.number
                if not head.fits(wanted):
                    continue
                group = groups.get(head.signature)
                if group is None:
                    group = head.group()
                    groups[head.signature] = group
                group.letters += 1
                group.bytes += head.size
                group.oldest, group.newest = min(group.oldest, head.time), max(group.newest, head.time)
                group.reason = head.reason
            yield
        return list(groups.values())

    # --- what there is to choose from ----------------------------------------------------------------------

    def _heads(self, wanted: Selection, start: int, *, newest_first: bool) -> list[_Head]:
        """The next step's letters behind `start`, all or those of a group or of the given numbers."""
        order, sign = ("DESC", "<") if newest_first else ("ASC", ">")
        if wanted.numbers is not None:
            ahead = {number for number in wanted.numbers if (number < start if newest_first else number > start)}
            return self._one_by_one(sorted(ahead, reverse=newest_first))
        where = f"number {sign} ?" + (" AND signature = ?" if wanted.group is not None else "")
        values = (start, *((wanted.group,) if wanted.group is not None else ()), STEP)
        rest = f"FROM dead_letters {{}} WHERE {where} ORDER BY number {order} LIMIT ?"
        try:
            rows = self._connection.execute(f"SELECT {_HEAD} {rest.format('')}", values).fetchall()
            return [_Head(*row) for row in rows]
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        try:  # the index has the numbers of those, too, whose rows cannot be read
            query = f"SELECT number {rest.format('INDEXED BY dead_letters_by_signature')}"
            return self._one_by_one([number for (number,) in self._connection.execute(query, values).fetchall()])
        except sqlite3.DatabaseError as error:
            raise SpoolError(f"the dead letters cannot be read: {error}") from error

    def _one_by_one(self, numbers: list[int]) -> list[_Head]:
        """The heads of these letters; what cannot be read is noted, and left out."""
        found = []
        for number in numbers:
            try:
                row = self._connection.execute(_SELECT_HEAD, (number,)).fetchone()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self.damaged[number] = f"dead letter {number} cannot be read: {error}"
            else:
                if row is not None:
                    found.append(_Head(*row))
        return found
