"""From the inputs' emits to one durable commit.

Emits that wait are taken together, without a timer: a turn begins as soon as no commit is under way or enough
events wait. `emit` returns when the commit is durable. A forward chunk that was taken before, or that is in flight,
is answered with that result and counted as deduplicated; the other chunks of its emit do not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

from mcp_ingest.component import Emit
from mcp_ingest.engine import letters
from mcp_ingest.engine.intake import IntakeMaker
from mcp_ingest.errors import SpoolError, SpoolFullError, StreamBrokenError
from mcp_ingest.event import Batch, Chunk, Progress, describe
from mcp_ingest.metrics import RECEIVED_BYTES, REFUSED_EVENTS, Metrics
from mcp_ingest.spool import Spool

#: Events that start a turn although a commit is under way, and the most that one turn takes: large enough that the
#: cost of a turn does not show, small enough that a turn does not hold up the event loop for long.
TURN_EVENTS = 2000
#: Commits under way at once: the chain works on the next while the disk is busy with these.
COMMITS = 4
#: Rounds of the event loop before a turn, so that the acks of the commit that ended leave first and not after it, and
#: what has come meanwhile is read and taken along.
_ACKS_FIRST = 2


@dataclass(slots=True)
class _Waiting:
    input: str
    batch: Batch
    progress: Progress
    done: asyncio.Future[None]
    waits: bool  # for room, where others are refused


class Ingest:
    """Where all inputs emit to. `run` is the one task that makes turns; it ends by `drain`."""

    def __init__(self, maker: IntakeMaker, spool: Spool, metrics: Metrics, logger: logging.Logger) -> None:
        self._logger = logger
        self._maker = maker
        self._spool = spool
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._events = 0
        self._commits: set[asyncio.Future[list[int]]] = set()
        self._pulling = set[str]()  # inputs whose emits wait for room where others are refused
        self._chunks: dict[Chunk, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._draining = self._paused = False
        self._leaving = asyncio.Event()

    def emit_for(self, name: str, *, pulls: bool = False) -> Emit:
        """The `emit` of the input of this name; `pulls` as in `Input`."""
        (self._pulling.add if pulls else self._pulling.discard)(name)

        async def emit(batch: Batch, progress: Progress | None = None) -> None:
            await self._emit(name, batch, progress or Progress())

        return emit

    def takes(self, tag: str) -> bool:
        """Whether a pipeline takes this tag."""
        return self._maker.takes(tag)

    async def run(self) -> None:
        """Make turns until `drain`, then return once everything that was emitted is committed or has failed."""
        while True:
            while not self._due():
                if self._draining and not self._waiting and not self._commits:
                    return
                self._wake.clear()
                await self._wake.wait()
            for _ in range(_ACKS_FIRST):
                await asyncio.sleep(0)
            if await self._room() and not self._paused:
                self._turn()

    @contextlib.asynccontextmanager
    async def between_turns(self) -> AsyncIterator[None]:
        """No turn is made and no commit is under way for the length of the block; what is emitted waits."""
        self._paused = True
        try:
            while self._commits:
                await asyncio.wait(self._commits)
            yield
        finally:
            self._paused = False
            self._wake.set()

    def refuse(self, inputs: Collection[str], why: str) -> None:
        """Answer what still waits of these inputs with an error: nothing of it was taken."""
        self._refuse([waiting for waiting in self._waiting if waiting.input in inputs], why)

    def wait_no_more(self) -> None:
        """From now on a full spool refuses instead of blocking: the daemon wants to stop."""
        self._leaving.set()

    def drain(self) -> None:
        """Let `run` end when nothing waits any more; inputs have stopped by now."""
        self._draining = True
        self._wake.set()

    # --- one emit ---

    async def _emit(self, name: str, batch: Batch, progress: Progress) -> None:
        if progress.stream is not None and progress.stream.failed is not None:
            raise StreamBrokenError(f"an earlier emit failed: {progress.stream.failed}")
        if not progress.chunks:
            await self._enqueue(name, batch, progress)
            return
        others = dict[int, asyncio.Future[None]]()
        if not self._chunks.keys().isdisjoint(progress.chunks):
            others = {n: self._chunks[chunk] for n, chunk in enumerate(progress.chunks) if chunk in self._chunks}
        if not others:
            # It is in flight until its commit, also when nobody waits for it any more.
            await asyncio.shield(self._enqueue_chunks(name, batch, progress))
        elif len(others) == len(progress.chunks):
            await asyncio.wait(set(others.values()))
            await self._emit(name, batch, progress)
        else:
            late_batch, late = _parted(batch, progress, others)
            first = self._enqueue_chunks(name, batch, progress)
            await asyncio.gather(asyncio.shield(first), self._emit(name, late_batch, late))

    def _enqueue_chunks(self, name: str, batch: Batch, progress: Progress) -> asyncio.Future[None]:
        """None of these chunks is in flight; those that were taken before are only counted."""
        if taken := self._maker.taken_before(progress.chunks):
            self._maker.deduplicate(name, batch, _runs(batch, progress, taken))
            kept = [chunk for n, chunk in enumerate(progress.chunks) if n not in taken]
            progress = Progress(progress.stream, progress.positions, kept)
        chunks, done = progress.chunks, self._enqueue(name, batch, progress)
        self._chunks.update(dict.fromkeys(chunks, done))
        done.add_done_callback(lambda _: deque(map(self._chunks.pop, chunks), maxlen=0))
        return done

    def _enqueue(self, name: str, batch: Batch, progress: Progress) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(name, batch, progress, done, name in self._pulling))
        self._events += len(batch)
        self._wake.set()
        return done

    # --- one turn ---

    async def _room(self) -> bool:
        """Wait until the spool takes events; False if what waited was refused instead, or more came that is to be."""
        if self._spool.has_room():
            return True
        why = self._spool.why_full() or "the spool is full"
        if self._spool.rejects:
            self._refuse([waiting for waiting in self._waiting if not waiting.waits], why)
            if not self._waiting:
                return False
        self._wake.clear()
        async with asyncio.TaskGroup() as group:
            waits = {group.create_task(self._spool.room()), group.create_task(self._leaving.wait())}
            if self._spool.rejects:
                waits.add(group.create_task(self._wake.wait()))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if self._spool.has_room():
            return True
        if self._leaving.is_set():
            self._refuse(list(self._waiting), f"{why} and the daemon stops")
        return False

    def _refuse(self, refused: list[_Waiting], why: str) -> None:
        for waiting in refused:
            self._events -= len(waiting.batch)
            self._metrics.counter(REFUSED_EVENTS, input=waiting.input).inc(len(waiting.batch))
        gone = set(map(id, refused))
        self._waiting = deque(waiting for waiting in self._waiting if id(waiting) not in gone)
        _answer(refused, SpoolFullError(why))

    def _due(self) -> bool:
        if not self._waiting or self._paused:
            return False
        return not self._commits or (self._events >= TURN_EVENTS and len(self._commits) < COMMITS)

    def _turn(self) -> None:
        group = self._take()
        if not group:  # broken streams alone
            return
        try:
            made = self._maker.make([(w.input, w.batch, w.progress) for w in group])
        except Exception as error:  # a fault of ours: these senders hear of it, the others go on
            self._logger.exception("events could not be taken in: a fault in mcp-ingest")
            why = letters.safe_text(describe(error))
            _answer(group, SpoolError(f"the events could not be taken in: {why}"))
            return
        for waiting in group:  # freed now, not after the commit: the next events come to memory that is in the cache
            waiting.batch.records = []
        commit = self._spool.submit(made.intake)
        self._commits.add(commit)

        def committed(commit: asyncio.Future[list[int]]) -> None:
            self._commits.discard(commit)
            self._wake.set()
            error = asyncio.CancelledError() if commit.cancelled() else commit.exception()
            if error is None:
                self._count(group, made.effects)
            _answer(group, error)

        commit.add_done_callback(committed)

    def _count(self, group: list[_Waiting], effects: list[Callable[[], None]]) -> None:
        """What a commit made true is counted; one that raises must not keep the senders from hearing of it."""
        for waiting in group:
            if waiting.batch.size:
                self._metrics.counter(RECEIVED_BYTES, input=waiting.input).inc(waiting.batch.size)
        for effect in effects:
            try:
                effect()
            except Exception:
                self._logger.exception("a metric could not be counted: a fault in mcp-ingest")

    def _take(self) -> list[_Waiting]:
        """What one turn takes: whole emits, up to `TURN_EVENTS`, at least one; broken streams are refused."""
        group: list[_Waiting] = []
        count = 0
        while self._waiting and (not group or count + len(self._waiting[0].batch) <= TURN_EVENTS):
            waiting = self._waiting.popleft()
            self._events -= len(waiting.batch)
            stream = waiting.progress.stream
            if stream is not None and stream.failed is not None:
                _answer([waiting], StreamBrokenError(f"an earlier emit failed: {stream.failed}"))
                continue
            count += len(waiting.batch)
            group.append(waiting)
        return group


def _runs(batch: Batch, progress: Progress, places: Collection[int]) -> Collection[int]:
    """The runs of the chunks at these places: a chunk alone has all."""
    return range(len(batch.origins)) if len(progress.chunks) == 1 else places


def _parted(batch: Batch, progress: Progress, places: Collection[int]) -> tuple[Batch, Progress]:
    """Take the chunks at these places, not all of them, out of both; the positions go with them, who come last."""
    chunks = progress.chunks
    late = Progress(progress.stream, progress.positions, [chunks[place] for place in places])
    progress.positions = {}
    progress.chunks = [chunk for place, chunk in enumerate(chunks) if place not in places]
    return batch.take_runs(places), late


def _answer(group: list[_Waiting], error: BaseException | None) -> None:
    """Resolve the emits of a group; after an error their streams take nothing more."""
    for waiting in group:
        if error is not None and waiting.progress.stream is not None:
            waiting.progress.stream.failed = waiting.progress.stream.failed or error
        if waiting.done.done():
            continue
        if error is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(error)
