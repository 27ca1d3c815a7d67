"""What a replay of dead letters would do, without doing it: each record before and after, and where it would go.

The pipelines are built anew for it, so that their windows and metrics do not see what only was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mcp_ingest.component import Output
from mcp_ingest.engine.letters import safe_record, safe_text
from mcp_ingest.engine.lines import finish
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.engine.replay import Replay, batch_of, record_of
from mcp_ingest.event import Batch
from mcp_ingest.spool.model import DeadLetter


@dataclass(slots=True)
class Preview:
    """One letter: `outcome` is "as it is", "accepted", "taken out", "dead letter" or "kept"; `why` explains it.

    `before` and `after` are records, masked; `destinations` are those of the events that would come out, by output.
    """

    number: int
    outcome: str
    why: str
    before: Any
    after: list[Any] = field(default_factory=list)
    destinations: dict[str, list[str]] = field(default_factory=dict)


class Previews:
    """`pipeline_of` builds the pipeline that takes a tag anew; None where none does."""

    def __init__(
        self, replay: Replay, outputs: Mapping[str, Output], pipeline_of: Callable[[str], Pipeline | None]
    ) -> None:
        self._replay = replay
        self._outputs = outputs
        self._pipeline_of = pipeline_of

    def preview(self, letter: DeadLetter, *, through_pipeline: bool) -> Preview:
        """What would become of this letter."""
        before = orjson.loads(letter.record)
        why = self._replay.problem(letter, through_pipeline=through_pipeline)
        if why is not None:
            return Preview(letter.number, "kept", why, before)
        if letter.output and not through_pipeline:
            says = f"goes to `{letter.output}` as it is"
            return Preview(letter.number, "as it is", says, before, [before], {letter.output: [letter.destination]})
        pipeline = self._pipeline_of(letter.tag)
        if pipeline is None:
            return Preview(letter.number, "dead letter", f"no pipeline takes the tag {letter.tag!r}", before)
        return self._through(pipeline, letter)

    def _through(self, pipeline: Pipeline, letter: DeadLetter) -> Preview:
        made = Preview(letter.number, "accepted", f"through the pipeline `{pipeline.name}`", record_of(letter))
        batch = pipeline.run(batch_of([letter]))
        after = [orjson.loads(safe_record(record, pipeline.mask).record) for record in batch.records]
        finish(batch)
        for rejected in batch.outcome.rejected:
            made.outcome = "kept" if letter.output else "dead letter"
            made.why = f"the pipeline `{pipeline.name}` fails on it: {safe_text(rejected.reason)}"
        for _, term, reason in batch.outcome.removed:
            made.outcome = "taken out"
            made.why = f"the pipeline `{pipeline.name}` takes it out: {term} by {reason}"
        if len(batch):
            made.after = after
            made.destinations = self._destinations(pipeline, letter, batch)
        return made

    def _destinations(self, pipeline: Pipeline, letter: DeadLetter, batch: Batch) -> dict[str, list[str]]:
        names = [letter.output] if letter.output else pipeline.outputs
        return {name: [*self._outputs[name].address(batch)] for name in names if not self._outputs[name].holds_nothing}
