"""Delivery goes on over damage of the spool that is found while it runs."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from mcp_ingest.codecs.segments import Segment
from mcp_ingest.context import SystemClock
from mcp_ingest.engine import delivery as module
from mcp_ingest.engine.recovered import recovered
from mcp_ingest.engine.status import sums
from mcp_ingest.errors import DamagedChunkError, SpoolError, SpoolRenewedError
from mcp_ingest.event import Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool import chunk as chunks
from mcp_ingest.spool.chunk import Stamp
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import NewChunk, OutputKey, Pending, Settlement
from mcp_ingest.spool.schema import PAGE
from mcp_ingest.verdict import AllDelivered, Request, Unknown, Verdicts
from tests.engine.parts import Scripted, delivering, intake, spool_in, until
from tests.spool.making import noise
from tests.spool.test_salvage import overwrite


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 0.02)


def _lost(spool: Spool) -> int:
    return sum(n for key, n in spool.ledger().items() if isinstance(key, OutputKey) and key.term == Term.LOST)


def _assert_closed(spool: Spool) -> None:
    rows = sums(spool.ledger(), {"out": spool.held("out").events}, spool.usage().dead_letters)
    assert all(row["closed"] for row in rows), rows


def _spoil(directory: Path, number: int) -> None:
    """Give a chunk entries that cannot be inflated, under a right checksum, as memory that failed would have."""
    with sqlite3.connect(directory / DATABASE) as connection:
        ((body,),) = connection.execute("SELECT body FROM chunks WHERE number = ?", (number,)).fetchall()
        label = chunks.peek(body)
        chunk = chunks.decode(body, number, [label.uuid])
        old = chunk.entries
        chunk.entries = Segment(old.data[:40] + b"\xff" * 40 + old.data[80:], old.crc, old.length, old.compressed)
        connection.execute("UPDATE chunks SET body = ? WHERE number = ?", (chunks.encode(chunk, label.uuid), number))
    connection.close()


async def _three(directory: Path) -> None:
    async with spool_in(directory) as spool:
        for first in (0, 100, 200):
            ids = [f"id{number}" for number in range(first, first + 100)]
            await spool.commit(intake(*ids, line=b'{"message":"' + b"x" * 60 + b'"}'))


async def test_a_chunk_that_cannot_be_inflated_is_set_aside(tmp_path: Path) -> None:
    """Its checksum is right and nobody can read it: it is lost, counted, and the others arrive."""
    await _three(tmp_path)
    _spoil(tmp_path, 2)
    output = Scripted()
    async with spool_in(tmp_path) as spool:
        async with delivering(spool, output) as delivery:
            await until(lambda: not spool.held("out").events)
            await until(lambda: delivery.state == "up")
        assert _lost(spool) == 100
        _assert_closed(spool)
    assert len(output.stored) == 200


async def test_so_is_one_that_only_the_peer_cannot_read(tmp_path: Path) -> None:
    """A peer that hangs up over it does not hear of it for ever."""
    await _three(tmp_path)
    _spoil(tmp_path, 2)

    class Peer(Scripted):
        """Sends what is stored, as Elasticsearch is sent it, and looks at no line."""

        async def write(self, request: Request) -> Verdicts:
            await asyncio.sleep(0)
            if any(part.chunk.endswith("-2") for part in request.parts):
                return Unknown("connection reset")
            self.store(request)
            return AllDelivered()

    output = Peer()
    async with spool_in(tmp_path) as spool:
        async with delivering(spool, output):
            await until(lambda: not spool.held("out").events)
        assert _lost(spool) == 100
    assert len(output.stored) == 200


async def test_a_database_damaged_while_it_runs_is_salvaged_and_delivered(tmp_path: Path) -> None:
    """What is found malformed by a running daemon is saved; emits, positions and deliveries go on without a hand."""
    async with spool_in(tmp_path) as spool:
        for number in range(60):
            made = intake(*[f"{number}-{n}" for n in range(20)], line=noise(500))
            made.positions[f"file{number % 3}"] = b"%d" % number
            await spool.commit(made)
    overwrite(tmp_path / DATABASE, (tmp_path / DATABASE).stat().st_size - 3 * PAGE)  # a leaf of the chunks
    output = Scripted()
    async with spool_in(tmp_path) as spool:
        first = spool.uuid
        positions = spool.positions("")
        async with delivering(spool, output):
            await until(lambda: not spool.held("out").events)
            assert spool.uuid != first
            await spool.commit(intake("new"))
            await until(lambda: len(output.stored) + _lost(spool) == 1201)
        assert spool.positions("") == positions
        assert 0 < _lost(spool) <= 160
        assert [notice.kind for notice in spool.notices()] == ["database"]
        _assert_closed(spool)
    async with spool_in(tmp_path) as spool:
        _assert_closed(spool)
        assert spool.positions("") == positions


async def test_what_was_under_way_at_a_salvage_begins_anew(tmp_path: Path) -> None:
    """Verdicts from before a salvage are not counted after it: their chunks may be lost by then."""
    await _three(tmp_path)
    async with spool_in(tmp_path) as spool:
        held = await spool.fresh("out", 0, 2**20)
        assert len(held) == 3
        with pytest.raises(SpoolRenewedError):
            await spool._call(_malformed)
        with pytest.raises(SpoolRenewedError):
            await spool.settle(Settlement("out", 3))
        with pytest.raises(SpoolRenewedError):
            await spool.fresh("out", 0, 2**20)
        with pytest.raises(SpoolRenewedError):
            await spool.news("out", 0)
        assert await spool.resting("out") == {}
        await spool.settle(Settlement("out", 1, [Pending("out", 1, "index", [0])]))
        assert spool.held("out").events == 201


def _malformed() -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error


class _Refusing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def quarantine(self, number: int, why: str) -> None:
        raise self.error


async def test_what_is_got_over_at_once(tmp_path: Path) -> None:
    """A salvage and a chunk in quarantine are; any other fault, and a disk that takes no quarantine, are waited for."""
    async with spool_in(tmp_path) as spool:
        assert await recovered(SpoolRenewedError("x"), spool)
        assert await recovered(DamagedChunkError(7, "x"), spool)
        assert not await recovered(ValueError("x"), spool)
    assert await recovered(DamagedChunkError(7, "x"), _Refusing(SpoolRenewedError("x")))  # type: ignore[arg-type]
    assert not await recovered(DamagedChunkError(7, "x"), _Refusing(SpoolError("x")))  # type: ignore[arg-type]


async def test_lines_that_are_not_those_of_the_events(tmp_path: Path) -> None:
    """A chunk whose entries are whole and too few is damaged, too."""
    new = NewChunk.of("p", 0, ["i" * 28] * 2, ["t"] * 2, [b"{}"] * 2, {"out": ["index"] * 2})
    new.tags.append("t")
    new.destinations["out"].append("index")
    chunk = chunks.stamped(new, Stamp(b"u" * 16, 5, SystemClock().time_ns()))
    with pytest.raises(DamagedChunkError, match="chunk 5 cannot be read: it has not two lines"):
        list(chunk.lines)
