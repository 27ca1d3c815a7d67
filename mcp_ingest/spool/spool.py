"""`Spool`: the durable middle between pipelines and outputs, as the event loop sees it.

What it promises:

- `commit` returns when all of an intake is durable: chunks, positions, digests of chunk ids, dead letters and
  counters are one SQLite transaction in a write-ahead log that was fsynced. If it raises, none of it is.
- What can be asked without awaiting (positions, marks, ledger, what is held) is what is committed, never more.
- `settle` works on a full disk. A chunk goes in the commit in which its last output settles it.
- A chunk that cannot be read any more is set aside and counted as lost, the others go on; a database that cannot
  be opened is moved to a folder of its own and a new one begun.

All SQLite is in one thread with one connection (`worker.py`); the tables are in `schema.py`, the blob of a chunk
in `chunk.py`. `python perf/spool.py` said, on two cores that others used as well and a disk that syncs in 0.2 ms
(CPU of the whole process, in and out again with an output that keeps up):

    1,000 events of 488 bytes an intake, eight waiting   1.6 us an event: encoding 0.9, SQLite 0.5
    the same, alone                                      2.2 us, a commit p50 2.6 ms
    a backlog of them read back and settled              1.3 us
    one event an intake, a hundred waiting               51 us, p50 5.3 ms
    one event an intake, alone                           480 us for its commit and its settlement, p50 0.6 ms
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import logging
import sqlite3
from array import array
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mcp_ingest.context import Clock
from mcp_ingest.errors import SpoolDiskError, SpoolError, SpoolRenewedError
from mcp_ingest.metrics import COMMIT_SECONDS, COMMITS, SPOOL_DAMAGE, Metrics
from mcp_ingest.spool import schema
from mcp_ingest.spool.aside import Notice, notices
from mcp_ingest.spool.cache import RecentChunks
from mcp_ingest.spool.care import Care, memory
from mcp_ingest.spool.files import Ballast, Lock, cannot_use, make_directory, probe, sync_directory
from mcp_ingest.spool.letter_reader import LetterReader
from mcp_ingest.spool.letter_store import LetterStore
from mcp_ingest.spool.letters import LetterBounds
from mcp_ingest.spool.model import (
    Chunk,
    Held,
    Intake,
    Ledger,
    Pending,
    Removal,
    Settlement,
    SpoolSettings,
    Usage,
)
from mcp_ingest.spool.moving import Owed, owed_by
from mcp_ingest.spool.overflow import BY_HAND, LOW_WATER, Bound, Cut, Drop, Dropped, InHand, bounding, cuts, why_full
from mcp_ingest.spool.reader import Reader
from mcp_ingest.spool.recovery import Opened, Recovery
from mcp_ingest.spool.salvage import Known
from mcp_ingest.spool.sums import Sums
from mcp_ingest.spool.transaction import Damage, Writer
from mcp_ingest.spool.truth import Changes, OutputState, Truth
from mcp_ingest.spool.worker import Job, Result, Worker

Value = TypeVar("Value")

#: Seconds between two attempts to open a spool whose disk refuses; after so many of them a database of which parts
#: cannot be read is taken for damaged.
DISK_SECONDS = 2.0
PATIENCE = 5


class Spool:
    """One spool folder; `outputs` are the configuration's, name to type."""

    def __init__(
        self,
        settings: SpoolSettings,
        outputs: Mapping[str, str],
        clock: Clock,
        logger: logging.Logger,
        metrics: Metrics,
        bounds: Mapping[str, Bound] | None = None,
    ) -> None:
        """`bounds` are what the configuration says of the outputs' backlogs, by name."""
        self.directory = Path(settings.directory)
        self._settings = settings
        self._names = dict(outputs)
        self._clock = clock
        self._logger = logger
        self._seconds = metrics.histogram(COMMIT_SECONDS)
        self._commits = metrics.counter(COMMITS)
        self._metrics = metrics
        self._lock = Lock(self.directory)
        self._ballast = Ballast(self.directory, settings.ballast_bytes)
        self._truth = Truth()
        self._cache = RecentChunks(0)
        self._news = asyncio.Event()
        self._space = asyncio.Event()
        self._over = asyncio.Event()
        self._bounds = bounding(bounds or {})
        self._full = self._said_full = False
        self._stuck = ""
        self._epoch = 0  # how often there was another database
        self._stale: set[str] = set()  # outputs whose deliveries still go by the database before this one
        self._notices: list[Notice] = []
        self._notices_of_start: list[Notice] = []
        self._worker: Worker | None = None
        self._reader: Reader | None = None
        self._writer: Writer | None = None  # the thread's
        self._letter_reader: LetterReader | None = None
        self._uuids = [b""]
        self._loop: asyncio.AbstractEventLoop | None = None
        self.dead_letters = LetterStore(
            self._call, self._put, lambda: self._open_letter_reader, LetterBounds.of(settings), clock, logger
        )

    # --- life ----------------------------------------------------------------------------------------------

    async def open(self, leaving: asyncio.Event | None = None) -> None:
        """Take the lock, create or open the database, read what is committed; wait while the disk refuses.

        SpoolError when another process has the spool (named by its id), or the folder cannot be used, or when
        `leaving` was set while the disk refused.
        """
        self._loop = asyncio.get_running_loop()
        worker = Worker(self, self._clock, self._logger)
        worker.start()
        self._worker = worker
        try:
            for attempt in itertools.count(1):
                try:
                    await self._call(partial(self._open, worker, attempt))
                    break
                except SpoolDiskError as error:
                    self._wait_for_disk(str(error))
                    if leaving is not None and leaving.is_set():
                        raise
                await asyncio.sleep(DISK_SECONDS)
        except BaseException:
            await self._stop(worker)
            raise
        if self._stuck:
            self._logger.warning("the spool in %s is open now", self.directory)
        self._stuck = ""
        self._damages(self._notices_of_start)
        self._signal()

    def _wait_for_disk(self, why: str) -> None:
        if not self._stuck:
            self._logger.error("%s: it is tried again every %g s, and inputs wait until then", why, DISK_SECONDS)
        self._stuck = why

    def _open(self, worker: Worker, attempt: int) -> None:
        """In the worker's thread, before anybody else asks for anything."""
        try:
            make_directory(self.directory)
            self._lock.take()
        except OSError as error:
            raise cannot_use(error) from error
        try:
            self._load(worker, attempt)
        except OSError as error:
            self._lock.give()
            raise cannot_use(error) from error
        except BaseException:
            self._lock.give()
            raise

    def _load(self, worker: Worker, attempt: int) -> None:
        recovery = Recovery(self.directory, self._settings, self._names, self._clock, self._logger)
        opened = self._database(recovery, patient=attempt <= PATIENCE)
        self._take(opened)
        self._notices_of_start = opened.notices
        sync_directory(self.directory)
        if not self._ballast.take():
            self._logger.warning("there is no room for the spool's ballast in %s", self.directory)
        self._notices = notices(self.directory)
        worker.begin(
            self._new_writer(opened), self._ballast, Care(self.directory, recovery, self._memory, self._logger)
        )

    def _new_writer(self, opened: Opened) -> Writer:
        bounds = self.dead_letters.bounds
        self._writer = Writer(
            opened.connection, opened.uuids[-1], opened.truth, self._clock.time_ns, bounds, opened.sums
        )
        return self._writer

    def _take(self, opened: Opened) -> None:
        self._truth, self._uuids = opened.truth, opened.uuids
        self._cache = RecentChunks(opened.truth.last)
        self._reader = Reader(opened.connection, frozenset(opened.uuids))
        self._letter_reader = LetterReader(opened.connection)

    def _database(self, recovery: Recovery, *, patient: bool) -> Opened:
        """The database with what it holds; on a full disk the ballast goes."""
        try:
            return recovery.open(patient=patient)
        except sqlite3.Error as error:
            if not schema.is_disk(error):
                raise SpoolError(f"the spool in {self.directory} cannot be opened: {error}") from error
            if schema.is_full(error):
                self._ballast.release()
        try:
            return recovery.open(patient=patient)
        except sqlite3.Error as error:
            if not schema.is_disk(error):
                raise SpoolError(f"the spool in {self.directory} cannot be opened: {error}") from error
            probe(self.directory)
            raise SpoolDiskError(f"the spool in {self.directory} cannot be opened: {error}") from error

    async def close(self) -> None:
        """Wait for what was submitted, write the log into the database, let go of the lock."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await self._stop(worker)
            await asyncio.sleep(0)  # let the last results arrive
            self._lock.give()

    async def _stop(self, worker: Worker) -> None:
        self._worker = None
        worker.stop()
        await asyncio.get_running_loop().run_in_executor(None, worker.join)

    # --- writing -------------------------------------------------------------------------------------------

    async def commit(self, intake: Intake) -> list[int]:
        """Make an intake durable; the numbers of its chunks. SpoolError: nothing of it is, SpoolFullError: no room.

        Cancelled, it may still commit.
        """
        numbers: list[int] = await self.submit(intake)
        return numbers

    def submit(self, intake: Intake) -> asyncio.Future[list[int]]:
        """The same without waiting; futures are resolved in the order of submission."""
        return self._put(intake)

    async def settle(self, settlement: Settlement) -> None:
        """Record what became of a request; chunks that nobody owes any more go in the same transaction."""
        self._begun(settlement.output)
        await self._put(settlement)

    async def drop(self, cut: Cut, in_hand: Mapping[str, InHand]) -> Dropped:
        """Let go of a slice of the cut, in one transaction with its counters; empty when nothing may go now.

        `in_hand` are the chunks of which each output's delivery holds events. No delivery may take anything from the
        spool meanwhile.
        """
        held = {self._truth.ids[name]: each for name, each in in_hand.items()}
        dropped: Dropped = await self._put(Drop(cut, held))
        return dropped

    async def drop_backlog(self, name: str) -> int:
        """Let go of all that a removed output owes, by its `name (type)`; how many events that were.

        SpoolError when it is no removed output with a backlog.
        """
        state = self._truth.removed_state(name)
        if state is None:
            raise SpoolError(f"there is no backlog of a removed output {name!r}")
        events = 0
        while state.bytes:
            dropped = await self.drop(Cut([{state.id: BY_HAND}], state.bytes, frees=False), {})
            if not dropped.size:
                raise SpoolError(f"nothing more of {name} can be let go, though it owes {state.events} events")
            events += dropped.events
        return events

    async def backlog(self, name: str, max_bytes: int) -> tuple[int, list[Owed]]:
        """The id of a removed output, given as `name (type)`, and what it owes, oldest first, some bytes of it.

        SpoolError when there is no such output.
        """
        state = self._truth.removed_state(name)
        if state is None:
            raise SpoolError(f"there is no backlog of a removed output {name!r}")
        owed, damages = await self._call(lambda: owed_by(self._open_reader, state, max_bytes))
        for damage in damages:
            await self._quarantine(damage)
        return state.id, owed

    def _put(self, work: Intake | Settlement | Damage | Removal | Drop | Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._worker is None:
            future.set_exception(SpoolError("the spool is closed"))
        else:
            self._worker.put(Job(work, future, self._epoch))
        return future

    async def _call(self, function: Callable[[], Value]) -> Value:
        result: Value = await self._put(function)
        return result

    def finished(self, results: list[Result], changes: Changes | None) -> None:
        """The worker's: a group is durable (or failed, without changes)."""
        if changes is not None:
            self._truth.apply(changes)
            self._cache.add(changes.chunks)
            self._cache.drop(changes.gone)
            for output, numbers in changes.forgotten.items():
                self._cache.forget(output, numbers)
            self._seconds.observe(changes.seconds)
            self._commits.inc()
            if changes.expired:
                self.dead_letters.expired(changes.expired)
        for future, value, error in results:
            if future.done():  # cancelled meanwhile
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        if changes is not None:
            self._signal()
            if changes.chunks:
                self._news.set()
                self._news = asyncio.Event()

    def disk(self, full: bool) -> None:
        """The worker's: the disk became full, or has room again."""
        self._full = full
        self._signal()

    def stuck(self, why: str) -> None:
        """The worker's: the disk refuses, and why; or it takes something again."""
        self._stuck = why
        self._signal()

    def reconnected(self, connection: sqlite3.Connection) -> None:
        """The worker's, in its thread: the files are new ones with the same content."""
        self._open_reader.connection = connection
        self._letter_reader = LetterReader(connection)

    def renewed(self, opened: Opened) -> Writer:
        """The worker's, in its thread: what could be read of a damaged database is in a new one."""
        assert self._loop is not None
        self._reader = Reader(opened.connection, frozenset(opened.uuids))
        self._letter_reader = LetterReader(opened.connection)
        self._loop.call_soon_threadsafe(self._begin_anew, opened)
        return self._new_writer(opened)

    def _begin_anew(self, opened: Opened) -> None:
        self._take(opened)
        self._epoch += 1
        self._stale = set(self._names)
        self._notices += opened.notices
        self._damages(opened.notices)
        self._signal()
        self._news.set()
        self._news = asyncio.Event()

    def _damages(self, found: list[Notice]) -> None:
        for notice in found:
            self._metrics.counter(SPOOL_DAMAGE, kind=notice.kind).inc()

    def _memory(self) -> tuple[Known, Sums]:
        """What is committed; called in the worker's thread, answered by the loop behind all that it was told before."""
        assert self._loop is not None
        answer: concurrent.futures.Future[tuple[Known, Sums]] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(lambda: answer.set_result(memory(self._truth, self._uuids)))
        return answer.result()

    def _signal(self) -> None:
        why = self.why_full()
        (self._space.clear if why else self._space.set)()
        (self._over.set if self.cuts() else self._over.clear)()
        if why or self._said_full:
            self._say(why)

    def _say(self, why: str | None) -> None:
        """One line when nothing more is taken and one when there is room again, not at each commit about the limit."""
        if why and not self._said_full and not self._over.is_set() and not self._full and not self._stuck:
            self._said_full = True
            what = "events are refused" if self._settings.when_full == "reject" else "inputs wait"
            self._logger.warning("%s: %s until something is delivered", why, what)
        elif not why and self._said_full and self._truth.space.used < LOW_WATER * self._settings.max_bytes:
            self._said_full = False
            self._logger.info("the spool takes events again")

    # --- what is committed ---------------------------------------------------------------------------------

    @property
    def uuid(self) -> bytes:
        """16 bytes that name this database; with a chunk's number the chunk's name."""
        return self._uuids[-1]

    def positions(self, prefix: str) -> dict[str, bytes]:
        """The committed positions whose key begins so."""
        return {key: value for key, value in self._truth.positions.items() if key.startswith(prefix)}

    def position(self, key: str) -> bytes | None:
        """One committed position, without looking through all of them."""
        return self._truth.positions.get(key)

    def seen(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of these digests whose forward chunks were committed, as far back as the spool remembers."""
        return self._truth.seen.among(digests)

    def ledger(self) -> Ledger:
        """The committed sums: a copy."""
        return self._truth.ledger.copy()

    def mark(self, output: str) -> int:
        """Every chunk up to this number is settled for the output, but for its pending rows."""
        return self._truth.output(output).mark

    def held(self, output: str) -> Held:
        """What the output owes: events above its mark and pending ones."""
        state = self._truth.output(output)
        return Held(state.events, state.oldest, state.bytes)

    def names(self) -> dict[int, str]:
        """The outputs of the configuration by the id that a `Cut` has for them."""
        return {number: name for name, number in self._truth.ids.items()}

    def cuts(self) -> list[Cut]:
        """What may be let go because something is over a bound: the spool, its disk, an output's backlog."""
        wants = max(2 * self._settings.ballast_bytes, self._truth.space.used // 16) if self._full else 0
        return cuts(self._truth, self._settings, self._bounds, wants)

    def output_type(self, output: str) -> str | None:
        """The type of an output of the configuration; None for a name that it does not have."""
        number = self._truth.ids.get(output)
        return None if number is None else self._truth.outputs[number].type

    def usage(self) -> Usage:
        """How full the spool is."""
        return self._truth.usage(self._settings.max_bytes)

    def backlog_of_removed_outputs(self) -> dict[str, Held]:
        """What is owed to outputs that the configuration no longer has, by `name (type)`."""
        return self._truth.removed()

    # --- another configuration -----------------------------------------------------------------------------

    async def register(self, outputs: Mapping[str, str]) -> dict[str, int]:
        """The numbers of these outputs (name to type) in the database, in which each has its place from now on.

        SpoolError when the disk takes no new one.
        """
        ids, new = await self._call(lambda: self._open_writer.register(outputs))
        self._truth.outputs.update({state.id: state for state in new})
        return ids

    async def take(self, settings: SpoolSettings, ids: dict[str, int], bounds: Mapping[str, Bound]) -> None:
        """These are the configuration's outputs from now on, by what `register` gave, and these its settings.

        No commit may be under way, and nobody deliver for an output of which another has the name. What is new begins
        with the next commit.
        """
        truth = self._truth
        states = [truth.outputs[number] for number in ids.values() if number not in truth.ids.values()]
        marks = {state.id: truth.last for state in states if not state.events}
        letter_bounds = self.dead_letters.bounds = LetterBounds.of(settings)
        await self._call(lambda: self._open_writer.take(ids, marks, letter_bounds))
        for number, mark in marks.items():
            truth.outputs[number].mark = mark
        if ids != self._truth.ids:
            self._cache = RecentChunks(self._truth.last)  # it knows outputs by their names alone
        self._truth.ids = ids
        self._names.clear()  # in place: a recovery goes by it
        self._names.update({name: truth.outputs[number].type for name, number in ids.items()})
        self._settings = settings
        self._bounds = bounding(bounds)
        self._signal()

    def trouble(self) -> str:
        """Why nothing can be written for now; empty while it can."""
        return self._stuck

    def notices(self) -> list[Notice]:
        """What was damaged, as far as the folders with what was set aside are still there."""
        return [notice for notice in self._notices if Path(notice.folder).exists()]

    # --- waiting -------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether an intake may be committed: the disk is not full, and no bound is reached that `when_full` is for."""
        return self.why_full() is None

    def why_full(self) -> str | None:
        """Why no intake may be committed now, None when it may."""
        if self._stuck:
            return f"the disk of the spool refuses: {self._stuck}"
        return "the spool is full" if self._full else why_full(self._truth, self._settings, self._bounds)

    @property
    def rejects(self) -> bool:
        """Whether a full spool refuses events (`when_full: reject`) rather than letting their senders wait."""
        return self._settings.when_full == "reject"

    async def room(self) -> None:
        """Wait until there is room."""
        while not self.has_room():
            await self._space.wait()

    async def overflow(self) -> list[Cut]:
        """Wait until something may be let go because it is over a bound; what."""
        while not (found := self.cuts()):
            await self._over.wait()
        return found

    async def news(self, output: str, after: int) -> int:
        """Wait for a chunk numbered above `after` that names the output; the highest such number."""
        while self._state(output).last <= after:
            await self._news.wait()
        return self._truth.output(output).last

    # --- reading -------------------------------------------------------------------------------------------

    async def fresh(self, output: str, after: int, max_bytes: int) -> list[Chunk]:
        """The chunks numbered above `after` that name the output, in order: one at least if there is any, then
        up to so many bytes of lines. Those committed lately come from memory; they are shared: do not change them.
        """
        state = self._state(output)
        after = max(after, state.mark)
        if state.last <= after:
            return []
        if after >= self._cache.floor:
            return self._cache.fresh(output, after, max_bytes)
        chunks, damages = await self._call(lambda: self._open_reader.fresh(state.id, after, max_bytes))
        for damage in damages:
            await self._quarantine(damage)
        return chunks

    async def chunk(self, number: int) -> Chunk | None:
        """The chunk, or None when it is gone (or went, for damage)."""
        cached = self._cache.get(number)
        if cached is not None:
            return cached
        found = await self._call(lambda: self._open_reader.chunk(number))
        if isinstance(found, Damage):
            await self._quarantine(found)
            return None
        return found

    def _state(self, output: str) -> OutputState:
        """The state of an output whose delivery goes by this database; SpoolRenewedError until it has begun anew."""
        self._begun(output)
        return self._truth.output(output)

    def _begun(self, output: str) -> None:
        if output in self._stale:
            raise SpoolRenewedError("the spool has a new database")

    async def _quarantine(self, damage: Damage) -> None:
        self._logger.error("%s; it is set aside and counted as lost", damage.why)
        self._metrics.counter(SPOOL_DAMAGE, kind="chunk").inc()
        await self._put(damage)

    async def quarantine(self, number: int, why: str) -> None:
        """Set a chunk aside that cannot be used though its checksum is right; what is owed of it is lost."""
        await self._quarantine(Damage(number, why))

    async def pending(self, output: str, chunk: int | None = None) -> list[Pending]:
        """What the output owes of chunks that its mark has passed, oldest chunk first; of one chunk if so asked."""
        number = self._truth.ids[output]
        return await self._call(lambda: self._open_reader.pending(output, number, chunk))

    async def resting(self, output: str) -> dict[str, array[int]]:
        """The numbers of the chunks of which the output has pending rows, by destination, oldest first.

        Whoever asks begins with what is committed: after a salvage nothing else is answered before.
        """
        self._stale.discard(output)
        number = self._truth.ids[output]
        return await self._call(lambda: self._open_reader.resting(number))

    async def look(self, question: Callable[[Reader], Value]) -> Value:
        """The answer to a question to the database, asked in its thread: commits wait meanwhile."""
        return await self._call(lambda: question(self._open_reader))

    @property
    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise SpoolError("the spool is not open")
        return self._writer

    @property
    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise SpoolError("the spool is not open")
        return self._reader

    @property
    def _open_letter_reader(self) -> LetterReader:
        if self._letter_reader is None:
            raise SpoolError("the spool is not open")
        return self._letter_reader
