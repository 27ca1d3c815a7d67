"""Letting go of the oldest chunks, in a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest

from mcp_ingest.errors import SpoolError
from mcp_ingest.event import Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import HIGH, NORMAL, NewChunk, OutputKey, Pending, Settlement
from mcp_ingest.spool.overflow import Cut, Dropped, InHand
from tests.spool.making import chunk, delivered, intake, noise, opened

ES, ARCHIVE = "elasticsearch", "archive"
BOTH = (ES, ARCHIVE)


def _chunk(count: int, outputs: tuple[str, ...] = (ES,), priority: int = NORMAL, size: int = 1000) -> NewChunk:
    made = chunk(count, outputs, line=noise(size))
    made.priority = priority
    return made


async def _numbers(spool: Spool, output: str) -> list[int]:
    return [each.number for each in await spool.fresh(output, 0, 2**30)]


def _ids(spool: Spool) -> dict[str, int]:
    return {name: number for number, name in spool.names().items()}


async def _drop(
    spool: Spool,
    *outputs: str,
    chunks: int = 1,
    frees: bool = True,
    in_hand: Mapping[str, InHand] | None = None,
) -> Dropped:
    """Let go of as many chunks of `_chunk(1)` as said."""
    ids = _ids(spool)
    reasons = {ids[name]: "why" for name in outputs}
    return await spool.drop(Cut([reasons], 1000 * chunks, frees), in_hand or {})


def _assert_closed(spool: Spool) -> None:
    ledger = spool.ledger()
    for output in BOTH:
        right = sum(
            ledger[OutputKey(output, term, why)] for term in (Term.DELIVERED, Term.DROPPED) for why in ("", "why")
        )
        assert ledger[OutputKey(output, Term.ASSIGNED)] == right + spool.held(output).events


async def test_the_oldest_normal_chunk_goes_first(tmp_path: Path) -> None:
    """Then the next ones, and those with errors when nothing else is left; each is counted once."""
    async with opened(tmp_path) as spool:
        for priority in (HIGH, NORMAL, NORMAL, HIGH):
            await spool.commit(intake(_chunk(1, priority=priority)))
        order = []
        while (dropped := await _drop(spool, ES)).size:
            order += sorted(dropped.chunks[ES])
            assert dropped.events == 1
            _assert_closed(spool)
        assert order == [2, 3, 1, 4]
        assert (spool.usage().chunks, spool.held(ES)) == (0, type(spool.held(ES))(0, None, 0))
        assert spool.ledger()[OutputKey(ES, Term.DROPPED, "why")] == 4


async def test_what_goes_is_told_by_output_and_priority(tmp_path: Path) -> None:
    """Events, and the times of the oldest and the newest commit among them."""
    async with opened(tmp_path) as spool:
        for _ in range(3):
            await spool.commit(intake(_chunk(2, BOTH)))
        created = [each.created for each in await spool.fresh(ES, 0, 2**30)]
        dropped = await _drop(spool, ES, ARCHIVE, chunks=100)
        assert sorted((part.output, part.priority, part.events) for part in dropped.parts) == [
            (ARCHIVE, NORMAL, 6), (ES, NORMAL, 6),
        ]  # fmt: skip
        assert {(part.oldest, part.newest) for part in dropped.parts} == {(created[0], created[-1])}


async def test_only_what_nobody_else_owes_makes_room(tmp_path: Path) -> None:
    """A chunk that another output owes as well stays where it is space that is short, and goes where it is a budget."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(_chunk(1, BOTH)))
        await spool.commit(intake(_chunk(1, (ARCHIVE,))))
        assert (await _drop(spool, ARCHIVE)).chunks == {ARCHIVE: {2}}
        assert (await _drop(spool, ARCHIVE)).size == 0
        assert (await _drop(spool, ARCHIVE, frees=False)).chunks == {ARCHIVE: {1}}
        assert await _numbers(spool, ARCHIVE) == []
        assert await _numbers(spool, ES) == [1]
        _assert_closed(spool)


async def test_what_was_let_go_does_not_come_from_memory(tmp_path: Path) -> None:
    """A chunk that one output owes still is given to that one only, from the cache and after a restart."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(_chunk(1, BOTH)))
        await spool.commit(intake(_chunk(1, BOTH)))
        await _drop(spool, ARCHIVE, frees=False)
        assert (await _numbers(spool, ARCHIVE), await _numbers(spool, ES)) == ([2], [1, 2])
    async with opened(tmp_path) as spool:
        assert (await _numbers(spool, ARCHIVE), await _numbers(spool, ES)) == ([2], [1, 2])
        assert spool.held(ARCHIVE).events == 1
        _assert_closed(spool)


async def test_what_is_in_hand_stays(tmp_path: Path) -> None:
    """A delivery's chunks are passed over, and named; the next ones go."""
    async with opened(tmp_path) as spool:
        for _ in range(4):
            await spool.commit(intake(_chunk(1)))
        dropped = await _drop(spool, ES, chunks=2, in_hand={ES: InHand(0, 1, frozenset({3}))})
        assert dropped.chunks == {ES: {2, 4}}
        assert dropped.kept == {ES: {1, 3}}
        assert await _numbers(spool, ES) == [1, 3]
        await spool.settle(delivered(ES, 4, 2))
        _assert_closed(spool)


async def test_of_a_pending_chunk_what_is_left_goes(tmp_path: Path) -> None:
    """Behind the mark only the events of its pending rows count as dropped, and the rows go."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(_chunk(5)))
        await spool.settle(delivered(ES, 1, 3, Pending(ES, 1, "a", [1]), Pending(ES, 1, "b", [4])))
        dropped = await _drop(spool, ES)
        assert dropped.events == 2
        assert await spool.pending(ES) == []
        assert spool.usage().chunks == 0
        _assert_closed(spool)


async def test_a_drop_in_the_group_of_a_settlement(tmp_path: Path) -> None:
    """What was handed in before is true for what comes after it in the same transaction, both ways round."""
    async with opened(tmp_path) as spool:
        for _ in range(3):
            await spool.commit(intake(_chunk(1)))
        settle = spool._put(delivered(ES, 1, 1))
        dropped = await _drop(spool, ES, in_hand={ES: InHand(1, 1)})
        await settle
        assert dropped.chunks == {ES: {2}}
        late = spool._put(Settlement(ES, 3, [Pending(ES, 2, "x", [0])], ledger=delivered(ES, 3, 1).ledger))
        await late
        assert (spool.held(ES).events, await spool.pending(ES)) == (0, [])
        _assert_closed(spool)


async def test_when_the_last_chunk_goes_nobody_waits_in_circles(tmp_path: Path) -> None:
    """News of an output whose newest chunk was let go come with the next commit."""
    async with opened(tmp_path) as spool:
        await spool.commit(intake(_chunk(1)))
        await spool.commit(intake(_chunk(1)))
        await _drop(spool, ES, chunks=2)
        assert await spool.fresh(ES, 0, 2**20) == []
        await spool.commit(intake(_chunk(1)))
        assert await spool.news(ES, 0) == 3
        assert await _numbers(spool, ES) == [3]


async def test_a_cut_goes_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction lets go of a bounded part, so that commits go on in between."""
    monkeypatch.setattr("mcp_ingest.spool.dropping.SLICE_CHUNKS", 2)
    async with opened(tmp_path) as spool:
        for _ in range(5):
            await spool.commit(intake(_chunk(1)))
        sizes = [len((await _drop(spool, ES, chunks=5)).chunks.get(ES, ())) for _ in range(4)]
        assert sizes == [2, 2, 1, 0]


async def test_the_backlog_of_a_removed_output_is_dropped_by_hand(tmp_path: Path) -> None:
    """All of it, counted; of an output that is configured nothing can be dropped so."""
    async with opened(tmp_path) as spool:
        for _ in range(3):
            await spool.commit(intake(_chunk(2, BOTH)))
    async with opened(tmp_path, {ES: "elasticsearch"}) as spool:
        (name,) = spool.backlog_of_removed_outputs()
        assert name == "archive (file)"
        assert spool.backlog_of_removed_outputs()[name].bytes > 6000
        for wrong in ("archive", f"{ES} (elasticsearch)", "nobody (file)"):
            with pytest.raises(SpoolError, match="no backlog"):
                await spool.drop_backlog(wrong)
        assert await spool.drop_backlog(name) == 6
        assert spool.backlog_of_removed_outputs() == {}
        assert spool.ledger()[OutputKey("archive", Term.DROPPED, "by_hand")] == 6
        assert spool.held(ES).events == 6


async def test_bytes_are_counted_as_they_are_stored(tmp_path: Path) -> None:
    """What an output owes in bytes is what its chunks take, across settlements, drops and a restart."""
    async with opened(tmp_path) as spool:
        for count in (1, 2, 3):
            await spool.commit(intake(_chunk(count, BOTH)))
        await spool.settle(delivered(ES, 2, 2, Pending(ES, 2, "x", [0])))
        await _drop(spool, ARCHIVE, frees=False)
        here = {name: spool.held(name).bytes for name in BOTH}
    assert _stored_bytes(tmp_path) == here
    async with opened(tmp_path) as spool:
        assert {name: spool.held(name).bytes for name in BOTH} == here
        await spool.settle(delivered(ES, None, 1, Pending(ES, 2, "x", [])))  # type: ignore[arg-type]
        await spool.settle(delivered(ES, 3, 3))
        assert spool.held(ES).bytes == 0
    assert _stored_bytes(tmp_path) == {ARCHIVE: here[ARCHIVE]}


def _stored_bytes(directory: Path) -> dict[str, int]:
    """The bodies' lengths of the chunks that each output owes, out of the database itself."""
    with sqlite3.connect(directory / DATABASE) as connection:
        rows = connection.execute(
            "SELECT name, sum(length(body)) FROM owed JOIN outputs ON outputs.id = output"
            " JOIN chunks ON number = chunk GROUP BY name"
        ).fetchall()
    connection.close()
    return dict(rows)
