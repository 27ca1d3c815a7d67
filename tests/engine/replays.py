"""A spool with a pipeline that refuses and takes out, and the replays of its dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_ingest.component import Stage, StageSettings
from mcp_ingest.context import Context, SystemClock
from mcp_ingest.engine.intake import IntakeMaker, Route
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.engine.replay import Replay, Step
from mcp_ingest.engine.status import sums
from mcp_ingest.errors import StageError
from mcp_ingest.event import Batch, Origin, Progress, Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import InputKey, LetterKey, OutputKey, Selection
from tests.engine.parts import LOG, Scripted

CARD = "4111 1111 1111 1111"
ALL = Selection()


class Checked(Stage):
    """Refuses records with `bad`, takes out those with `noise`, adds `seen`."""

    fails = True
    counted = 0

    def apply(self, batch: Batch) -> Batch:
        batch = batch.keep([not record.get("noise") for record in batch.records], Term.FILTERED, "noise")
        errors: dict[int, BaseException] = {}
        for index, record in enumerate(batch.records):
            if self.fails and record.get("bad"):
                errors[index] = StageError(f"bad record {record['bad']} of {CARD}")
            else:
                record["seen"] = record.get("seen", 0) + 1
        batch = batch.fail(errors, "checked")
        batch.outcome.effects.append(self.count)
        return batch

    def count(self) -> None:
        self.counted += 1


class Bench:
    """A spool with a pipeline `mcp` to `out` (and `other`), and the replays of it."""

    def __init__(self, spool: Spool, outputs: Mapping[str, Scripted]) -> None:
        self.spool = spool
        self.outputs = outputs
        self.stage = Checked(StageSettings(), Context("checked"))
        self.pipeline = Pipeline("mcp", [self.stage], [*outputs])
        routes = [Route(lambda tag: tag.startswith("mcp"), self.pipeline)]
        self.maker = IntakeMaker(routes, outputs, spool, SystemClock())
        self.replay = Replay(spool, self.maker, outputs, LOG)

    async def take(self, *records: Any, tag: str = "mcp.a", start: int = 0) -> None:
        """What an input emits."""
        origin = Origin("in", "P" * 20, 1_763_823_600_000_000_000)
        count = len(records)
        batch = Batch.of(origin, tag, [5] * count, list(records), [*range(start, start + count)])
        await self.spool.commit(self.maker.make([("in", batch, Progress())]).intake)

    def closed(self) -> None:
        held = {name: self.spool.held(name).events for name in self.outputs}
        rows = sums(self.spool.ledger(), held, self.spool.usage().dead_letters)
        assert all(row["closed"] for row in rows), rows

    async def all(self, wanted: Selection = ALL, **named: Any) -> Step:
        """Call after call, to the end; what they did in sum."""
        whole, step = Step(), await self.replay.replay(wanted, **named)
        while True:
            self.closed()
            whole.count += step.count
            whole.died += step.died
            whole.kept += step.kept
            if step.after >= step.until:
                return whole
            step = await self.replay.replay(wanted, step.after, step.until, **named)

    def counted(self, key: InputKey | OutputKey | LetterKey) -> int:
        return self.spool.ledger()[key]
