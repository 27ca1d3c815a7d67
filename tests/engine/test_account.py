"""The books of one output."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter

import pytest

from mcp_ingest.codecs.bulk import bulk_entries
from mcp_ingest.codecs.columns import Coded
from mcp_ingest.codecs.segments import segment
from mcp_ingest.engine.account import Account, Work
from mcp_ingest.event import Term
from mcp_ingest.spool.model import Chunk, DeadLetter, OutputKey, Settlement


def chunk(number: int, destinations: list[str | None]) -> Chunk:
    count = len(destinations)
    entries = segment(bulk_entries([f"{number}-{index}".ljust(28, "-") for index in range(count)], [b"{}"] * count))
    columns = Coded(["t"], count), {"out": Coded.of(destinations)}
    return Chunk(number, f"spool-{number}", 0, "p", 0, entries, *columns)


def letter() -> DeadLetter:
    return DeadLetter(0, "why", "refused", "t", b"{}", "id", 0, output="out")


def test_the_mark_passes_a_chunk_once_all_of_it_is_answered() -> None:
    """A chunk with two destinations is passed only when both are answered, and then counts whole."""
    account = Account("out", 0)
    first, second = account.fetched(chunk(1, ["a", "b", "a"]))
    account.settled(first, first.indices, Term.DELIVERED)
    assert account.settlement() is None
    account.settled(second, second.indices, Term.DUPLICATE)
    made = account.settlement()
    assert made is not None
    assert made.mark == 1
    assert made.ledger == {OutputKey("out", Term.DELIVERED): 2, OutputKey("out", Term.DUPLICATE): 1}


def test_the_mark_waits_for_the_oldest() -> None:
    """A later chunk that is answered first moves no mark and records nothing."""
    account = Account("out", 0)
    (first,) = account.fetched(chunk(1, ["a"]))
    (second,) = account.fetched(chunk(2, ["a"]))
    account.settled(second, [0], Term.DELIVERED)
    assert account.settlement() is None
    account.settled(first, [0], Term.DELIVERED)
    made = account.settlement()
    assert made is not None
    assert made.mark == 2
    assert made.ledger[OutputKey("out", Term.DELIVERED)] == 2


def test_postponed_events_become_a_row_that_the_mark_passes() -> None:
    """What is retried stands in a pending row, and is recorded on its own when it is settled later."""
    account = Account("out", 0)
    (work,) = account.fetched(chunk(7, ["a", "a", "a"]))
    account.settled(work, [0], Term.DELIVERED)
    account.postponed(Work(work.chunk, "a", [1, 2], attempt=1), [1, 2], "429")
    made = account.settlement()
    assert made is not None
    assert made.mark == 7
    assert [(row.indices, row.attempt, row.why) for row in made.pending] == [([1, 2], 1, "429")]
    account.settled(work, [2], Term.DELIVERED)
    again = account.settlement()
    assert again is not None
    assert [row.indices for row in again.pending] == [[1]]
    account.died(work, 1, letter())
    last = account.settlement()
    assert last is not None
    assert last.pending[0].indices == []
    assert len(last.letters) == 1
    assert account.settlement() is None


def test_a_chunk_for_nobody_here_is_passed() -> None:
    """A chunk none of whose events are for this output moves the mark."""
    account = Account("out", 3)
    assert account.fetched(chunk(9, [None, None])) == []
    made = account.settlement()
    assert made is not None
    assert made.mark == 9


class _Replayed:
    """What the spool would hold after these settlements."""

    def __init__(self) -> None:
        self.mark = 0
        self.rows: dict[tuple[int, str], set[int]] = {}
        self.counts: Counter[Term] = Counter()

    def apply(self, made: Settlement | None) -> None:
        if made is None:
            return
        assert made.mark is not None
        assert made.mark >= self.mark
        self.mark = made.mark
        for row in made.pending:
            self.rows[row.chunk, row.destination] = set(row.indices)
        for key, count in made.ledger.items():
            if isinstance(key, OutputKey):
                self.counts[key.term] += count


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_order_the_sum_closes(seed: int) -> None:
    """After any sequence of verdicts, each recorded state is: assigned = counted + pending + behind the mark."""
    rng = random.Random(seed)
    account, spool = Account("out", 0), _Replayed()
    works: list[Work] = []
    sizes: dict[int, int] = {}
    number = 0
    for _ in range(300):
        if rng.random() < 0.2 or not works:
            number += rng.randint(1, 3)
            places: list[str | None] = [rng.choice(["a", "b", None]) for _ in range(rng.randint(1, 6))]
            sizes[number] = sum(place is not None for place in places)
            works += account.fetched(chunk(number, places))
        if works:
            work = works.pop(rng.randrange(len(works)))
            middle = rng.randint(0, len(work.indices))
            done, left = work.indices[:middle], work.indices[middle:]
            if done and rng.random() < 0.8:
                account.settled(work, done, Term.DELIVERED)
            else:
                for index in done:
                    account.died(work, index, letter())
            if left:
                if rng.random() < 0.5:
                    account.postponed(work, left, "later")
                works.append(Work(work.chunk, work.destination, left, work.attempt + 1))
        if rng.random() < 0.5:
            spool.apply(account.settlement())
            pending = sum(len(row) for row in spool.rows.values())
            beyond = sum(size for chunk_number, size in sizes.items() if chunk_number > spool.mark)
            assert sum(sizes.values()) == sum(spool.counts.values()) + pending + beyond


def test_what_waits_in_memory_is_not_taken_up_again() -> None:
    """Of a row that holds a retried and a parked event, only the parked one is taken up, and only once."""
    account = Account("out", 0)
    (work,) = account.fetched(chunk(1, ["a", "a"]))
    account.postponed(work, [0], "429")
    account.postponed(work, [1], "blocked", resting=True)
    assert account.taken_up(1, "a") == ([1], 0)
    assert account.taken_up(1, "a") == ([], 0)
    account.postponed(work, [0], "blocked, too", resting=True)
    assert account.taken_up(1, "a") == ([0], 0)


def test_events_of_a_chunk_that_was_lost_count_no_more() -> None:
    """What the spool counted as lost is not counted again when a late answer comes."""
    account = Account("out", 0)
    (work,) = account.fetched(chunk(1, ["a", "a"]))
    account.postponed(work, [0, 1], "429")
    assert account.settlement() is not None
    account.lost([1])
    account.settled(work, [0], Term.DELIVERED)
    account.died(work, 1, letter())
    made = account.settlement()
    assert made is None or (not made.ledger and not made.letters)


def test_rows_are_small() -> None:
    """A backlog whose destination is closed takes some bytes a chunk, not some for each event."""
    account = Account("out", 0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1, 51):
        (work,) = account.fetched(chunk(number, ["a"] * 2000))
        account.postponed(work, work.indices, "blocked", resting=True)
        account.settlement()
        del work
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50 * 2000
