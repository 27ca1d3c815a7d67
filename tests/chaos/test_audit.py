"""The daemon's ledger beside what was sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.audit import books
from tests.chaos.book import Book


def _status(accepted: int, lines: int, **terms: int) -> dict[str, Any]:
    def row(way: str, name: str, term: str, count: int) -> dict[str, Any]:
        return {way: name, "term": term, "reason": "", "count": count}

    inputs = [row("input", "forward", "accepted", accepted), row("input", "slow", "accepted", lines)]
    outputs = [row("output", "elasticsearch", term, count) for term, count in terms.items()]
    return {"sums": [], "ledger": {"inputs": inputs, "outputs": outputs}, "spool": {"dead_letters": 0}}


@pytest.fixture
def book() -> Book:
    """Ten events by forward and five lines."""
    made = Book()
    made.write("f", 10)
    made.write("slow", 5)
    return made


def test_what_was_sent_and_taken_once_is_right(book: Book) -> None:
    """Delivered, or known to be there by Elasticsearch: together as many as were sent."""
    assert books(book, ["slow"], _status(10, 5, assigned=15, delivered=12, duplicate=3), 0) == []


def test_what_another_worker_took_anew_is_a_duplicate(book: Book) -> None:
    """Three events that two workers took are three more accepted, and three duplicates at least."""
    assert books(book, ["slow"], _status(13, 5, assigned=18, delivered=15, duplicate=3), 3) == []
    assert len(books(book, ["slow"], _status(13, 5, assigned=18, delivered=16, duplicate=2), 3)) == 1


@pytest.mark.parametrize(
    ("accepted", "lines", "anew"),
    [(11, 5, 0), (9, 5, 0), (12, 5, 3), (14, 5, 3), (13, 6, 3), (13, 4, 3)],
    ids=["one too many", "one too few", "fewer than anew", "more than anew", "a line twice", "a line less"],
)
def test_one_event_that_is_not_accounted_for_is_found(book: Book, accepted: int, lines: int, anew: int) -> None:
    """Neither more nor less may be accepted than was sent and taken anew, and of a file nothing is ever taken anew."""
    counted = accepted + lines
    found = books(book, ["slow"], _status(accepted, lines, assigned=counted, delivered=counted - 3, duplicate=3), anew)
    assert found


def test_nothing_may_be_dropped_lost_or_open(book: Book) -> None:
    """Another term at the output, a dead letter and an open sum are a sentence each."""
    status = _status(10, 5, assigned=16, delivered=15, lost=1)
    status["sums"] = [{"sum": "way in", "closed": False}]
    status["spool"]["dead_letters"] = 2
    assert len(books(book, ["slow"], status, 0)) == 3
