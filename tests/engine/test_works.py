"""Works as parts of requests."""

from __future__ import annotations

from mcp_ingest.codecs.bulk import bulk_entries
from mcp_ingest.codecs.columns import Coded
from mcp_ingest.codecs.segments import segment
from mcp_ingest.engine.account import Work
from mcp_ingest.engine.works import as_part, fitting, halves, is_whole, line_bytes, part
from mcp_ingest.spool.model import Chunk


def work(*sizes: int) -> Work:
    """Events with lines of these sizes."""
    lines = [b"x" * size for size in sizes]
    entries = segment(bulk_entries([f"{index}".ljust(28, "-") for index in range(len(sizes))], lines))
    places: Coded[str | None] = Coded(["index"], len(sizes))
    columns = Coded(["t"], len(sizes)), {"out": places}
    return Work(Chunk(1, "spool-1", 0, "p", 0, entries, *columns), "index", range(len(sizes)))


def test_a_whole_chunk_goes_as_it_is_stored() -> None:
    """Its segment goes along; a part of it, or one with a repaired line, has columns alone."""
    whole = work(3, 4)
    assert as_part(whole).entries is whole.chunk.entries
    assert as_part(part(whole, [1])).entries is None
    repaired = part(whole, [0, 1])
    repaired.repaired = {0: b"new"}
    assert not is_whole(repaired)
    assert list(as_part(repaired).lines) == [b"new", b"xxxx"]


def test_what_stands_beside_a_line_counts() -> None:
    """A thousand lines of one byte fill a request with their actions, not with their thousand bytes."""
    small = work(*[1] * 1000)
    assert line_bytes(small) == 1000
    assert fitting(small, 1000, 5000, beside=0) == 1000
    assert fitting(small, 1000, 5000, beside=99) == 10
    assert fitting(small, 100_000, 5000, beside=99) == 1000
    assert fitting(small, 100_000, 30, beside=99) == 30
    assert fitting(small, 50, 5000, beside=99) == 0


def test_bytes_are_those_of_its_own_events() -> None:
    """A part counts what it has."""
    assert line_bytes(part(work(1, 10, 100), [1, 2])) == 110


def test_halves_have_the_same_events() -> None:
    """Across works, in order, nothing twice and nothing missing."""
    works = [work(1, 1, 1), part(work(1, 1), [1]), work(1, 1)]
    first, second = halves(works, 4)
    assert [list(each.indices) for each in first] == [[0, 1, 2], [1]]
    assert [list(each.indices) for each in second] == [[0, 1]]
