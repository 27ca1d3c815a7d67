"""What emits become: one `Intake` of the spool, by routing, the chain, the serialisation and the ledger's counters."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import not_
from typing import cast

from mcp_ingest.codecs.values import clean_value
from mcp_ingest.component import Output
from mcp_ingest.context import Clock
from mcp_ingest.engine import letters
from mcp_ingest.engine.lines import finish
from mcp_ingest.engine.pipeline import Pipeline
from mcp_ingest.event import OURS, Batch, Chunk, ChunkSlice, Progress, Record, Rejected, Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import HIGH, NORMAL, InputKey, Intake, LetterKey, NewChunk, OutputKey

UNMATCHED = "unmatched"
_REPLAYED = (Term.GENERATED, "replayed")
_HIGH_LEVELS = ("ERROR", "CRITICAL")  # no set: a level may be a list, which has no hash


@dataclass(frozen=True, slots=True)
class Route:
    """A pipeline and the predicate of the tags that it takes."""

    matches: Callable[[str], bool]
    pipeline: Pipeline


@dataclass(slots=True)
class Made:
    """An intake, and what is to be counted once it is durable."""

    intake: Intake = field(default_factory=Intake)
    effects: list[Callable[[], None]] = field(default_factory=list)


class IntakeMaker:
    """Synchronous and without I/O: it decides what a commit will hold."""

    def __init__(self, routes: Sequence[Route], outputs: Mapping[str, Output], spool: Spool, clock: Clock) -> None:
        self._routes = routes
        self._outputs = outputs
        self._spool = spool
        self._clock = clock
        self._by_tag: dict[str, Pipeline | None] = {}

    def use(self, routes: Sequence[Route], outputs: Mapping[str, Output]) -> None:
        """Decide by these from now on: between two turns."""
        self._routes, self._outputs = routes, outputs
        self._by_tag.clear()

    def takes(self, tag: str) -> bool:
        """Whether a pipeline takes this tag."""
        return self.pipeline(tag) is not None

    def taken_before(self, chunks: Sequence[Chunk]) -> set[int]:
        """The places of those chunks, or of the slice of one, that are committed already or stand here twice."""
        if part := _slice_of(chunks):
            return {0} if self._spool.seen([part.digest]) or self._is_passed(part) else set()
        digests = cast(Sequence[bytes], chunks)
        committed, here = self._spool.seen(digests), set(digests)
        if not committed and len(here) == len(digests):
            return set()
        taken = set[int]()
        for place, digest in enumerate(digests):
            if digest not in here or digest in committed:
                taken.add(place)
            here.discard(digest)
        return taken

    def _is_passed(self, part: ChunkSlice) -> bool:
        """Whether the slices of this chunk got as far, before the connection broke."""
        done = self._spool.position(_slice_key(part))
        return done is not None and part.start <= struct.unpack(">Q", done)[0]

    def deduplicate(self, name: str, batch: Batch, runs: Collection[int]) -> None:
        """Take these runs out of the batch, which counts them as received and deduplicated."""
        taken = batch.take_runs(runs)
        batch.outcome.removed[name, Term.DEDUPLICATED, "chunk"] += len(taken) + len(taken.outcome.rejected)

    def make(self, emits: Sequence[tuple[str, Batch, Progress]]) -> Made:
        """One intake of all these emits: (input's name, batch, progress) each, in order."""
        made = Made()
        routed: dict[Pipeline | None, list[Batch]] = defaultdict(list)
        for name, batch, progress in emits:
            self._progress(made.intake, progress)
            for (_, term, reason), count in batch.outcome.removed.items():
                made.intake.ledger[InputKey(name, "", Term.RECEIVED)] += count
                made.intake.ledger[InputKey(name, "", term, reason)] += count
            batch.outcome.removed.clear()
            made.effects += batch.outcome.effects
            batch.outcome.effects = []
            for pipeline, part in self._routed(batch):
                routed[pipeline].append(part)
        for pipeline, batches in routed.items():
            whole = batches[0] if len(batches) == 1 else Batch.merge(batches)
            self._through(made, pipeline, whole)
        return made

    def make_again(self, batch: Batch) -> Made:
        """The intake of events that were dead letters of the way in: `generated`, with the reason `replayed`."""
        made = Made()
        for pipeline, part in self._routed(batch):
            self._through(made, pipeline, part, _REPLAYED)
        return made

    # --- routing ---

    def _routed(self, batch: Batch) -> list[tuple[Pipeline | None, Batch]]:
        arrived, batch.outcome.rejected = batch.outcome.rejected, []
        tags = _texts(batch)
        pipelines = {tag: self.pipeline(tag) for tag in tags}
        if len(set(pipelines.values())) == 1:
            parts: dict[Pipeline | None, Batch] = {next(iter(pipelines.values())): batch}
        else:
            places: dict[Pipeline | None, list[int]] = defaultdict(list)
            for index, tag in enumerate(batch.tags):
                places[pipelines[tag]].append(index)
            parts = {pipeline: batch.select(indices) for pipeline, indices in places.items()}
        for rejected in arrived:
            rejected.tag = clean_value(rejected.tag)[0]
            pipeline = self.pipeline(rejected.tag)
            parts.setdefault(pipeline, batch.select([])).reject(rejected)
        return list(parts.items())

    def pipeline(self, tag: str) -> Pipeline | None:
        """The first pipeline that takes the tag; None if none does."""
        try:
            return self._by_tag[tag]
        except KeyError:
            if len(self._by_tag) >= 10_000:  # tags come from outside: the cache is bounded
                self._by_tag.clear()
            found = next((route.pipeline for route in self._routes if route.matches(tag)), None)
            self._by_tag[tag] = found
            return found

    # --- one pipeline's batch ---

    def _through(
        self, made: Made, pipeline: Pipeline | None, batch: Batch, came: tuple[Term, str] = (Term.RECEIVED, "")
    ) -> None:
        """`came` is the term and the reason under which the events stand on the left of their sum."""
        name = pipeline.name if pipeline else UNMATCHED
        ledger = made.intake.ledger
        for source, count in batch.counts().items():
            ledger[InputKey(source, name, *(came if source != OURS else (Term.GENERATED, "")))] += count
        for rejected in batch.outcome.rejected:
            ledger[InputKey(rejected.origin.input, name, *came)] += 1
        if pipeline is None:
            batch = _refuse_all(batch)
        else:
            batch = pipeline.run(batch)
            held = [name for name in pipeline.outputs if not self._outputs[name].holds_nothing]
            self._accept(made.intake, pipeline, held, batch)
        for (source, term, reason), count in batch.outcome.removed.items():
            ledger[InputKey(source, name, term, reason)] += count
        self._letters(made.intake, name, pipeline, batch.outcome.rejected)
        made.effects += batch.outcome.effects

    def _accept(self, intake: Intake, pipeline: Pipeline, held: list[str], batch: Batch) -> None:
        """The chunks for the outputs of `held`, and the counters of all."""
        ledger = intake.ledger
        if held:
            intake.chunks += chunks_of(pipeline.name, batch, {name: self._outputs[name] for name in held})
        for source, count in batch.counts().items():
            ledger[InputKey(source, pipeline.name, Term.ACCEPTED)] += count
        if not batch.records:
            return
        for output in pipeline.outputs:
            ledger[OutputKey(output, Term.ASSIGNED)] += len(batch)
            if output not in held:
                ledger[OutputKey(output, Term.DELIVERED)] += len(batch)

    def _letters(self, intake: Intake, name: str, pipeline: Pipeline | None, rejected: list[Rejected]) -> None:
        now = self._clock.time_ns()
        mask: Callable[[Record], Record] | None = pipeline.mask if pipeline else None
        for each in rejected:
            intake.letters.append(letters.of_the_way_in(each, name, mask, now))
            intake.ledger[InputKey(each.origin.input, name, Term.DEAD_LETTERED, each.why)] += 1
            intake.ledger[LetterKey(Term.DEAD_LETTERED, each.why)] += 1

    def _progress(self, intake: Intake, progress: Progress) -> None:
        intake.positions.update(progress.positions)
        if part := _slice_of(progress.chunks):
            intake.positions[_slice_key(part)] = None if part.last else struct.pack(">Q", part.start)
            intake.digests += [part.digest] if part.last else []
        else:
            intake.digests += cast(Sequence[bytes], progress.chunks)


def _texts(batch: Batch) -> set[str]:
    """The tags of the batch, where one has a lone surrogate with U+FFFD for it: no database or JSON takes those."""
    tags = set(batch.tags)
    odd = {tag: text for tag in tags if not tag.isascii() and (text := clean_value(tag)[0]) != tag}
    if odd:
        batch.tags = [odd.get(tag, tag) for tag in batch.tags]
        tags = set(batch.tags)
    return tags


def is_urgent(record: Record) -> bool:
    """Whether the event is of high priority."""
    return record.get("log_level") in _HIGH_LEVELS


def chunks_of(pipeline: str, batch: Batch, outputs: Mapping[str, Output]) -> list[NewChunk]:
    """What the pipeline left, serialised: a chunk for these outputs, or two where events of both priorities are in it.

    Events that no JSON can hold leave the batch as dead letters.
    """
    entries = finish(batch)
    if not batch.records:
        return []
    places: dict[str, list[str | None]] = {name: [*output.address(batch)] for name, output in outputs.items()}
    high = [record.get("log_level") in _HIGH_LEVELS for record in batch.records]
    if len(set(high)) == 1:
        return [NewChunk(pipeline, HIGH if high[0] else NORMAL, entries.joined(), batch.tags, places)]
    chunks = []
    for priority, mask in ((NORMAL, [*map(not_, high)]), (HIGH, high)):
        parts: dict[str, list[str | None]] = {name: [*compress(where, mask)] for name, where in places.items()}
        chunks.append(NewChunk(pipeline, priority, entries.joined(mask), [*compress(batch.tags, mask)], parts))
    return chunks


def _refuse_all(batch: Batch) -> Batch:
    for index, tag in enumerate(batch.tags):
        batch.reject(
            Rejected(
                tag,
                batch.times[index],
                batch.records[index],
                batch.positions[index],
                batch.origin(index),
                f"no pipeline takes the tag {tag!r}: add it to a pipeline's match",
                why=UNMATCHED,
            )
        )
    empty = batch.select([])
    empty.outcome = batch.outcome
    return empty


def _slice_of(chunks: Sequence[Chunk]) -> ChunkSlice | None:
    """The slice, which comes alone; None of whole chunks."""
    return chunks[0] if chunks and isinstance(chunks[0], ChunkSlice) else None


def _slice_key(chunk: ChunkSlice) -> str:
    return f"chunk/{chunk.digest.hex()}"
