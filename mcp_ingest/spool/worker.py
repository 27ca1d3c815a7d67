"""The spool's thread: it owns the connection, shares commits, and rests when there is nothing to do.

All that waits when a commit returns goes into the next one, so that a commit starts as soon as the disk is free
and never waits for a timer: latency is one commit when it is quiet, and groups grow when it is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mcp_ingest.context import Clock
from mcp_ingest.errors import SpoolError, SpoolFullError, SpoolRenewedError
from mcp_ingest.event import describe
from mcp_ingest.spool import schema
from mcp_ingest.spool.care import Care
from mcp_ingest.spool.files import Ballast
from mcp_ingest.spool.model import Intake, Removal, Settlement
from mcp_ingest.spool.overflow import Drop
from mcp_ingest.spool.recovery import Opened
from mcp_ingest.spool.transaction import Damage, Prepared, Work, Writer
from mcp_ingest.spool.truth import Changes

GROUP_BYTES = 32 * 2**20  # of entries in one commit, so that its neighbours do not wait for seconds
GROUP_JOBS = 4096
COMMIT_BYTES = 24 * 1024  # what a small commit writes beside its chunks: six pages
VACUUM_PAGES = 1024
REST_SECONDS = 1.0
#: How long settlements wait for an intake to share a commit with: an event more or less that is sent again after a
#: crash is found to be there by its id, and each commit costs 0.3 ms of CPU and a write to the disk.
SETTLE_SECONDS = 0.05

Future = asyncio.Future[Any]
Result = tuple[Future, Any, BaseException | None]


@dataclass(slots=True)
class Job:
    """Something for the thread: a group's member to write, or a function to call; the future gets the result."""

    work: Intake | Settlement | Damage | Removal | Drop | Callable[[], Any]
    future: Future
    epoch: int = 0  # of the database that it was made for: there is a new one after a salvage


class Audience(Protocol):
    """Who hears in the event loop what the thread has done."""

    def finished(self, results: list[Result], changes: Changes | None) -> None:
        """A group is durable, or failed (no changes), or reads are done."""

    def disk(self, full: bool) -> None:
        """The disk became full, or has room again."""

    def stuck(self, why: str) -> None:
        """The disk refuses, and why; or it takes something again (empty)."""

    def reconnected(self, connection: sqlite3.Connection) -> None:
        """In the thread: there is another connection to the same database."""

    def renewed(self, opened: Opened) -> Writer:
        """In the thread: there is another database; who writes it."""


class Worker:
    """One thread; `begin` lets it write, once the database is open."""

    def __init__(self, audience: Audience, clock: Clock, logger: logging.Logger) -> None:
        self._audience = audience
        self._clock = clock
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopping = False
        self._restless = False
        self._full = False
        self._stuck = ""
        self._epoch = 0
        self._writer: Writer | None = None
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self, writer: Writer, ballast: Ballast, care: Care) -> None:
        """The database is open (called in the thread)."""
        self._writer = writer
        self._ballast = ballast
        self._care = care
        self._quiet_bytes = schema.log_bytes(ballast.size) // 2
        self._restless = True
        if not self._has_reserve(self._ballast.size):
            self._is_full()

    def put(self, job: Job) -> None:
        """Hand something in; jobs that write are committed in this order."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End after everything handed in before."""
        self._jobs.put(None)

    def join(self) -> None:
        """Wait for the end of the thread (blocks)."""
        self._thread.join()

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            jobs = self._take()
            try:
                if jobs:
                    self._serve(jobs)
                elif not self._stopping:
                    self._rest()
            except Exception as error:  # the disk's, about the files themselves: whoever waits must hear of it
                self._is_stuck(describe(error))
                self._fail(jobs, error)
        if self._writer is not None:
            self._writer.close()

    def _take(self) -> list[Job]:
        """All that waits, up to a group's bounds; nothing after a while of rest, if there is work for it.

        Settlements alone wait a moment for something to come that somebody waits for, and go with it.
        """
        jobs: list[Job] = []
        size, urgent = 0, False
        try:
            job = self._jobs.get(timeout=REST_SECONDS if self._restless else None)
            until = self._clock.monotonic() + SETTLE_SECONDS
            while True:
                if job is None:
                    self._stopping = True
                    return jobs
                jobs.append(job)
                size += _bytes_of(job)
                if size >= GROUP_BYTES or len(jobs) >= GROUP_JOBS:
                    return jobs
                urgent = urgent or not isinstance(job.work, Settlement)
                job = self._jobs.get(timeout=0.0 if urgent else max(0.0, until - self._clock.monotonic()))
        except queue.Empty:
            return jobs

    def _serve(self, jobs: list[Job]) -> None:
        writes = [job for job in jobs if not callable(job.work)]
        if writes:
            self._write(writes)
            self._restless = True
        for job in jobs:
            if callable(job.work):
                self._call(job.work, job.future)
        if not self._stuck and self._writer and self._writer.written >= self._quiet_bytes and self._jobs.empty():
            self._checkpoint()

    def _call(self, function: Callable[[], Any], future: Future) -> None:
        result: Result
        try:
            result = (future, function(), None)
        except sqlite3.Error as error:
            if self._writer is not None and schema.is_damage(error) and self._renew(error):
                result = (future, None, SpoolRenewedError("the spool's database was damaged: it is a new one now"))
            else:
                result = (future, None, SpoolError(f"the spool cannot be read: {error}"))
        except BaseException as error:  # whoever waits in the loop must hear of it, whatever it is
            result = (future, None, error)
        self._tell([result], None)

    # --- group commit --------------------------------------------------------------------------------------

    def _write(self, jobs: list[Job]) -> None:
        group: list[tuple[Job, Work]] = []
        for job in jobs:
            try:
                group.append((job, self._prepare(job)))
            except Exception as error:  # this intake alone is at fault
                self._fail([job], error)
        if group:
            self._commit(group)

    def _prepare(self, job: Job) -> Work:
        assert self._writer is not None
        match job.work:
            case Intake():
                if self._full:
                    raise SpoolFullError("the disk of the spool is full")
                if self._stuck:
                    raise SpoolError(f"the disk of the spool refuses: {self._stuck}")
                return self._writer.prepare(job.work)
            case Settlement() | Damage() | Removal() | Drop():
                if job.epoch != self._epoch:
                    raise SpoolRenewedError("the spool has a new database")
                return job.work
        raise TypeError(f"nothing to write: {job.work!r}")

    def _commit(self, group: Sequence[tuple[Job, Work]], again: bool = False) -> None:
        assert self._writer is not None
        start = self._clock.monotonic()
        try:
            room = self._last_room() if self._full else None
            changes = self._writer.write([work for _, work in group], room)
        except Exception as error:  # SQLite's, or a value that it cannot hold
            self._failed(group, error, again)
            return
        changes.seconds = self._clock.monotonic() - start
        log_bytes = self._care.look()
        trouble = self._rescue() if log_bytes is None else None
        changes.space.wal = log_bytes or 0
        self._writer.written += COMMIT_BYTES
        self._tell([(job.future, changes.answers.get(place), trouble) for place, (job, _) in enumerate(group)], changes)
        if self._stuck and trouble is None:
            self._is_free()
        if self._full:
            self._look_for_room()
        elif not self._has_reserve(self._ballast.size // 2) and not self._ballast.take() and self._is_there():
            self._is_full()

    def _failed(self, group: Sequence[tuple[Job, Work]], error: Exception, again: bool) -> None:
        """A full disk fails all intakes, and what frees space is tried again, once; else each is tried alone."""
        if isinstance(error, sqlite3.Error) and schema.is_damage(error) and self._renew(error):
            self._write([job for job, _ in group])
        elif schema.is_full(error):
            self._make_room()
            intakes = [job for job, work in group if isinstance(work, Prepared)]
            others = [(job, work) for job, work in group if not isinstance(work, Prepared)]
            self._fail(intakes, error)
            if others and not again:
                self._commit(others, again=True)
            else:
                self._fail([job for job, _ in others], error)
        elif schema.is_disk(error):
            self._is_stuck(describe(error))
            self._fail([job for job, _ in group], error)
        elif len(group) == 1:
            self._fail([job for job, _ in group], error)
        else:
            for member in group:
                self._commit([member])

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        failure: SpoolError
        if isinstance(error, SpoolError):
            failure = error
        elif schema.is_full(error):
            failure = SpoolFullError("the disk of the spool is full")
        else:
            failure = SpoolError(f"the commit failed: {describe(error)}")
        self._tell([(job.future, None, failure) for job in jobs], None)

    # --- a full disk ---------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Give up the ballast, so that the log can be emptied; no intake is taken until there is room again."""
        self._ballast.release()
        self._checkpoint()
        self._is_full()

    def _last_room(self) -> int:
        """Bytes that a full disk still has for one more transaction, once the log is empty and begins anew."""
        self._checkpoint()
        return self._ballast.free_bytes()

    def _is_full(self) -> None:
        if not self._full:
            self._full = True
            self._logger.error("the disk of the spool is full: inputs wait until something is delivered or freed")
            self._post(self._audience.disk, True)

    def _look_for_room(self) -> None:
        if self._ballast.take() or self._has_reserve(self._ballast.size):
            self._full = False
            self._logger.warning("the disk of the spool has room again")
            self._post(self._audience.disk, False)

    def _has_reserve(self, wanted: int) -> bool:
        """Whether settlements will find room: the ballast, else so many bytes of free pages in the file itself.

        Without either, events could take the last of the disk, and then not even the log could be emptied.
        """
        return self._ballast.held or self._free_pages()[0] * schema.PAGE >= wanted

    # --- a disk that refuses, files that are gone or damaged -----------------------------------------------

    def _is_stuck(self, why: str) -> None:
        if not self._stuck:
            self._logger.error("the disk of the spool refuses (%s): inputs wait until it takes something again", why)
        self._stuck, self._restless = why, True
        self._post(self._audience.stuck, why)

    def _is_free(self) -> None:
        self._stuck = ""
        self._logger.warning("the disk of the spool takes something again")
        self._post(self._audience.stuck, "")

    def _is_there(self) -> bool:
        """Whether the files are; else that is seen to when it is quiet, or with the next commit."""
        return self._care.look() is not None

    def _rescue(self) -> SpoolError | None:
        """The files that are open have lost their names: give them new ones; what to say where that cannot be done."""
        assert self._writer is not None
        try:
            connection = self._care.rescue(self._writer.connection)
        except (OSError, sqlite3.Error) as error:
            why = f"files of the spool were deleted, and cannot be written again: {error}"
            self._is_stuck(why)
            return SpoolError(why)
        self._writer.connection = connection
        self._audience.reconnected(connection)
        self._keep_sums()
        return None

    def _keep_sums(self) -> None:
        """The file of sums, if it is gone or the disk did not take it before."""
        assert self._writer is not None
        sums = self._writer.sums
        if sums is not None and not sums.is_there():
            with contextlib.suppress(OSError):
                sums.create(self._care.inode())

    def _renew(self, error: sqlite3.Error) -> bool:
        """The database is malformed: save what can be read of it into a new one; whether that could be done."""
        assert self._writer is not None
        try:
            self._begin_anew(self._care.renew(self._writer.connection, error))
        except (OSError, sqlite3.Error, SpoolError) as trouble:
            self._is_stuck(f"its database is damaged, and what can be read of it cannot be saved: {trouble}")
            return False
        return True

    def _begin_anew(self, opened: Opened) -> None:
        assert self._writer is not None
        self._epoch += 1
        self._writer.close()
        self._writer = self._audience.renewed(opened)

    def _try_again(self) -> None:
        """See whether the disk takes something: a file that is gone, a salvage that was cut short, a write."""
        assert self._writer is not None
        try:
            if self._care.is_closed:
                self._begin_anew(self._care.open())
            elif self._care.look() is None and self._rescue() is not None:
                return
            self._writer.touch()
        except (OSError, sqlite3.Error, SpoolError) as error:
            self._stuck = describe(error)
        else:
            self._is_free()

    # --- quiet moments -------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """What can wait for a second of silence: the checkpoint, giving pages back, the ballast."""
        if self._stuck:
            self._try_again()
            if self._stuck:
                return
        assert self._writer is not None
        if self._care.look() is None and self._rescue() is not None:
            return
        if self._full:
            self._look_for_room()
        self._keep_sums()
        have_ballast = self._ballast.take()
        if self._writer.written:
            self._checkpoint()
        while self._jobs.empty() and self._vacuum():
            pass
        self._restless = not have_ballast or self._full or not self._jobs.empty()

    def _vacuum(self) -> bool:
        """Give some pages back to the disk when more than half the file is free; whether that helped."""
        assert self._writer is not None
        free, count = self._free_pages()
        if free * 2 < count or free < 4 * VACUUM_PAGES:
            return False
        with self._disk_errors("give back pages of"):
            # execute() would free a single page: it stops at the first row
            self._writer.connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            self._checkpoint()
        return self._free_pages()[0] < free

    def _free_pages(self) -> tuple[int, int]:
        assert self._writer is not None
        execute = self._writer.connection.execute
        return execute("PRAGMA freelist_count").fetchone()[0], execute("PRAGMA page_count").fetchone()[0]

    def _checkpoint(self) -> None:
        assert self._writer is not None
        with self._disk_errors("checkpoint"):
            self._writer.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._writer.written = 0

    @contextlib.contextmanager
    def _disk_errors(self, what: str) -> Iterator[None]:
        """Housekeeping that the disk refuses is done another time; commits tell of it if it lasts."""
        try:
            yield
        except sqlite3.Error as error:
            self._logger.debug("cannot %s the spool's database: %s", what, error)

    # --- back to the loop ----------------------------------------------------------------------------------

    def _tell(self, results: list[Result], changes: Changes | None) -> None:
        self._post(self._audience.finished, results, changes)

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _bytes_of(job: Job) -> int:
    if not isinstance(job.work, Intake):
        return 0
    return sum(len(chunk.entries) for chunk in job.work.chunks)
