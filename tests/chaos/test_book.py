"""What was sent beside what is stored."""

from __future__ import annotations

import random
from collections import Counter

from tests.chaos.book import Book, key_of, message


def test_every_difference_is_found() -> None:
    """An acknowledged event that is missing is lost; one that is there twice is doubled; others may be there once."""
    book = Book()
    assert book.write("f", 4) == range(4)
    assert book.write("f", 2) == range(4, 6)
    book.acknowledge("f", range(3))
    found = Counter({"f-0": 1, "f-2": 2, "f-3": 1, "f-4": 2, "g-1": 1})
    compared = book.compare(found)
    assert (compared.stored, compared.lost, compared.doubled, compared.strangers) == (7, 1, 2, 1)
    assert [problem.split(" (")[0] for problem in compared.problems()] == [
        "1 events are acknowledged and not stored",
        "2 events are stored more than once",
        "1 events are stored and never sent",
    ]


def test_nothing_is_wrong_when_all_is_there_once() -> None:
    """Everything acknowledged and stored once is no problem, nor is what was not acknowledged and is not there."""
    book = Book()
    book.acknowledge("f", book.write("f", 2))
    book.write("f")
    assert (book.sent(), book.acknowledged(), book.sent("g")) == (3, 2, 0)
    assert book.compare(Counter({"f-0": 1, "f-1": 1})).problems() == []


def test_a_message_ends_with_its_key() -> None:
    """The key is read from the end of a message, and a message without one is its own key."""
    assert key_of(message(random.Random(1), "quick", 12)) == "quick-12"
    assert key_of("a stranger") == "a stranger"
