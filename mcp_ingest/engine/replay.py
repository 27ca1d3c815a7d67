"""Replaying dead letters: the letter goes and its event comes back, in one commit.

A letter of the way in takes the way through the pipeline that takes its tag now, as an event that is `generated`, with
the id, tag, time and receipt that it had. One of an output becomes a chunk for that output alone, with its id, time and
destination, or goes through the pipeline first if so asked; what comes of it goes to that output alone.

A call replays a bounded batch and says how far it got, so that a caller can go on from there; letters that died after
the first call are beyond its end, and nothing is replayed in a circle. Replays take turns, and a letter that another
has taken, or that has expired meanwhile, makes the commit fail as a whole: then it is read anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from mcp_ingest.component import Output
from mcp_ingest.engine.intake import IntakeMaker, Made, chunks_of, is_urgent
from mcp_ingest.engine.letters import safe_text
from mcp_ingest.errors import LetterGoneError, SpoolFullError
from mcp_ingest.event import Batch, Origin, Rejected, Term, id_parts, id_suffixes
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import HIGH, NORMAL, DeadLetter, Intake, NewChunk, OutputKey, Selection

#: Letters in one commit of a replay, and bytes of their records: a moment's work for the event loop.
BATCH_LETTERS = 500
BATCH_BYTES = 2 * 2**20
#: Letters that one call drops.
BATCH_DROPPED = 2000
_TRIES = 3


@dataclass(slots=True)
class Step:
    """How far a call got: letters that left, those that stay with the reason, and where the next call goes on.

    `died` is how many of those that left are dead letters again already. Nothing is left when `after` is `until`.
    """

    count: int = 0
    died: int = 0
    kept: list[tuple[int, str]] = field(default_factory=list)
    after: int = 0
    until: int = 0


@dataclass(slots=True)
class _Plan:
    """What the commit of a batch is to hold."""

    made: Made = field(default_factory=Made)
    kept: list[tuple[int, str]] = field(default_factory=list)

    @property
    def intake(self) -> Intake:
        return self.made.intake


class Replay:
    """The replays of one spool; `maker` and `outputs` are those that events from inputs take."""

    def __init__(self, spool: Spool, maker: IntakeMaker, outputs: Mapping[str, Output], logger: logging.Logger) -> None:
        self._spool = spool
        self._maker = maker
        self._outputs = outputs
        self._logger = logger
        self._turn = asyncio.Lock()

    # --- a bounded batch -----------------------------------------------------------------------------------

    async def replay(
        self, wanted: Selection, after: int = 0, until: int | None = None, *, through_pipeline: bool = False
    ) -> Step:
        """Replay some of the letters that are meant, above the number `after` and up to `until`, the oldest first.

        SpoolFullError when there is no room, SpoolError when the commit failed: nothing of this batch was replayed.
        """
        async with self._turn:
            if not self._spool.has_room():
                raise SpoolFullError("the spool is full: dead letters are replayed when it takes events again")
            until = await self._spool.dead_letters.highest() if until is None else until
            numbers, reached = await self._spool.dead_letters.numbers(wanted, after, until, BATCH_LETTERS)
            for attempt in range(_TRIES):
                letters = await self._spool.dead_letters.read(numbers, BATCH_BYTES)
                plan = self._plan(letters, through_pipeline)
                try:
                    await self._commit(plan)
                except LetterGoneError:
                    if attempt == _TRIES - 1:
                        raise
                else:
                    break
            if letters and letters[-1].number != numbers[-1]:
                reached = letters[-1].number
        return Step(len(plan.intake.replayed), len(plan.intake.letters), plan.kept, reached, until)

    async def drop(self, wanted: Selection, after: int = 0, until: int | None = None) -> Step:
        """Delete some of the letters that are meant, as `replay` goes through them."""
        store = self._spool.dead_letters
        until = await store.highest() if until is None else until
        numbers, reached = await store.numbers(wanted, after, until, BATCH_DROPPED)
        gone = await store.drop(numbers) if numbers else []
        return Step(count=len(gone), after=reached, until=until)

    async def _commit(self, plan: _Plan) -> None:
        if not plan.intake.replayed:
            return
        await self._spool.commit(plan.intake)
        for effect in plan.made.effects:
            try:
                effect()
            except Exception:
                self._logger.exception("a metric could not be counted: a fault in mcp-ingest")

    # --- what it becomes -----------------------------------------------------------------------------------

    def problem(self, letter: DeadLetter, *, through_pipeline: bool) -> str | None:
        """Why this letter cannot be replayed; None if it can."""
        if letter.form == "undecodable":
            return "what came in could not be decoded: there is no record to replay"
        if letter.form == "withheld":
            return "its record could not be masked and was not kept"
        if len(letter.event_id) != 28:
            return f"{letter.event_id!r} is no id of an event"
        if not letter.output:
            return None
        kind = self._spool.output_type(letter.output)
        if kind is None:
            return f"the configuration has no output `{letter.output}`"
        if through_pipeline:
            return None if self._maker.pipeline(letter.tag) else f"no pipeline takes the tag {letter.tag!r}"
        if kind != letter.output_type:
            return f"the output `{letter.output}` was of the type {letter.output_type}: replay it through its pipeline"
        return None

    def _plan(self, letters: Sequence[DeadLetter], through_pipeline: bool) -> _Plan:
        plan = _Plan()
        groups: dict[tuple[str, str], list[DeadLetter]] = defaultdict(list)
        for letter in letters:
            why = self.problem(letter, through_pipeline=through_pipeline)
            if why is not None:
                plan.kept.append((letter.number, why))
            elif through_pipeline and letter.output:
                pipeline = self._maker.pipeline(letter.tag)
                groups[letter.output, pipeline.name if pipeline else ""].append(letter)
            else:
                groups[letter.output, letter.pipeline if letter.output else ""].append(letter)
        if arrived := groups.pop(("", ""), []):
            plan.made = self._maker.make_again(batch_of(arrived))
            plan.intake.replayed += [letter.number for letter in arrived]
        for (output, name), members in groups.items():
            if through_pipeline:
                self._through(plan, output, members)
            else:
                _as_they_are(plan.intake, output, name, members)
        return plan

    def _through(self, plan: _Plan, output: str, letters: list[DeadLetter]) -> None:
        """Letters of one output and one pipeline: what the pipeline leaves goes to that output alone.

        Those on which the pipeline fails stay as they are. Its metrics count nothing: they did when it came in.
        """
        pipeline = self._maker.pipeline(letters[0].tag)
        assert pipeline is not None
        batch = pipeline.run(batch_of(letters))
        chunks = chunks_of(pipeline.name, batch, {output: self._outputs[output]})
        removed, rejected = batch.outcome.removed.total(), _by_id(batch.outcome.rejected)
        ledger, replayed = plan.intake.ledger, 0
        for letter in letters:
            failed = rejected.get(letter.event_id)
            if failed is not None:
                plan.kept.append((letter.number, f"its pipeline fails on it: {safe_text(failed.reason)}"))
                continue
            plan.intake.replayed.append(letter.number)
            replayed += 1
        left = sum(len(chunk.tags) for chunk in chunks)
        ledger[OutputKey(output, Term.REPLAYED)] += replayed
        ledger[OutputKey(output, Term.ASSIGNED)] += left + removed - replayed  # what its stages made
        for (_, _, reason), count in batch.outcome.removed.items():
            ledger[OutputKey(output, Term.DROPPED, reason)] += count
        plan.intake.chunks += chunks


def _as_they_are(intake: Intake, output: str, pipeline: str, letters: list[DeadLetter]) -> None:
    """Letters of one output and one pipeline: a chunk for that output, where they were to go."""
    by_urgency: dict[bool, list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        by_urgency[is_urgent(orjson.loads(letter.record))].append(letter)
    for urgent, members in sorted(by_urgency.items()):
        intake.chunks.append(
            NewChunk.of(
                pipeline,
                HIGH if urgent else NORMAL,
                [letter.event_id for letter in members],
                [letter.tag for letter in members],
                [letter.record for letter in members],
                {output: [letter.destination for letter in members]},
            )
        )
    intake.ledger[OutputKey(output, Term.REPLAYED)] += len(letters)
    intake.replayed += [letter.number for letter in letters]


def batch_of(letters: Sequence[DeadLetter]) -> Batch:
    """The events as they are to go through a pipeline: a run for each, with its id, tag, time and receipt."""
    ids = [id_parts(letter.event_id) for letter in letters]
    return Batch(
        [letter.tag for letter in letters],
        [letter.event_time for letter in letters],
        [record_of(letter) for letter in letters],
        [position for _, position in ids],
        [Origin(letter.input, prefix, letter.received) for letter, (prefix, _) in zip(letters, ids, strict=True)],
        [*range(1, len(letters) + 1)],
    )


def record_of(letter: DeadLetter) -> dict[str, Any]:
    """The record as a pipeline takes it: without the two keys that the engine puts before a line."""
    record: dict[str, Any] = orjson.loads(letter.record)
    if letter.output:
        record.pop("@timestamp", None)
        if record.get("tag") == letter.tag:
            del record["tag"]
    return record


def _by_id(rejected: Sequence[Rejected]) -> dict[str, Rejected]:
    return {each.origin.prefix + id_suffixes([each.position])[0]: each for each in rejected}
