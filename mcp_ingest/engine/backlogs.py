"""What outputs owe that the configuration has no more: given to another output, or let go, by hand.

An event that is moved is `redirected` at the removed output and `assigned` to the other one; it keeps its id, its time
and its text, and gets the place that the other output has for it. One that is let go is `dropped`, with the reason
`by_hand`. No reload goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from mcp_ingest.component import Output
from mcp_ingest.engine.graph import Graph
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.event import Batch, Origin, Term, id_parts
from mcp_ingest.spool.model import Chunk, Intake, Moved, NewChunk, OutputKey
from mcp_ingest.spool.moving import Owed

#: Bytes of lines in one commit of a move: a moment's work for the event loop.
SLICE_BYTES = 2 * 2**20
_TRIES = 5


class Backlogs:
    """The removed outputs of one graph, by `name (type)`."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    async def drop(self, name: str) -> int:
        """Let go of all that it owes; how many events. IngestError where there is no such backlog."""
        async with self._graph.changing:
            return await self._graph.spool.drop_backlog(name)

    async def move(self, name: str, to: str) -> int:
        """Give all that it owes to the output `to`; how many events. IngestError where one of them is not there."""
        async with self._graph.changing:
            output = self._graph.outputs.get(to)
            if output is None:
                raise IngestError(f"the configuration has no output {to!r}: there are {', '.join(self._graph.outputs)}")
            events, tries = 0, 0
            while True:
                number, owed = await self._graph.spool.backlog(name, SLICE_BYTES)
                if not owed:
                    return events
                intake = _intake(name, number, owed, to, output)
                try:
                    await self._graph.spool.commit(intake)
                except SpoolError:  # some of it was let go for want of space since it was read, or the disk fails
                    tries += 1
                    if tries == _TRIES:
                        raise
                else:
                    events += sum(len(each.indices) for each in owed)
                    tries = 0


def _intake(name: str, number: int, owed: list[Owed], to: str, output: Output) -> Intake:
    """What one commit of a move holds."""
    intake = Intake(moved=Moved(number, {each.chunk.number: len(each.indices) for each in owed}))
    events = sum(len(each.indices) for each in owed)
    intake.ledger[OutputKey(name.rpartition(" (")[0], Term.REDIRECTED, f"moved to {to}")] += events
    intake.ledger[OutputKey(to, Term.ASSIGNED)] += events
    if output.holds_nothing:
        intake.ledger[OutputKey(to, Term.DELIVERED)] += events
    else:
        intake.chunks = [_chunk(each, to, output) for each in owed if each.indices]
    return intake


def _chunk(owed: Owed, to: str, output: Output) -> NewChunk:
    """The same events for the other output alone."""
    chunk, indices = owed
    batch = _batch(chunk, indices)
    ids, lines = [chunk.ids[index] for index in indices], [chunk.lines[index] for index in indices]
    return NewChunk.of(chunk.pipeline, chunk.priority, ids, batch.tags, lines, {to: [*output.address(batch)]})


def _batch(chunk: Chunk, indices: Sequence[int]) -> Batch:
    """The events as an output takes them to settle where each goes; received when they were committed, about."""
    parts = [id_parts(chunk.ids[index]) for index in indices]
    return Batch(
        [chunk.tags[index] for index in indices],
        [chunk.times[index] for index in indices],
        [orjson.loads(chunk.lines[index]) for index in indices],
        [position for _, position in parts],
        [Origin("", prefix, chunk.created) for prefix, _ in parts],
        [*range(1, len(parts) + 1)],
    )
