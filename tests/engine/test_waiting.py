"""Works that wait in memory: what is sent first, what is due when, and what is taken out."""

from __future__ import annotations

from mcp_ingest.codecs.columns import Coded
from mcp_ingest.codecs.segments import segment
from mcp_ingest.engine import waiting as module
from mcp_ingest.engine.account import Work
from mcp_ingest.engine.waiting import Waiting
from mcp_ingest.spool.model import Chunk


def _work(number: int, size: int = 100) -> Work:
    entries = segment(b"x" * size)
    return Work(Chunk(number, f"c-{number}", 0, "p", 0, entries, Coded(["t"], 1), {}), "index", [0])


def test_delayed_works_are_ready_when_they_are_due() -> None:
    """In the order of their times, equal ones in that of their coming; never before."""
    waiting, works = Waiting(), [_work(number) for number in range(4)]
    for work, moment in zip(works, (3.0, 1.0, 2.0, 1.0), strict=True):
        waiting.delay(work, moment)
    assert waiting.next_due() == 1.0
    waiting.due(2.5)
    assert list(waiting.ready) == [works[1], works[3], works[2]]
    assert waiting.next_due() == 3.0
    waiting.due(3.0)
    assert waiting.next_due() is None


def test_what_waits_for_a_retry_is_counted_in_bytes() -> None:
    """Enough is held when its chunks are too large together, until some are due or taken out."""
    waiting = Waiting()
    for number in range(3):
        waiting.delay(_work(number, module.DELAYED_BYTES // 2), float(number))
    assert waiting.holds_enough()
    waiting.due(0.0)
    waiting.take_out({1})
    assert not waiting.holds_enough()


def test_what_is_taken_out_is_nowhere_any_more() -> None:
    """Of requests that were to be sent whole only those that lose everything go; all else keeps its order."""
    waiting, works = Waiting(), [_work(number) for number in range(6)]
    waiting.whole.extend([[works[0], works[1]], [works[1]]])
    waiting.put_back(works[1:4])
    waiting.delay(works[4], 1.0)
    waiting.delay(works[1], 0.5)
    assert waiting.take_out({1}) == [works[1]] * 4
    assert list(waiting.whole) == [[works[0]]]
    assert list(waiting.ready) == works[2:4]
    assert waiting.next_due() == 1.0
    assert waiting.works() == [works[0], works[2], works[3], works[4]]
    waiting.clear()
    assert waiting.works() == []
