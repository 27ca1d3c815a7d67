"""From inputs that send again to outputs that answer anything, over crashes: each event arrives once by its id."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from mcp_ingest.component import Output, Stage, StageSettings
from mcp_ingest.context import Context, SystemClock
from mcp_ingest.engine import delivery as delivery_module
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.ingest import Ingest
from mcp_ingest.engine.intake import IntakeMaker, Route
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.engine.status import sums
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.event import (
    Batch,
    ChunkSlice,
    Origin,
    Progress,
    Rejected,
    Stream,
    Term,
    hashed_prefix,
    id_suffixes,
)
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import InputKey, Intake, OutputKey
from mcp_ingest.verdict import (
    DELIVERED,
    DUPLICATE,
    REDIRECTED,
    Each,
    Malformed,
    Park,
    ParkAll,
    Refused,
    Request,
    Retry,
    TooLarge,
    Unknown,
    Verdict,
    Verdicts,
)
from tests.engine.parts import LOG, spool_in, until

_OUTPUTS = {"out": "scripted", "also": "scripted"}
_KINDS = ("fine", "fine", "fine", "fine", "fine", "noise", "bad", "poison", "conflict", "guilty", "large", "stranger")
_TAGS = ("mcp.a", "mcp.b", "other.x")
_NEVER_STORED = ("poison", "guilty", "large")


class _CrashError(Exception):
    """The daemon of this round is gone."""


# --- what is sent ------------------------------------------------------------------------------------------


@dataclass
class _Event:
    kind: str
    tag: str
    position: int


@dataclass
class _World:
    """All events that there are, and what the senders know of them: it outlives the daemon."""

    rng: random.Random
    chunks: list[list[list[_Event]]] = field(default_factory=list)  # in slices
    lines: list[_Event] = field(default_factory=list)
    unacknowledged: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for _ in range(25):
            position, slices = 0, []
            for _ in range(self.rng.choice((1, 1, 1, 2, 4))):
                slices.append([self._event(position + n) for n in range(self.rng.randint(1, 20))])
                position += len(slices[-1])
            self.chunks.append(slices)
        self.lines = [self._event(position) for position in range(300)]
        self.unacknowledged = set(range(len(self.chunks)))

    def _event(self, position: int) -> _Event:
        kind = self.rng.choice((*_KINDS, "undecodable"))
        return _Event(kind, "stranger" if kind == "stranger" else self.rng.choice(_TAGS), position)

    def expected(self) -> dict[str, str]:
        """The kind of every event by its id."""
        named = [(_prefix(number), event) for number, slices in enumerate(self.chunks) for e in slices for event in e]
        named += [(_prefix("tail"), event) for event in self.lines]
        return {prefix + id_suffixes([event.position])[0]: event.kind for prefix, event in named}


def _prefix(name: object) -> str:
    return hashed_prefix(str(name).encode())


def _batch(name: object, events: list[_Event]) -> Batch:
    origin = Origin("in", _prefix(name), 1_763_823_600_000_000_000)
    good = [event for event in events if event.kind != "undecodable"]
    records = [{"kind": event.kind, "n": event.position, "log_level": "ERROR"} for event in good]
    for record in records[::2]:
        record["log_level"] = "INFO"
    batch = Batch.of(origin, [e.tag for e in good], [0] * len(good), records, [e.position for e in good])
    for event in events:
        if event.kind == "undecodable":
            batch.reject(Rejected(event.tag, 0, b"\xff", event.position, origin, "no map", why="undecodable"))
    return batch


# --- who sends ---------------------------------------------------------------------------------------------


async def _send_chunks(world: _World, ingest: Ingest) -> None:
    """A connection: it sends chunks until all are acknowledged, now and then one whose ack was lost."""
    emit, rng = ingest.emit_for("in"), world.rng
    while world.unacknowledged or rng.random() < 0.5:
        number = rng.choice(sorted(world.unacknowledged) or range(len(world.chunks)))
        digest, stream = hashlib.blake2b(b"%d" % number, digest_size=16).digest(), Stream()
        slices = world.chunks[number]
        try:
            for place, events in enumerate(slices):
                part = ChunkSlice(digest, events[0].position, place == len(slices) - 1)
                chunk = digest if len(slices) == 1 else part
                await emit(_batch(number, events), Progress(stream, chunks=[chunk]))
        except IngestError:
            await asyncio.sleep(0.001)
        else:
            world.unacknowledged.discard(number)


async def _tail(world: _World, spool: Spool, ingest: Ingest) -> None:
    """A file: it is read on from the position that is committed."""
    emit, stream = ingest.emit_for("in"), Stream()
    while (at := int(spool.position("tail/x") or b"0")) < len(world.lines):
        taken = world.lines[at : at + world.rng.randint(1, 30)]
        try:
            await emit(_batch("tail", taken), Progress(stream, {"tail/x": b"%d" % (at + len(taken))}))
        except IngestError:
            stream = Stream()


# --- what it goes through ----------------------------------------------------------------------------------


class _Filter(Stage):
    """Takes noise out, and only then finds that the batch has a bad event."""

    def apply(self, batch: Batch) -> Batch:
        batch = batch.keep([record["kind"] != "noise" for record in batch.records], Term.FILTERED, "noise")
        if any(record["kind"] == "bad" for record in batch.records):
            raise ValueError("a bad event")
        return batch


class _Moody(Output):
    """Answers anything, and stores by id what it says it has, sometimes what it does not say, too."""

    max_request_events = 40

    def __init__(self, rng: random.Random) -> None:
        super().__init__(None, Context())
        self.rng = rng
        self.stored: dict[str, str] = {}
        self.calm = False

    def address(self, batch: Batch) -> list[str]:
        return [f"day{position % 3}" for position in batch.positions]

    async def write(self, request: Request) -> Verdicts:
        await asyncio.sleep(self.rng.choice((0, 0, 0.002)))
        events = [
            (event_id, place, orjson.loads(line))
            for part in request.parts
            for event_id, place, line in zip(part.ids, part.destinations, part.lines, strict=True)
        ]
        kinds = {record["kind"] for _, _, record in events}
        mood = self.rng.random() if not self.calm else 1.0
        if mood < 0.05:
            return self.rng.choice((ParkAll("401"), Unknown("reset"), Unknown("503", after=0.002)))
        if mood < 0.1:  # cut off in the middle: what was done before is done
            for event in events[: self.rng.randint(0, len(events))]:
                self._verdict(*event, calm=True)
            return Unknown("cut")
        if "large" in kinds:
            return TooLarge("413")
        if "guilty" in kinds:
            return Malformed("400")
        if mood < 0.12:
            raise RuntimeError("a bug")
        if mood < 0.14:
            return Each([])
        return Each([self._verdict(*event, calm=self.calm) for event in events])

    def _verdict(self, event_id: str, place: str, record: dict[str, object], *, calm: bool) -> Verdict:
        if event_id in self.stored:
            return DUPLICATE
        mood = self.rng.random() if not calm else 1.0
        if mood < 0.1:
            return Retry("429", after=0.003)
        if mood < 0.2:
            return Park(f"{place} is closed")
        if record["kind"] == "conflict" and "conflict.n" not in record:
            return Refused("mapping", field="n", kind="mapping")
        if record["kind"] in _NEVER_STORED:
            return Refused("poison", field=self.rng.choice(("n", "absent", None)))
        self.stored[event_id] = str(record["kind"])
        return REDIRECTED if mood < 0.3 else DELIVERED


def _failing_now_and_then(spool: Spool, rng: random.Random) -> None:
    real = spool.submit

    def submit(intake: Intake) -> asyncio.Future[list[int]]:
        if rng.random() > 0.05:
            return real(intake)
        failed: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        failed.set_exception(SpoolError("no disk"))
        return failed

    spool.submit = submit  # type: ignore[method-assign]


# --- the rounds --------------------------------------------------------------------------------------------


async def _round(directory: Path, world: _World, outputs: dict[str, _Moody], *, last: bool) -> None:
    """A daemon's life: to its end if it is the last, else until a crash at some moment."""
    async with spool_in(directory, _OUTPUTS) as spool:
        _assert_closed(spool)
        _failing_now_and_then(spool, world.rng)
        filtering = StageSettings()
        routes = [
            Route(lambda tag: tag.startswith("mcp"), Pipeline("p", [_Filter(filtering, Context("f"))], [*_OUTPUTS])),
            Route(lambda tag: tag.startswith("other"), Pipeline("o", [_Filter(filtering, Context("f"))], [*_OUTPUTS])),
        ]
        ingest = Ingest(IntakeMaker(routes, outputs, spool, SystemClock()), spool, Metrics(), LOG)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ingest.run())
                for name, output in outputs.items():
                    group.create_task(Delivery(name, output, spool, SystemClock(), Metrics(), LOG).run())
                senders = [group.create_task(_send_chunks(world, ingest)) for _ in range(3)]
                senders.append(group.create_task(_tail(world, spool, ingest)))
                if last:
                    await asyncio.wait(senders)
                    await until(lambda: not any(spool.held(name).events for name in _OUTPUTS), 20)
                else:
                    await asyncio.sleep(world.rng.uniform(0, 0.08))
                raise _CrashError
        except* _CrashError:
            pass


def _assert_closed(spool: Spool) -> None:
    held = {name: spool.held(name).events for name in _OUTPUTS}
    rows = sums(spool.ledger(), held, spool.usage().dead_letters)
    assert all(row["closed"] for row in rows), rows


def _terms(spool: Spool, kind: type[InputKey] | type[OutputKey]) -> Iterator[tuple[str, Term, int]]:
    return ((key[0], key.term, count) for key, count in spool.ledger().items() if isinstance(key, kind))


@pytest.mark.parametrize("seed", range(10))
async def test_each_event_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """After crashes, failed commits, resends and every verdict: stored once or a letter once, and the sums close."""
    monkeypatch.setattr(delivery_module, "pause", lambda attempt, asked=None: max(0.002, asked or 0))
    monkeypatch.setattr(delivery_module, "PARKED", 0.004)
    monkeypatch.setattr(LOG, "disabled", True)
    world = _World(random.Random(seed))
    outputs = {name: _Moody(world.rng) for name in _OUTPUTS}
    for _ in range(6):
        await _round(tmp_path, world, outputs, last=False)
    await _round(tmp_path, world, outputs, last=True)
    expected = world.expected()
    of_kind = Counter(expected.values())
    letters_in = {i for i, kind in expected.items() if kind in ("bad", "stranger", "undecodable")}
    letters_out = {i for i, kind in expected.items() if kind in _NEVER_STORED}
    arriving = {i for i, kind in expected.items() if kind in ("fine", "conflict")}
    async with spool_in(tmp_path, _OUTPUTS) as spool:
        _assert_closed(spool)
        assert spool.usage().chunks == 0
        letters = await spool.dead_letters.page(100_000)
        assert Counter(letter.event_id for letter in letters if not letter.output) == Counter(letters_in)
        for name, output in outputs.items():
            assert output.stored.keys() == arriving
            assert Counter(each.event_id for each in letters if each.output == name) == Counter(letters_out)
        counts: Counter[Term] = Counter()
        for _, term, count in _terms(spool, InputKey):
            counts[term] += count
        assert counts[Term.FILTERED] == of_kind["noise"]
        assert counts[Term.ACCEPTED] == len(arriving) + len(letters_out)
        assert counts[Term.RECEIVED] == len(expected) + counts[Term.DEDUPLICATED]
        assert spool.positions("chunk/") == {}
