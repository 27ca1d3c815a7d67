"""What is over a bound is let go beside deliveries at work: never both dropped and delivered, and no more than that."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from mcp_ingest.component import ByteSize
from mcp_ingest.context import SystemClock
from mcp_ingest.engine import delivery as delivery_module
from mcp_ingest.engine import overflow as module
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.overflow import Overflow
from mcp_ingest.engine.overflow_report import OverflowReport
from mcp_ingest.engine.status import sums
from mcp_ingest.event import Record, Term
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import HIGH, NORMAL, Intake, NewChunk, OutputKey
from mcp_ingest.spool.overflow import Bound
from mcp_ingest.verdict import DELIVERED, DUPLICATE, Each, Park, Refused, Request, Retry, Unknown, Verdict, Verdicts
from tests.engine.parts import LOG, Scripted, spool_in, until

LINE = 4000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "pause", lambda attempt, asked=None: 0.01)
    monkeypatch.setattr(delivery_module, "PARKED", 0.03)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)


class Dead(Scripted):
    """Answers nothing but that it is away; `hangs`: not even that."""

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__()
        self.hangs = hangs

    async def write(self, request: Request) -> Verdicts:
        self.requests.append(request.count)
        if self.hangs:
            await asyncio.Event().wait()
        return Unknown("away")


def _intake(number: int, outputs: tuple[str, ...] = ("out",), priority: int = NORMAL) -> Intake:
    """Two events that do not compress, as `number` names them."""
    ids = [f"{number}-{event}".ljust(28, "-") for event in range(2)]
    lines = [b'{"x":"%s"}' % os.urandom(LINE // 2).hex().encode() for _ in ids]
    places: dict[str, list[str | None]] = {name: [f"index-{number % 3}"] * 2 for name in outputs}
    made = Intake(chunks=[NewChunk.of("p", priority, ids, ["t"] * 2, lines, places)])
    made.ledger.update({OutputKey(name, Term.ASSIGNED): 2 for name in outputs})
    return made


@contextlib.asynccontextmanager
async def _running(spool: Spool, **outputs: Scripted) -> AsyncIterator[Metrics]:
    """Deliveries to these outputs, and what lets go of what is too much."""
    metrics = Metrics()
    loops = {name: Delivery(name, output, spool, SystemClock(), metrics, LOG) for name, output in outputs.items()}

    async def nobody(tag: str, record: Record) -> None:
        return None

    overflow = Overflow(spool, loops, OverflowReport("any", nobody, metrics, LOG), LOG)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in (overflow.run(), *(loop.run() for loop in loops.values()))]
        try:
            yield metrics
        finally:
            for task in tasks:
                task.cancel()


def _count(spool: Spool, output: str, term: Term) -> int:
    return sum(
        count
        for key, count in spool.ledger().items()
        if isinstance(key, OutputKey) and (key.output, key.term) == (output, term)
    )


def _assert_closed(spool: Spool, *names: str) -> None:
    rows = sums(spool.ledger(), {name: spool.held(name).events for name in names}, spool.usage().dead_letters)
    assert all(row["closed"] for row in rows), rows


async def _held_ids(spool: Spool, output: str) -> list[str]:
    return [chunk.ids[0].partition("-")[0] for chunk in await spool.fresh(output, 0, 2**30)]


async def test_drop_oldest_lets_go_beside_a_dead_output(tmp_path: Path) -> None:
    """The spool stays below its limit without an input waiting for long; the newest are kept, the sums close."""
    limit = ByteSize(512 * 1024)
    async with spool_in(tmp_path, max_bytes=limit, when_full="drop_oldest") as spool, _running(spool, out=Dead()):
        async with asyncio.timeout(20):
            for number in range(200):
                await spool.room()
                await spool.commit(_intake(number))
                assert spool.usage().bytes <= limit + 64 * 1024
                _assert_closed(spool, "out")
        dropped = _count(spool, "out", Term.DROPPED)
        assert dropped == 2 * 200 - spool.held("out").events > 0
        assert "199" in await _held_ids(spool, "out")


async def test_errors_go_last(tmp_path: Path) -> None:
    """Of what is not in hand all normal chunks go before the first one with errors does."""
    limit, output = ByteSize(256 * 1024), Dead(hangs=True)
    output.max_request_bytes, output.concurrency = 3 * 2 * LINE, 1  # three chunks are in hand
    async with spool_in(tmp_path, max_bytes=limit, when_full="drop_oldest") as spool:
        for number in range(100):
            await spool.commit(_intake(number, priority=HIGH if number % 10 == 0 else NORMAL))
        async with _running(spool, out=output) as metrics:
            await until(spool.has_room)
        kept = await _held_ids(spool, "out")
        assert {str(number) for number in range(0, 100, 10)} <= set(kept)
        labels = {"output": "out", "reason": "drop_oldest"}
        value = metrics.registry.get_sample_value
        assert value("mcp_ingest_dropped_events_total", {**labels, "priority": "normal"}) == 200 - 2 * len(kept)
        assert value("mcp_ingest_dropped_events_total", {**labels, "priority": "high"}) is None


async def test_what_is_being_sent_is_not_let_go_and_what_waits_is(tmp_path: Path) -> None:
    """With all of a small spool in a dead output's hand there is room all the same, once its requests came back."""

    class Slow(Dead):
        gate = asyncio.Event()

        async def write(self, request: Request) -> Verdicts:
            await self.gate.wait()
            return Unknown("away")

    limit = ByteSize(256 * 1024)
    output = Slow()
    async with spool_in(tmp_path, max_bytes=limit, when_full="drop_oldest") as spool, _running(spool, out=output):
        for number in range(20):
            await spool.commit(_intake(number))
        await asyncio.sleep(0.1)  # now all of it is in hand
        for number in range(20, 40):
            await spool.commit(_intake(number))
        await asyncio.sleep(0.3)
        held = spool.held("out").events
        assert held >= 40
        output.gate.set()
        async with asyncio.timeout(20):
            for number in range(40, 120):
                await spool.room()
                await spool.commit(_intake(number))
        _assert_closed(spool, "out")
        await until(spool.has_room)


async def test_a_dead_best_effort_output_holds_up_nobody(tmp_path: Path) -> None:
    """With `block` its events go when the spool is full; the required output has every one."""
    bounds = {"spare": Bound(best_effort=True)}
    limit, names = ByteSize(512 * 1024), {"out": "scripted", "spare": "scripted"}
    out = Scripted()
    async with (
        spool_in(tmp_path, names, bounds, max_bytes=limit) as spool,
        _running(spool, out=out, spare=Dead()),
    ):
        async with asyncio.timeout(20):
            for number in range(200):
                await spool.room()
                await spool.commit(_intake(number, ("out", "spare")))
            await until(lambda: not spool.held("out").events)
        assert len(out.stored) == 400
        assert _count(spool, "out", Term.DROPPED) == 0
        assert spool.ledger()[OutputKey("spare", Term.DROPPED, "best_effort")] > 0
        _assert_closed(spool, "out", "spare")


async def test_a_dead_required_output_costs_a_best_effort_one_nothing(tmp_path: Path) -> None:
    """What two outputs owe makes no room as long as the required one owes it: inputs wait, nothing is let go."""
    bounds = {"spare": Bound(best_effort=True)}
    limit, names = ByteSize(256 * 1024), {"out": "scripted", "spare": "scripted"}
    async with (
        spool_in(tmp_path, names, bounds, max_bytes=limit) as spool,
        _running(spool, out=Dead(), spare=Dead()),
    ):
        number = 0
        while spool.has_room():
            await spool.commit(_intake(number, ("out", "spare")))
            number += 1
        await asyncio.sleep(0.3)
        assert not spool.has_room()
        assert (spool.held("out").events, spool.held("spare").events) == (2 * number, 2 * number)


async def test_a_budget_is_kept_whatever_the_others_owe(tmp_path: Path) -> None:
    """A best-effort output's backlog stays at its `max_backlog`; another output of the same chunks loses nothing."""
    bounds = {"spare": Bound(best_effort=True, max_backlog=128 * 1024)}
    names = {"out": "scripted", "spare": "scripted"}
    async with spool_in(tmp_path, names, bounds) as spool, _running(spool, out=Dead(), spare=Dead()):
        for number in range(100):
            await spool.commit(_intake(number, ("out", "spare")))
        await until(lambda: spool.held("spare").bytes <= 128 * 1024)
        assert spool.held("spare").bytes > 100 * 1024  # a sixteenth below, and not all of it
        assert spool.held("out").events == 200
        assert spool.ledger()[OutputKey("spare", Term.DROPPED, "over_budget")] == 200 - spool.held("spare").events
        _assert_closed(spool, "out", "spare")


async def test_a_removed_output_blocks_nobody(tmp_path: Path) -> None:
    """Its backlog waits below its bound, above it the oldest go; it comes back to what is left."""
    names = {"out": "scripted", "gone": "scripted"}
    async with spool_in(tmp_path, names) as spool:
        for number in range(60):
            await spool.commit(_intake(number, ("gone",)))
    bound = ByteSize(128 * 1024)
    async with (
        spool_in(tmp_path, {"out": "scripted"}, max_removed_backlog=bound) as spool,
        _running(spool, out=Scripted()),
    ):
        await until(lambda: spool.backlog_of_removed_outputs()["gone (scripted)"].bytes <= 128 * 1024)
        left = spool.backlog_of_removed_outputs()["gone (scripted)"].events
        assert spool.ledger()[OutputKey("gone", Term.DROPPED, "removed_output")] == 120 - left
    output = Scripted()
    async with spool_in(tmp_path, names) as spool, _running(spool, gone=output):
        await until(lambda: not spool.held("gone").events)
        assert len(output.stored) == left > 0
        _assert_closed(spool, "gone")


class Moody(Scripted):
    """Answers each request with whatever comes to its mind, and remembers what it stored."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.max_request_bytes = 8 * LINE

    async def write(self, request: Request) -> Verdicts:
        await asyncio.sleep(self.random.choice([0, 0, 0.01, 0.05]))
        if self.random.random() < 0.3:
            return Unknown("away")  # nothing was stored: what counts as dropped then was never there
        others: list[Verdict] = [Retry("busy"), Park("closed")]
        kinds = [*[DELIVERED] * 40, *[DUPLICATE] * 9, *others * 10, Refused("no")]
        verdicts = [self.random.choice(kinds) for _ in range(request.count)]
        ids = [event_id for part in request.parts for event_id in part.ids]
        for event_id, verdict in zip(ids, verdicts, strict=True):
            if verdict in (DELIVERED, DUPLICATE):
                self.doubles += event_id in self.stored
                self.stored[event_id] = b""
        return Each(verdicts)


@pytest.mark.parametrize("seed", range(4))
async def test_no_event_is_both_dropped_and_delivered(tmp_path: Path, seed: int) -> None:
    """With outputs that retry, park, refuse and break off while the oldest go, each event has exactly one end."""
    bounds: Mapping[str, Bound] = {"spare": Bound(best_effort=True, max_backlog=64 * 1024)}
    names = {"out": "scripted", "spare": "scripted"}
    limit = ByteSize(176 * 1024)
    outputs = {name: Moody(seed + number) for number, name in enumerate(names)}
    generator = random.Random(seed)
    async with (
        spool_in(tmp_path, names, bounds, max_bytes=limit, when_full="drop_oldest") as spool,
        _running(spool, **outputs),
    ):
        async with asyncio.timeout(60):
            for number in range(300):
                await spool.room()
                to = generator.choice([("out",), ("spare",), ("out", "spare"), ("out", "spare")])
                await spool.commit(_intake(number, to, generator.choice([NORMAL, NORMAL, HIGH])))
                _assert_closed(spool, *names)
            await until(lambda: not any(spool.held(name).events for name in names), 30)
        for name, output in outputs.items():
            stored = _count(spool, name, Term.DELIVERED) + _count(spool, name, Term.DUPLICATE)
            assert (stored, output.doubles) == (len(output.stored), 0)
            rest = _count(spool, name, Term.DROPPED) + _count(spool, name, Term.DEAD_LETTERED)
            assert stored + rest == _count(spool, name, Term.ASSIGNED)
        assert _count(spool, "out", Term.DROPPED) > 0
        assert spool.usage().chunks == 0
