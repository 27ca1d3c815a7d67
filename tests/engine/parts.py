"""Parts that the engine's tests share: a real spool, and outputs that answer what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from mcp_ingest.component import Output, Stage, StageSettings
from mcp_ingest.context import Clock, Context, SystemClock
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.ingest import Ingest
from mcp_ingest.engine.intake import IntakeMaker, Route
from mcp_ingest.engine.letters import Mask
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.event import Batch, Origin, Term
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import Intake, NewChunk, OutputKey, SpoolSettings
from mcp_ingest.spool.overflow import Bound
from mcp_ingest.verdict import AllDelivered, Request, Verdicts

LOG = logging.getLogger("test")


class Scripted(Output):
    """Answers each request with the next of `answers` (a value or a function of the request), then delivers all.

    `stored` are the lines by id that were answered as delivered, `requests` the number of events of each request.
    """

    def __init__(self, *answers: Verdicts | Callable[[Request], Verdicts]) -> None:
        super().__init__(None, Context())
        self.answers = list(answers)
        self.stored: dict[str, bytes] = {}
        self.doubles = 0
        self.requests: list[int] = []

    def address(self, batch: Batch) -> list[str]:
        return ["index"] * len(batch)

    async def write(self, request: Request) -> Verdicts:
        await asyncio.sleep(0)
        self.requests.append(request.count)
        answer = self.answers.pop(0) if self.answers else AllDelivered()
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, AllDelivered):
            self.store(request)
        return answer

    def store(self, request: Request) -> None:
        for part in request.parts:
            for event_id, line in zip(part.ids, part.lines, strict=True):
                self.doubles += event_id in self.stored
                self.stored[event_id] = line


@contextlib.asynccontextmanager
async def spool_in(
    directory: Path,
    outputs: Mapping[str, str] | None = None,
    bounds: Mapping[str, Bound] | None = None,
    **settings: Any,
) -> AsyncIterator[Spool]:
    """A real spool in a folder, open for the length of a block."""
    made = SpoolSettings(directory=str(directory), **settings)
    spool = Spool(made, outputs or {"out": "scripted"}, SystemClock(), LOG, Metrics(), bounds)
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


def intake(*ids: str, output: str = "out", destination: str = "index", line: bytes = b'{"n":1}') -> Intake:
    """An intake of one chunk with these events (ids are made 28 characters long)."""
    full = [event_id.ljust(28, "-") for event_id in ids]
    count = len(full)
    chunk = NewChunk.of("p", 0, full, ["t"] * count, [line] * count, {output: [destination] * count})
    return Intake(chunks=[chunk], ledger=Counter({OutputKey(output, Term.ASSIGNED): count}))


class _Drop(Stage):
    def apply(self, batch: Batch) -> Batch:
        return batch.keep([not record.get("noise") for record in batch.records], Term.FILTERED, "noise")


class Unspeakable:
    """A value that no JSON can hold: it has no text either."""

    def __str__(self) -> str:
        raise ValueError("no words for it")

    __repr__ = __str__


def batch(*records: dict[str, Any], tag: str = "mcp.a", start: int = 0) -> Batch:
    """A batch of these records from the input `in`, at positions from `start` on."""
    origin = Origin("in", "P" * 20, 1_763_823_600_000_000_000)
    return Batch.of(origin, tag, [0] * len(records), list(records), list(range(start, start + len(records))))


@contextlib.asynccontextmanager
async def ingesting(spool: Spool, metrics: Metrics | None = None) -> AsyncIterator[Ingest]:
    """Turns being made: `mcp*` goes through a stage that drops noise, `other*` straight, both to `out`."""
    outputs: dict[str, Output] = {"out": Scripted()}
    pipeline = Pipeline("mcp", [_Drop(StageSettings(), Context("drop"))], ["out"])
    routes = [
        Route(lambda tag: tag.startswith("mcp"), pipeline),
        Route(lambda tag: tag.startswith("other"), Pipeline("other", [], ["out"])),
    ]
    ingest = Ingest(IntakeMaker(routes, outputs, spool, SystemClock()), spool, metrics or Metrics(), LOG)
    async with asyncio.TaskGroup() as group:
        group.create_task(ingest.run())
        try:
            yield ingest
        finally:
            ingest.drain()


@contextlib.asynccontextmanager
async def delivering(
    spool: Spool, output: Output, *, clock: Clock | None = None, masks: Mapping[str, Mask] | None = None
) -> AsyncIterator[Delivery]:
    """A delivery loop of the output `out` at work for the length of a block."""
    delivery = Delivery("out", output, spool, clock or SystemClock(), Metrics(), LOG, masks)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(delivery.run())
        try:
            yield delivery
        finally:
            task.cancel()


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until the condition holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  any condition, not an event of ours
            await asyncio.sleep(0.005)
