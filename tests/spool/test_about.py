"""What the spool knows of single events."""

from __future__ import annotations

from pathlib import Path

from mcp_ingest.event import hashed_prefix, id_suffixes
from mcp_ingest.spool import Spool
from mcp_ingest.spool.about import HeldEvent, Look, Owed, Wanted, held_events, letters_about, newest_letter
from mcp_ingest.spool.model import NORMAL, DeadLetter, Intake, NewChunk, Pending, Settlement
from tests.spool.making import opened

PREFIX = hashed_prefix(b"one")
IDS = [PREFIX + suffix for suffix in id_suffixes(range(3))]
LINES = [b'{"trace_id":"a\\"b"}', b'{"trace_id":"t2"}', b'{"message":"t2"}']


async def _held(spool: Spool, wanted: Wanted) -> list[HeldEvent]:
    return (await spool.look(lambda reader: held_events(reader, wanted, -1, 100))).events


async def _filled(spool: Spool) -> None:
    """A chunk of three events for `a`, of which `b` wants the last two, and one of another source."""
    places: dict[str, list[str | None]] = {"a": ["i"] * 3, "b": [None, "x", "y"]}
    await spool.commit(Intake([NewChunk.of("p", NORMAL, IDS, ["t"] * 3, LINES, places)]))
    other = [hashed_prefix(b"two") + "AAAAAAAA"]
    await spool.commit(Intake([NewChunk.of("p", NORMAL, other, ["t"], [b'{"trace_id":"t2"}'], {"a": ["i"]})]))


async def test_events_are_found_by_id_prefix_and_trace(tmp_path: Path) -> None:
    """An id names one event, a prefix all of its source, a trace those whose field it is and no others."""
    async with opened(tmp_path, {"a": "x", "b": "x"}) as spool:
        await _filled(spool)
        assert [event.id for event in await _held(spool, Wanted(ids=frozenset(IDS[1:2])))] == IDS[1:2]
        assert [event.id for event in await _held(spool, Wanted(prefixes=frozenset([PREFIX])))] == IDS
        assert [event.chunk for event in await _held(spool, Wanted(trace="t2"))] == [1, 2]
        assert [event.id for event in await _held(spool, Wanted(trace='a"b'))] == IDS[:1]
        assert await _held(spool, Wanted(trace="t")) == []


async def test_who_owes_what_is_told_for_each_event(tmp_path: Path) -> None:
    """An output owes an event until its mark has passed and no pending row names it; others it never had."""
    async with opened(tmp_path, {"a": "x", "b": "x"}) as spool:
        await _filled(spool)
        await spool.settle(Settlement("b", 1, [Pending("b", 1, "y", [2], 4, "closed")]))
        first, second, third = await _held(spool, Wanted(prefixes=frozenset([PREFIX])))
        assert (first.owed, first.settled) == ([Owed("a", "i")], [])
        assert (second.owed, second.settled) == ([Owed("a", "i")], ["b"])
        assert (third.owed, third.settled) == ([Owed("a", "i"), Owed("b", "y", 4, "closed")], [])


async def test_a_look_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """So many chunks a look; the last one says that there is no more."""
    async with opened(tmp_path, {"a": "x", "b": "x"}) as spool:
        await _filled(spool)

        async def look(after: int) -> Look:
            return await spool.look(lambda reader: held_events(reader, Wanted(), after, 1))

        looks = [await look(-1), await look(1), await look(2)]
        assert [(look.chunks, look.last) for look in looks] == [(1, 1), (1, 2), (0, None)]


async def test_letters_are_found_alike(tmp_path: Path) -> None:
    """By id, by prefix and by trace, the newest first, within the numbers that are asked for."""

    def letter(name: str, record: bytes) -> DeadLetter:
        return DeadLetter(1, "why", "stage", "t", record, name, 0)

    async with opened(tmp_path, {"a": "x"}) as spool:
        assert await spool.look(newest_letter) == 0
        letters = [letter(IDS[0], b'{"trace_id":"t1"}'), letter(IDS[1], b"{}"), letter("other", b'{"trace_id":"t1"}')]
        await spool.commit(Intake(letters=letters))

        async def numbers(wanted: Wanted, below: int = 4, count: int = 100) -> list[int]:
            found = await spool.look(lambda reader: letters_about(reader, wanted, below, count))
            return [each.number for each in found]

        assert await spool.look(newest_letter) == 3
        assert await numbers(Wanted(ids=frozenset(IDS[:1]))) == [1]
        assert await numbers(Wanted(prefixes=frozenset([PREFIX]))) == [2, 1]
        assert await numbers(Wanted(trace="t1")) == [3, 1]
        assert await numbers(Wanted(trace="t1"), below=3, count=2) == [1]
