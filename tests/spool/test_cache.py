"""Tests of the chunks in memory."""

from __future__ import annotations

from mcp_ingest.spool.cache import RecentChunks
from mcp_ingest.spool.chunk import Stamp, stamped
from mcp_ingest.spool.model import Chunk
from tests.spool.making import chunk

UUID = bytes(16)


def numbered(number: int, *outputs: str) -> Chunk:
    return stamped(chunk(2, outputs or ("a",)), Stamp(UUID, number, 1))


def test_each_output_sees_its_chunks_in_order() -> None:
    """Chunks that do not name the output, or are deleted, are passed over."""
    cache = RecentChunks(10)
    cache.add([numbered(11, "a"), numbered(12, "b"), numbered(14, "a"), numbered(15, "a", "b")])
    cache.drop([14, 99])
    assert [each.number for each in cache.fresh("a", 10, 10**6)] == [11, 15]
    assert [each.number for each in cache.fresh("b", 12, 10**6)] == [15]


def test_a_read_is_bounded_and_has_one_at_least() -> None:
    """However few bytes are asked for, the next chunk comes whole."""
    cache = RecentChunks(0)
    cache.add([numbered(1), numbered(2)])
    assert [each.number for each in cache.fresh("a", 0, 1)] == [1]


def test_the_oldest_go_when_it_is_too_much() -> None:
    """Memory is bounded, and the floor says from where on everything is here."""
    cache = RecentChunks(0, max_bytes=9000)
    cache.add([numbered(number) for number in range(1, 11)])
    assert cache.floor > 0
    assert cache.get(cache.floor) is None
    assert [each.number for each in cache.fresh("a", cache.floor, 10**6)] == list(range(cache.floor + 1, 11))


def test_what_a_reader_made_of_a_chunk_is_not_kept() -> None:
    """Columns that were looked at belong to the reader: the cache holds chunks as they are stored."""
    cache = RecentChunks(0)
    cache.add([numbered(1)])
    first, second = cache.get(1), cache.get(1)
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.lines == second.lines
    assert first.lines.values is not second.lines.values


def test_what_one_output_is_not_given_any_more_others_are() -> None:
    """A chunk whose debt to one output was let go stays for the other."""
    cache = RecentChunks(0)
    cache.add([numbered(1, "a", "b"), numbered(2, "a", "b")])
    cache.forget("a", {1, 7})
    assert [each.number for each in cache.fresh("a", 0, 10**6)] == [2]
    assert [each.number for each in cache.fresh("b", 0, 10**6)] == [1, 2]


def test_numbers_of_chunks_that_are_gone_cost_nothing() -> None:
    """An output that gets something once in a billion chunks does not hold up the event loop."""
    cache = RecentChunks(0)
    cache.add([numbered(1), numbered(10**9)])
    assert [each.number for each in cache.fresh("a", 1, 10**6)] == [10**9]
