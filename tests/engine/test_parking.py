"""Destinations that take nothing for now."""

from __future__ import annotations

import tracemalloc
from array import array

from mcp_ingest.engine.parking import Parking


def test_what_rests_is_taken_oldest_first_and_by_destination() -> None:
    """An open destination gives its chunks in order; when none is left there is nothing."""
    parking = Parking()
    for number in (1, 2, 3):
        parking.rest("a", number)
    parking.rest("b", 9)
    taken = [parking.take(0.0, 5.0) for _ in range(5)]
    assert taken == [("a", 1, False), ("a", 2, False), ("a", 3, False), ("b", 9, False), None]


def test_a_closed_destination_is_tried_with_one_chunk() -> None:
    """After its pause one chunk goes; the others wait for what becomes of it, and other destinations go on."""
    parking = Parking()
    assert parking.close("a", "blocked", now=0.0, until=5.0)
    for number in (1, 2, 3):
        parking.rest("a", number)
    assert parking.take(1.0, 6.0) is None
    assert parking.moment(1.0) == 5.0
    assert parking.take(5.0, 10.0) == ("a", 1, True)
    assert parking.take(5.0, 10.0) is None
    assert not parking.close("a", "blocked", now=6.0, until=11.0)
    assert parking.open("a")
    assert not parking.open("a")
    assert parking.take(7.0, 12.0) == ("a", 2, False)


def test_it_says_what_is_closed_and_why() -> None:
    """With the last sentence of each."""
    parking = Parking()
    parking.close("a", "first", 0.0, 5.0)
    parking.close("a", "second", 6.0, 11.0)
    assert len(parking) == 1
    assert parking.why() == {"a": "second"}


def test_destinations_are_forgotten() -> None:
    """A year of daily indices of which each was closed for a while leaves nothing behind."""
    parking = Parking()
    for day in range(365):
        now = day * 86400.0
        parking.close(f"logs-{day}", "blocked", now, now + 5)
    assert len(parking) <= 2
    parking.rest("logs-364", 1)
    parking.close("other", "blocked", 400 * 86400.0, 400 * 86400.0 + 5)
    assert set(parking.why()) == {"logs-364", "other"}


def test_a_million_chunks_at_rest_are_ten_megabytes() -> None:
    """What waits for a closed index is on disk; in memory it is a number."""
    tracemalloc.start()
    parking = Parking()
    for number in range(1_000_000):
        parking.rest("a", number)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 12_000_000
    for number in range(1_000_000):
        assert parking.take(0.0, 5.0) == ("a", number, False)


def test_it_begins_anew_with_what_is_on_disk() -> None:
    """After a restart everything at rest is due, and nothing is closed."""
    parking = Parking()
    parking.close("a", "blocked", 0.0, 5.0)
    parking.clear({"a": array("Q", [4, 5])})
    assert len(parking) == 0
    assert parking.take(0.0, 5.0) == ("a", 4, False)


def test_chunks_that_are_not_owed_any_more_are_forgotten() -> None:
    """What was let go is not taken up, nor does it cost a closed destination a trial."""
    parking = Parking()
    for destination, number in (("a", 1), ("a", 2), ("b", 1), ("a", 3)):
        parking.rest(destination, number)
    assert parking.take(0.0, 5.0) == ("a", 1, False)
    parking.forget({1, 3})
    assert parking.take(0.0, 5.0) == ("a", 2, False)
    assert parking.take(0.0, 5.0) is None
