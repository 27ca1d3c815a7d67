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
import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mcp_ingest.context import Clock
from mcp_ingest.errors import SpoolError
from mcp_ingest.metrics import COMMIT_SECONDS, COMMITS, Metrics
from mcp_ingest.spool import schema
from mcp_ingest.spool.cache import RecentChunks
from mcp_ingest.spool.files import Ballast, Lock, make_directory, sync_directory
from mcp_ingest.spool.model import (
    Chunk,
    DeadLetter,
    Held,
    Intake,
    Ledger,
    Pending,
    Settlement,
    SpoolSettings,
    Usage,
)
from mcp_ingest.spool.reader import Reader
from mcp_ingest.spool.recovery import Opened, Recovery
from mcp_ingest.spool.transaction import Damage, Writer
from mcp_ingest.spool.truth import Changes, Truth
from mcp_ingest.spool.worker import Job, Result, Worker

Value = TypeVar("Value")


class Spool:
    """One spool folder; `outputs` are the configuration's, name to type."""

    def __init__(
        self,
        settings: SpoolSettings,
        outputs: Mapping[str, str],
        clock: Clock,
        logger: logging.Logger,
        metrics: Metrics,
    ) -> None:
        self.directory = Path(settings.directory)
        self._settings = settings
        self._names = dict(outputs)
        self._clock = clock
        self._logger = logger
        self._seconds = metrics.histogram(COMMIT_SECONDS)
        self._commits = metrics.counter(COMMITS)
        self._lock = Lock(self.directory)
        self._ballast = Ballast(self.directory, settings.ballast_bytes)
        self._truth = Truth()
        self._cache = RecentChunks(0)
        self._news = asyncio.Event()
        self._space = asyncio.Event()
        self._full = False
        self._worker: Worker | None = None
        self._reader: Reader | None = None
        self._uuid = b""

    # --- life ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Take the lock, create or open the database, read what is committed.

        SpoolError when another process has the spool (named by its id), or the folder cannot be used.
        """
        worker = Worker(self, self._clock, self._logger)
        worker.start()
        self._worker = worker
        try:
            await self._call(lambda: self._open(worker))
        except (OSError, SpoolError) as error:
            await self._stop(worker)
            if isinstance(error, SpoolError):
                raise
            raise SpoolError(f"the spool's folder cannot be used: {error}") from error
        self._signal()

    def _open(self, worker: Worker) -> None:
        """In the worker's thread, before anybody else asks for anything."""
        make_directory(self.directory)
        self._lock.take()
        try:
            self._load(worker)
        except BaseException:
            self._lock.give()
            raise

    def _load(self, worker: Worker) -> None:
        recovery = Recovery(self.directory, self._settings, self._names, self._clock, self._logger)
        opened = self._database(recovery)
        self._take(opened)
        sync_directory(self.directory)
        if not self._ballast.take():
            self._logger.warning("there is no room for the spool's ballast in %s", self.directory)
        worker.begin(
            Writer(opened.connection, self._uuid, opened.truth, self._clock.time_ns, opened.sums),
            self._ballast,
            self.directory,
        )

    def _take(self, opened: Opened) -> None:
        self._truth, self._uuid = opened.truth, opened.uuids[-1]
        self._cache = RecentChunks(opened.truth.last)
        self._reader = Reader(opened.connection, frozenset(opened.uuids))

    def _database(self, recovery: Recovery) -> Opened:
        """The database with what it holds; on a full disk the ballast goes."""
        try:
            return recovery.open()
        except sqlite3.Error as error:
            if not schema.is_disk(error):
                raise SpoolError(f"the spool in {self.directory} cannot be opened: {error}") from error
            self._ballast.release()
        try:
            return recovery.open()
        except sqlite3.Error as error:
            raise SpoolError(f"the spool in {self.directory} cannot be opened: {error}") from error

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
        await self._put(settlement)

    def _put(self, work: Intake | Settlement | Damage | Callable[[], Any]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._worker is None:
            future.set_exception(SpoolError("the spool is closed"))
        else:
            self._worker.put(Job(work, future))
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
            self._seconds.observe(changes.seconds)
            self._commits.inc()
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

    def _signal(self) -> None:
        if self.has_room():
            self._space.set()
        else:
            self._space.clear()

    # --- what is committed ---------------------------------------------------------------------------------

    @property
    def uuid(self) -> bytes:
        """16 bytes that name this database; with a chunk's number the chunk's name."""
        return self._uuid

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
        return Held(state.events, state.oldest)

    def usage(self) -> Usage:
        """How full the spool is."""
        return self._truth.usage(self._settings.max_bytes)

    def backlog_of_removed_outputs(self) -> dict[str, Held]:
        """What is owed to outputs that the configuration no longer has, by `name (type)`."""
        return self._truth.removed()

    # --- waiting -------------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether an intake may be committed: used pages below the limit, and the disk not full."""
        return not self._full and self._truth.space.used < self._settings.max_bytes

    async def room(self) -> None:
        """Wait until there is room; the policy `block` is to await this before each commit."""
        while not self.has_room():
            await self._space.wait()

    async def news(self, output: str, after: int) -> int:
        """Wait for a chunk numbered above `after` that names the output; the highest such number."""
        while self._truth.output(output).last <= after:
            await self._news.wait()
        return self._truth.output(output).last

    # --- reading -------------------------------------------------------------------------------------------

    async def fresh(self, output: str, after: int, max_bytes: int) -> list[Chunk]:
        """The chunks numbered above `after` that name the output, in order: one at least if there is any, then
        up to so many bytes of lines. Those committed lately come from memory; they are shared: do not change them.
        """
        state = self._truth.output(output)
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

    async def _quarantine(self, damage: Damage) -> None:
        self._logger.error("%s; it is set aside and counted as lost", damage.why)
        await self._put(damage)

    async def pending(self, output: str) -> list[Pending]:
        """What the output owes of chunks that its mark has passed, oldest chunk first."""
        number = self._truth.ids[output]
        return await self._call(lambda: self._open_reader.pending(output, number))

    async def letters(
        self, limit: int, before: int | None = None, output: str | None = None, pipeline: str | None = None
    ) -> list[DeadLetter]:
        """Dead letters, the newest first, numbered below `before`; of one output or pipeline if so asked."""
        return await self._call(lambda: self._open_reader.letters(limit, before, output, pipeline))

    async def letter(self, number: int) -> DeadLetter | None:
        """One dead letter."""
        return await self._call(lambda: self._open_reader.letter(number))

    @property
    def _open_reader(self) -> Reader:
        if self._reader is None:
            raise SpoolError("the spool is not open")
        return self._reader
