"""Replays of dead letters: the letter goes and its event comes back in one commit, and every sum closes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from mcp_ingest.engine import letters
from mcp_ingest.engine.intake import Route
from mcp_ingest.errors import SpoolFullError
from mcp_ingest.event import Batch, Origin, Rejected, Term
from mcp_ingest.spool.model import InputKey, Intake, LetterKey, OutputKey, Removal, Selection
from mcp_ingest.verdict import AllDelivered, Each, Refused, Request, Verdict
from tests.engine.parts import Scripted, delivering, spool_in, until
from tests.engine.replays import ALL, CARD, Bench, Checked


def refusing(request: Request) -> Each:
    """Every event is refused."""
    refused: list[Verdict] = [Refused("400 x: failed to parse field [n] of type [long]", None, "x")]
    return Each(refused * request.count)


def out_terms(bench: Bench, output: str = "out") -> dict[str, int]:
    ledger = bench.spool.ledger()
    return {key.term: n for key, n in ledger.items() if isinstance(key, OutputKey) and key.output == output and n}


# --- the way in --------------------------------------------------------------------------------------------


async def test_a_letter_of_the_way_in_takes_it_again(tmp_path: Path) -> None:
    """It is generated, passes the pipeline as it is now, and has the id, tag and times that it had."""
    output = Scripted()
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": output})
        await bench.take({"bad": 1}, {"fine": 1}, {"bad": 2, "log_level": "ERROR"}, {"noise": 1, "bad": 3})
        assert spool.usage().dead_letters == 2
        assert (await bench.all()).died == 2  # nothing was mended
        assert [letter.number for letter in await spool.dead_letters.page(10)] == [4, 3]
        bench.stage.fails = False
        step = await bench.all()
        assert (step.count, step.died, step.kept) == (2, 0, [])
        assert spool.usage().dead_letters == 0
        assert bench.stage.counted == 2  # its metrics, of the two replays
        async with delivering(spool, output):
            await until(lambda: not spool.held("out").events)
        lines = {event_id[20:]: orjson.loads(line) for event_id, line in output.stored.items()}
        assert lines["AAAAAAAA"] == {
            "@timestamp": "1970-01-01T00:00:00.000000005Z",
            "tag": "mcp.a",
            "bad": 1,
            "seen": 1,
        }
        assert set(lines) == {"AAAAAAAA", "AAAAAAAB", "AAAAAAAC"}
        assert output.doubles == 0
        bench.closed()
        assert bench.counted(InputKey("in", "mcp", Term.GENERATED, "replayed")) == 4
        assert bench.counted(LetterKey(Term.REPLAYED, "stage")) == 4


async def test_what_no_pipeline_took_is_taken_once_one_does(tmp_path: Path) -> None:
    """A letter of an unknown tag stays a letter until the configuration has a pipeline for it."""
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        await bench.take({"n": 1}, tag="stranger")
        assert (await bench.all()).died == 1
        bench.maker._routes = [Route(lambda tag: True, bench.pipeline)]
        bench.maker._by_tag.clear()
        assert (await bench.all()).died == 0
        assert spool.held("out").events == 1
        bench.closed()


async def test_a_replay_unmasks_nothing(tmp_path: Path) -> None:
    """What was masked in the letter is masked in what comes of it."""
    output = Scripted()
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": output})
        await bench.take({"bad": 1, "message": f"paid with {CARD}"})
        (letter,) = await spool.dead_letters.page(1)
        assert CARD not in letter.reason
        bench.stage.fails = False
        await bench.all()
        async with delivering(spool, output):
            await until(lambda: output.stored)
        assert orjson.loads(next(iter(output.stored.values())))["message"] == "paid with [REDACTED:card]"


async def test_what_could_not_be_decoded_or_masked_stays(tmp_path: Path) -> None:
    """Bytes that were no record, and records that were withheld, are no events: each says so, and is kept."""
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        origin = Origin("in", "P" * 20, 1)
        bad = letters.of_the_way_in(Rejected("mcp", 1, b"\xff", 0, origin, "no map", why="undecodable"), "mcp", None, 1)

        def broken(record: Any) -> Any:
            raise ValueError

        withheld = letters.of_the_way_in(Rejected("mcp", 1, {"n": 1}, 1, origin, "bad", "checked"), "mcp", broken, 1)
        assert (bad.form, withheld.form) == ("undecodable", "withheld")
        nameless = letters.of_the_way_in(Rejected("mcp", 1, {"n": 1}, 1, origin, "bad", "checked"), "mcp", None, 1)
        nameless.event_id = "x"
        bad.time = withheld.time = nameless.time = time.time_ns()
        await spool.commit(Intake(letters=[bad, withheld, nameless]))
        for through in (False, True):
            step = await bench.replay.replay(ALL, through_pipeline=through)
            assert step.count == 0
            assert [number for number, _ in step.kept] == [1, 2, 3]
            assert "could not be decoded" in step.kept[0][1]
            assert "could not be masked" in step.kept[1][1]
            assert "no id" in step.kept[2][1]
        assert spool.usage().dead_letters == 3


# --- an output ---------------------------------------------------------------------------------------------


async def test_a_letter_of_an_output_goes_to_that_output_alone(tmp_path: Path) -> None:
    """With its id, time and destination; the others get nothing, and what is there already is a duplicate."""
    out, other = Scripted(refusing), Scripted()
    async with spool_in(tmp_path, {"out": "scripted", "other": "scripted"}) as spool:
        bench = Bench(spool, {"out": out, "other": other})
        await bench.take({"n": 1}, {"n": 2, "log_level": "ERROR"}, {"n": 3})
        async with delivering(spool, out):
            await until(lambda: spool.usage().dead_letters == 3)
        before = {letter.event_id: letter for letter in await spool.dead_letters.page(10)}
        held = spool.held("other").events
        assert (await bench.all(Selection(output="out"))).count == 3
        assert spool.held("other").events == held
        seen: list[Request] = []

        def stored(request: Request) -> AllDelivered:
            seen.append(request)
            return AllDelivered()

        out.answers = [stored, stored]
        async with delivering(spool, out):
            await until(lambda: not spool.held("out").events)
        for request in seen:
            for part in request.parts:
                for n, event_id in enumerate(part.ids):
                    letter = before.pop(event_id)
                    assert part.lines[n] == letter.record
                    assert part.times[n] == letter.event_time == 5
                    assert (part.destinations[n], part.tags[n]) == (letter.destination, letter.tag)
        assert not before
        bench.closed()
        assert out_terms(bench) == {"assigned": 3, "dead_lettered": 3, "replayed": 3, "delivered": 3}


async def test_one_that_dies_again_is_a_letter_again(tmp_path: Path) -> None:
    """A replay that the output refuses makes a new letter, and the sums count it honestly."""
    out = Scripted(refusing, refusing)
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": out})
        await bench.take({"n": 1}, {"n": 2})
        async with delivering(spool, out):
            await until(lambda: spool.usage().dead_letters == 2)
            assert (await bench.all()).count == 2
            await until(lambda: not spool.held("out").events)
        assert [letter.number for letter in await spool.dead_letters.page(10)] == [4, 3]
        (group,) = await spool.dead_letters.groups()
        assert group.letters == 2
        bench.closed()
        assert out_terms(bench) == {"assigned": 2, "dead_lettered": 4, "replayed": 2}


async def test_through_the_pipeline_to_that_output_alone(tmp_path: Path) -> None:
    """What the pipeline leaves goes there anew addressed; what it takes out is dropped, what it fails on stays."""
    out, other = Scripted(refusing), Scripted()
    async with spool_in(tmp_path, {"out": "scripted", "other": "scripted"}) as spool:
        bench = Bench(spool, {"out": out, "other": other})
        await bench.take({"n": 1}, {"n": 2, "log_level": "ERROR"}, {"n": 3}, {"n": 4})
        async with delivering(spool, out):
            await until(lambda: spool.usage().dead_letters == 4)
        held = spool.held("other").events
        numbers = {orjson.loads(letter.record)["n"]: letter.number for letter in await spool.dead_letters.page(10)}

        def changed(batch: Batch) -> Batch:
            for record in batch.records:
                assert "@timestamp" not in record
                assert "tag" not in record
                record["bad" if record["n"] == 3 else "noise" if record["n"] == 4 else "ok"] = 1
            return Checked.apply(bench.stage, batch)

        bench.stage.apply = changed  # type: ignore[method-assign]
        out.address = lambda batch: ["elsewhere"] * len(batch)  # type: ignore[method-assign]
        step = await bench.all(through_pipeline=True)
        assert step.count == 3
        assert bench.stage.counted == 0
        ((number, why),) = step.kept
        assert number == numbers[3]
        assert "fails on it" in why
        assert CARD not in why
        assert (spool.held("out").events, spool.held("other").events) == (2, held)
        (chunk, *_) = await spool.fresh("out", 1, 2**20)
        assert [*chunk.destinations["out"]] == ["elsewhere"]
        assert chunk.times[0] == 5
        bench.closed()
        assert out_terms(bench)["dropped"] == 1
        assert bench.counted(OutputKey("out", Term.DROPPED, "noise")) == 1


async def test_an_output_that_is_gone_or_of_another_type(tmp_path: Path) -> None:
    """Its letters stay, with the reason; another type takes them through the pipeline only, for its places differ."""
    out = Scripted(refusing)
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": out})
        await bench.take({"n": 1})
        async with delivering(spool, out):
            await until(lambda: spool.usage().dead_letters == 1)
    async with spool_in(tmp_path, {"new": "scripted"}) as spool:
        bench = Bench(spool, {"new": out})
        ((_, why),) = (await bench.replay.replay(ALL)).kept
        assert why == "the configuration has no output `out`"
    async with spool_in(tmp_path, {"out": "file"}) as spool:
        bench = Bench(spool, {"out": out})
        ((_, why),) = (await bench.replay.replay(ALL)).kept
        assert "was of the type scripted" in why
        assert (await bench.replay.replay(ALL, through_pipeline=True)).count == 1
        assert spool.held("out").events == 1


# --- many, and at once -------------------------------------------------------------------------------------


async def test_concurrent_replays_double_nothing(tmp_path: Path) -> None:
    """Five replays of the same letters at once, and a drop of some of them: each letter leaves once."""
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        await bench.take(*[{"bad": n + 1} for n in range(1200)])
        bench.stage.fails = False
        results = await asyncio.gather(
            *(bench.all() for _ in range(5)), bench.replay.drop(Selection(numbers=tuple(range(100, 400))))
        )
        assert sum(step.count for step in results) == 1200
        assert spool.held("out").events == 1200 - results[-1].count
        chunks = await spool.fresh("out", 0, 2**30)
        ids = [event_id for chunk in chunks for event_id in chunk.ids]
        assert len(ids) == len(set(ids)) == 1200 - results[-1].count
        bench.closed()


async def test_a_letter_that_expires_meanwhile_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one of a batch is gone at the commit, the batch is made again without it."""
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        await bench.take({"bad": 1}, {"bad": 2}, {"bad": 3})
        bench.stage.fails = False
        commit = spool.commit

        async def late(intake: Intake) -> list[int]:
            monkeypatch.setattr(spool, "commit", commit)
            await spool._put(Removal([2], Term.EXPIRED))
            return await commit(intake)

        monkeypatch.setattr(spool, "commit", late)
        assert (await bench.replay.replay(ALL)).count == 2
        assert spool.held("out").events == 2
        bench.closed()


async def test_batches_are_bounded_in_bytes(tmp_path: Path) -> None:
    """Large letters go in several commits, none is skipped."""
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        await bench.take(*[{"bad": 1, "text": "x" * 700_000} for _ in range(7)])
        bench.stage.fails = False
        step = await bench.replay.replay(ALL)
        assert step.count == 3
        assert (step.after, step.until) == (3, 7)
        assert (await bench.all()).count == 4


async def test_a_full_spool_refuses_a_replay(tmp_path: Path) -> None:
    """It says why, and the letters stay."""
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        await bench.take({"bad": 1})
        spool._settings.max_bytes = type(spool._settings.max_bytes)(1)
        with pytest.raises(SpoolFullError, match="the spool is full"):
            await bench.replay.replay(ALL)
        assert spool.usage().dead_letters == 1


async def test_drops_go_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are meant are deleted and counted, the others stay."""
    monkeypatch.setattr("mcp_ingest.engine.replay.BATCH_DROPPED", 2)
    async with spool_in(tmp_path) as spool:
        bench = Bench(spool, {"out": Scripted()})
        await bench.take(*[{"bad": n + 1} for n in range(5)], tag="mcp.a")
        await bench.take({"n": 1}, tag="stranger")
        wanted = Selection(pipeline="mcp")
        step = await bench.replay.drop(wanted)
        assert (step.count, step.after, step.until) == (2, 2, 6)
        assert (await bench.replay.drop(wanted, step.after, step.until)).count == 2
        assert (await bench.replay.drop(wanted)).count == 1
        assert [letter.tag for letter in await spool.dead_letters.page(10)] == ["stranger"]
        assert bench.counted(LetterKey(Term.DELETED, "stage")) == 5
        bench.closed()
