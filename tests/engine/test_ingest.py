"""The turns that make commits of emits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.engine.intake import IntakeMaker, Made
from mcp_ingest.engine.status import sums
from mcp_ingest.errors import IngestError, SpoolError, SpoolFullError, StreamBrokenError
from mcp_ingest.event import Batch, Origin, Progress, Rejected, Stream, Term
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import InputKey, Intake
from tests.engine.parts import batch, ingesting, spool_in, until


async def test_a_full_spool_makes_emits_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `block` an emit waits while there is no room and returns once there is."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        room = asyncio.Event()
        monkeypatch.setattr(spool, "has_room", room.is_set)
        monkeypatch.setattr(spool, "room", room.wait)
        async with asyncio.TaskGroup() as group:
            emit = group.create_task(ingest.emit_for("in")(batch({"n": 1})))
            await asyncio.sleep(0.05)
            assert not emit.done()
            room.set()
        assert spool.held("out").events == 1


async def test_a_stop_does_not_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the daemon stops while the spool is full, what waits is refused: it was never acknowledged."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        monkeypatch.setattr(spool, "has_room", lambda: False)
        monkeypatch.setattr(spool, "room", asyncio.Event().wait)
        async with asyncio.TaskGroup() as group:
            emit = group.create_task(_raises(ingest.emit_for("in")(batch({"n": 1}))))
            await asyncio.sleep(0.02)
            ingest.wait_no_more()
        assert isinstance(emit.result(), SpoolFullError)


async def test_a_fault_of_ours_is_an_error_of_that_emit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug while events are taken in reaches their sender as an error; later emits go on."""

    def broken(self: IntakeMaker, emits: object) -> Made:
        monkeypatch.undo()
        raise RuntimeError("bug")

    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        monkeypatch.setattr(IntakeMaker, "make", broken)
        with pytest.raises(SpoolError, match="bug"):
            await ingest.emit_for("in")(batch({"n": 1}))
        await ingest.emit_for("in")(batch({"n": 1}))
        assert spool.held("out").events == 1


async def test_effects_come_after_the_commit(tmp_path: Path) -> None:
    """What stages counted is applied once, when the commit is durable."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        counted: list[int] = []
        made = batch({"n": 1})
        made.outcome.effects.append(lambda: counted.append(spool.held("out").events))
        await ingest.emit_for("in")(made)
        assert counted == [1]


async def test_a_cancelled_emit_may_still_commit(tmp_path: Path) -> None:
    """Who stops waiting does not stop the commit."""
    async with spool_in(tmp_path) as spool:
        async with ingesting(spool) as ingest:
            task = asyncio.ensure_future(ingest.emit_for("in")(batch({"n": 1}), Progress(positions={"k": b"1"})))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert _committed(spool)


def _committed(spool: Spool) -> bool:
    return (spool.held("out").events, spool.positions("k")) == (1, {"k": b"1"})


async def _raises(coroutine: object) -> BaseException | None:
    try:
        await coroutine  # type: ignore[misc]
    except Exception as error:
        return error
    return None


async def test_an_effect_that_raises_stops_nobody(tmp_path: Path) -> None:
    """The events are committed: the emit returns, and the other effects are applied."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        counted: list[int] = []

        def broken() -> None:
            raise ValueError("bug")

        made = batch({"n": 1})
        made.outcome.effects += [broken, lambda: counted.append(1)]
        await asyncio.wait_for(ingest.emit_for("in")(made), 5)
        assert counted == [1]


async def test_a_chunk_is_in_flight_until_its_commit_whoever_waits(tmp_path: Path) -> None:
    """Its emit was cancelled, its resend still meets it and adds nothing."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, chunk = ingest.emit_for("in"), b"d" * 16
        first = asyncio.ensure_future(emit(batch({"n": 1}), Progress(chunks=[chunk])))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await emit(batch({"n": 1}), Progress(chunks=[chunk]))
        assert spool.held("out").events == 1


async def test_bytes_are_received_when_they_are_durable(tmp_path: Path) -> None:
    """What was refused to its sender comes again and is not counted twice."""
    metrics = Metrics()
    async with spool_in(tmp_path) as spool, ingesting(spool, metrics) as ingest:
        made = batch({"n": 1})
        made.size = 100
        real, spool.submit = spool.submit, _failing  # type: ignore[method-assign]
        assert isinstance(await _raises(ingest.emit_for("in")(made)), SpoolError)
        spool.submit = real  # type: ignore[method-assign]
        again = batch({"n": 1})
        again.size = 100
        await ingest.emit_for("in")(again)
    assert metrics.registry.get_sample_value("mcp_ingest_received_bytes_total", {"input": "in"}) == 100


def _failing(intake: Intake) -> asyncio.Future[list[int]]:
    failed: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
    failed.set_exception(SpoolError("no disk"))
    return failed


# --- several chunks in one emit ----------------------------------------------------------------------------


def _chunks(*names: str) -> tuple[Batch, Progress]:
    """Two events and something rejected of each chunk, an event's `chunk` its name."""
    parts = []
    for name in names:
        made = batch({"chunk": name}, {"chunk": name})
        made.origins = [Origin("in", name * 20, 1)]
        made.reject(Rejected("mcp.a", 0, b"\xff", 2, made.origins[0], "no map", why="undecodable"))
        parts.append(made)
    return Batch.merge(parts), Progress(Stream(), chunks=[name.encode() * 16 for name in names])


async def _stored(spool: Spool) -> list[str]:
    """The chunks' names, one for each stored event, by its id."""
    return [event_id[0] for chunk in await spool.fresh("out", 0, 2**30) for event_id in chunk.ids]


def _deduplicated(spool: Spool) -> int:
    assert all(row["closed"] for row in sums(spool.ledger(), {"out": spool.held("out").events}, _letters(spool)))
    return sum(count for key, count in spool.ledger().items() if key.term is Term.DEDUPLICATED)


def _letters(spool: Spool) -> int:
    return spool.usage().dead_letters


async def test_several_chunks_are_one_commit(tmp_path: Path) -> None:
    """All are taken once, each with its own ids; one that comes twice in the same emit counts once."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        await ingest.emit_for("in")(*_chunks("a", "b", "a", "c"))
        assert await _stored(spool) == ["a", "a", "b", "b", "c", "c"]
        assert _deduplicated(spool) == 3
        assert _letters(spool) == 3
        assert len(spool.seen([name * 16 for name in (b"a", b"b", b"c")])) == 3


async def test_a_chunk_that_was_seen_is_taken_out_of_its_emit(tmp_path: Path) -> None:
    """Its neighbours go on; an emit of nothing but such chunks counts them and adds nothing."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit = ingest.emit_for("in")
        await emit(*_chunks("b"))
        await emit(*_chunks("a", "b", "c"))
        await emit(*_chunks("c", "a"))
        assert await _stored(spool) == ["b", "b", "a", "a", "c", "c"]
        assert _deduplicated(spool) == 9
        assert _letters(spool) == 3


async def test_a_chunk_in_flight_holds_up_only_its_own_emit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours are committed meanwhile; the emit returns with the result of the one that came first."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, real, held = ingest.emit_for("in"), spool.submit, _hold(spool, monkeypatch)
        first = asyncio.ensure_future(emit(*_chunks("b")))
        await until(lambda: held)
        monkeypatch.setattr(spool, "submit", real)
        second = asyncio.ensure_future(emit(*_chunks("a", "b", "c", "b")))
        ingest._commits.clear()  # as if there were room for another commit beside the one that is held
        await until(lambda: spool.seen([b"c" * 16]))
        assert not second.done()
        ((intake, commit),) = held
        commit.set_result(await real(intake))
        await asyncio.gather(first, second)
        assert sorted(await _stored(spool)) == ["a", "a", "b", "b", "c", "c"]
        assert _deduplicated(spool) == 6


async def test_a_chunk_whose_first_commit_failed_is_taken_by_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited for a commit that failed goes on itself; the emit that failed raises, and its stream is broken."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, real, held = ingest.emit_for("in"), spool.submit, _hold(spool, monkeypatch)
        made, progress = _chunks("a", "b")
        first = asyncio.ensure_future(_raises(emit(made, progress)))
        await until(lambda: held)
        monkeypatch.setattr(spool, "submit", real)
        second = asyncio.ensure_future(emit(*_chunks("b", "c")))
        await asyncio.sleep(0)
        held[0][1].set_exception(SpoolError("no disk"))
        assert isinstance(await first, SpoolError)
        await second
        assert sorted(await _stored(spool)) == ["b", "b", "c", "c"]
        assert _deduplicated(spool) == 0
        with pytest.raises(StreamBrokenError):
            await emit(_chunks("a")[0], progress)


async def test_an_emit_fails_whole_when_a_part_of_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk in flight elsewhere does not make an emit return whose other chunks were lost."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, held = ingest.emit_for("in"), _hold(spool, monkeypatch)
        first = asyncio.ensure_future(emit(*_chunks("b")))
        await until(lambda: held)
        second = asyncio.ensure_future(_raises(emit(*_chunks("a", "b"))))
        await asyncio.sleep(0)
        held[0][1].set_result([])
        await first
        await until(lambda: len(held) == 2)
        held[1][1].set_exception(SpoolError("no disk"))
        assert isinstance(await second, IngestError)


def _hold(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Intake, asyncio.Future[list[int]]]]:
    """From now on commits wait for who holds them."""
    held: list[tuple[Intake, asyncio.Future[list[int]]]] = []

    def submit(intake: Intake) -> asyncio.Future[list[int]]:
        held.append((intake, asyncio.get_running_loop().create_future()))
        return held[-1][1]

    monkeypatch.setattr(spool, "submit", submit)
    return held


async def test_between_turns_nothing_is_committed(tmp_path: Path) -> None:
    """What is under way is waited for, what is emitted meanwhile waits, and goes on in its order."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest, asyncio.TaskGroup() as group:
        emit = ingest.emit_for("in")
        first = group.create_task(emit(batch({"n": 1})))
        await asyncio.sleep(0)
        async with ingest.between_turns():
            assert first.done() == (spool.held("out").events == 1)
            later = [group.create_task(emit(batch({"n": n}, start=n))) for n in range(2, 6)]
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in later)
            assert spool.held("out").events == first.done()
        await asyncio.wait([first, *later])
        assert spool.held("out").events == 5
        lines = [line for chunk in await spool.fresh("out", 0, 2**20) for line in chunk.lines]
        assert [b'"n":%d' % n in line for n, line in enumerate(lines, 1)] == [True] * 5


async def test_who_was_taken_hears_of_it_before_the_next_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn is work: it begins when the emits of the commit before have returned, and takes what they bring next."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        emit, real, held = ingest.emit_for("in"), spool.submit, _hold(spool, monkeypatch)
        turns: list[int] = []
        make = IntakeMaker.make

        def counted(self: IntakeMaker, emits: list[Any]) -> Made:
            turns.append(len(emits))
            return make(self, emits)

        async def sender() -> list[int]:
            await emit(*_chunks("a"))
            heard = [*turns]
            await emit(*_chunks("b"))
            return heard

        monkeypatch.setattr(IntakeMaker, "make", counted)
        first = asyncio.ensure_future(sender())
        await until(lambda: held)
        second = asyncio.ensure_future(emit(*_chunks("c")))
        await asyncio.sleep(0)
        monkeypatch.setattr(spool, "submit", real)
        ((intake, commit),) = held
        commit.set_result(await real(intake))
        await second
        assert await first == [1]
        assert turns == [1, 2]


async def test_what_waits_of_an_input_can_be_refused(tmp_path: Path) -> None:
    """Others go on; the streams of those that were refused take nothing more."""
    async with spool_in(tmp_path) as spool, ingesting(spool) as ingest:
        stream = Stream()
        async with ingest.between_turns(), asyncio.TaskGroup() as group:
            refused = group.create_task(_raises(ingest.emit_for("in")(batch({"n": 1}), Progress(stream))))
            await asyncio.sleep(0.01)
            ingest.refuse({"in"}, "it ends")
            assert str(await refused) == "it ends"
        await ingest.emit_for("other")(batch({"n": 2}))
        assert isinstance(await _raises(ingest.emit_for("in")(batch({"n": 3}), Progress(stream))), StreamBrokenError)
        assert spool.held("out").events == 1


# --- a full spool refuses ----------------------------------------------------------------------------------


async def test_reject_refuses_those_who_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `reject` the emit raises at once, its stream takes no more, the events are counted and were not received."""
    metrics = Metrics()
    async with spool_in(tmp_path, when_full="reject") as spool, ingesting(spool, metrics) as ingest:
        with monkeypatch.context() as full:
            full.setattr(spool, "why_full", lambda: "the spool is full")
            emit, stream = ingest.emit_for("in"), Stream()
            for expected in (SpoolFullError, StreamBrokenError):
                async with asyncio.timeout(5):
                    error = await _raises(emit(batch({"n": 1}, {"n": 2}), Progress(stream)))
                assert isinstance(error, expected)
        await emit(batch({"n": 3}))
        assert spool.held("out").events == 1
        assert spool.ledger()[InputKey("in", "mcp", Term.RECEIVED)] == 1
    assert metrics.registry.get_sample_value("mcp_ingest_refused_events_total", {"input": "in"}) == 2


async def test_reject_lets_those_wait_who_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that reads at its own pace waits for room; meanwhile others are refused without delay."""
    async with spool_in(tmp_path, when_full="reject") as spool, ingesting(spool) as ingest:
        async with asyncio.TaskGroup() as group:
            with monkeypatch.context() as full:
                full.setattr(spool, "why_full", lambda: "the spool is full")
                spool._signal()
                patient = group.create_task(ingest.emit_for("file", pulls=True)(batch({"n": 1})))
                for _ in range(3):
                    async with asyncio.timeout(5):
                        error = await _raises(ingest.emit_for("in")(batch({"n": 2})))
                    assert isinstance(error, SpoolFullError)
                assert not patient.done()
            spool._signal()
        assert spool.held("out").events == 1


async def test_a_refused_chunk_is_taken_when_it_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id is neither in flight nor remembered."""
    async with spool_in(tmp_path, when_full="reject") as spool, ingesting(spool) as ingest:
        emit, chunk = ingest.emit_for("in"), b"d" * 16
        with monkeypatch.context() as full:
            full.setattr(spool, "why_full", lambda: "the spool is full")
            assert isinstance(await _raises(emit(batch({"n": 1}), Progress(chunks=[chunk]))), SpoolFullError)
        await emit(batch({"n": 1}), Progress(chunks=[chunk]))
        assert spool.held("out").events == 1
