"""From followed files to commits: gather what several files have into one batch, read on while it is committed.

One emit is under way at a time, so that positions are committed in order; a batch has a run for each file, and
its progress all their positions. When an emit fails, every file goes back to what is committed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mcp_ingest.codecs.lines import LongLine
from mcp_ingest.component import Emit
from mcp_ingest.context import Context
from mcp_ingest.errors import IngestError
from mcp_ingest.event import Batch, Origin, Progress, Rejected, Stream
from mcp_ingest.inputs.tail.files import BLOCK_BYTES, File, Mark, Taken
from mcp_ingest.inputs.tail.followed import Followed
from mcp_ingest.metrics import SANITIZED

_BATCH_LINES = 10_000
_BATCH_BYTES = 4 * BLOCK_BYTES
_MARKS = 1_000
_PAUSE_SECONDS = (0.2, 10.0)  # after a failed emit, doubled up to the latter


@dataclass(slots=True)
class Gathered:
    """A batch on its way to a commit, and what that commit makes true."""

    batch: Batch = field(default_factory=lambda: Batch([], [], [], [], [], []))
    positions: dict[str, bytes | None] = field(default_factory=dict)
    marks: dict[File, Mark] = field(default_factory=dict)
    released: list[File] = field(default_factory=list)
    forgotten: set[bytes] = field(default_factory=set)
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """How lines become events."""

    tag: str
    max_line_bytes: int
    encoding: str
    path_field: str | None
    key_prefix: str


class _UnderWay(NamedTuple):
    task: asyncio.Task[IngestError | None]
    gathered: Gathered


class Reader:
    """The one reading loop of an input."""

    def __init__(self, reading: Reading, followed: Followed, context: Context, first: dict[str, bytes | None]) -> None:
        self.woken = asyncio.Event()
        self._reading = reading
        self._followed = followed
        self._context = context
        self._logger: logging.Logger = context.logger
        self.first = first  # positions to be committed when each file of the first scan has its own
        self._stream = Stream()
        self._pause = _PAUSE_SECONDS[0]
        self._sanitized = context.metrics.counter(SANITIZED, input=context.name)

    async def run(self, emit: Emit) -> None:
        """Read and emit until cancelled; then wait for the emit that is under way and acknowledge it."""
        under_way: _UnderWay | None = None
        ahead: Gathered | None = None
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    self.woken.clear()
                    ahead = await self._next()
                    if under_way is not None and not await self._finish(under_way):
                        under_way = None
                        self._give_back(ahead)
                        continue  # what was read ahead is read again
                    under_way = None
                    if ahead is not None:
                        under_way = _UnderWay(group.create_task(self._commit(emit, ahead)), ahead)
                        ahead = None
                    elif not self._followed.ready:
                        await self.woken.wait()
                    await asyncio.sleep(0)
            finally:  # still inside the group, which would cancel it
                self._give_back(ahead)
                if under_way is not None:
                    await asyncio.wait({under_way.task})
                    if under_way.task.result() is None:
                        self._acknowledge(under_way.gathered)

    async def _next(self) -> Gathered | None:
        budget = self._context.budget
        if not self._followed.ready and not self.first and not self._followed.forgotten:
            return None
        reserve = _BATCH_BYTES + max(BLOCK_BYTES, self._reading.max_line_bytes)
        await budget.take(reserve)
        gathered = None
        try:
            gathered = self.gather()
        finally:
            budget.give(reserve - (gathered.batch.size if gathered else 0))
        return gathered

    def _give_back(self, gathered: Gathered | None) -> None:
        if gathered is not None:
            self._context.budget.give(gathered.batch.size)

    async def _commit(self, emit: Emit, gathered: Gathered) -> IngestError | None:
        if gathered.replaced:
            gathered.batch.outcome.effects.append(partial(self._sanitized.inc, gathered.replaced))
        size = gathered.batch.size
        try:
            await emit(gathered.batch, Progress(self._stream, gathered.positions))
        except IngestError as error:
            return error
        finally:
            self._context.budget.give(size)
        return None

    async def _finish(self, under_way: _UnderWay) -> bool:
        """Wait for the commit and acknowledge it; false if it failed and everything went back."""
        await asyncio.wait({under_way.task})
        error = under_way.task.result()
        if error is not None:
            self._logger.warning("tail %s: nothing was committed (%s); trying again", self._context.name, error)
            self._stream = Stream()
            self._followed.go_back()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _PAUSE_SECONDS[1])
            return False
        self._pause = _PAUSE_SECONDS[0]
        self._acknowledge(under_way.gathered)
        return True

    def _acknowledge(self, gathered: Gathered) -> None:
        if self.first.keys() <= gathered.positions.keys():
            self.first = {}
        self._followed.forgotten.difference_update(gathered.forgotten)
        for file, mark in gathered.marks.items():
            file.durable = mark
        for file in gathered.released:
            if file.last:
                self._followed.release(file)
            else:  # it is back at its path: its position is wanted again
                file.sent = None
                self._followed.ready[file] = None

    # --- gathering -----------------------------------------------------------------------------------------

    def gather(self) -> Gathered | None:
        """A batch of what the files have, each in its turn; None if there is nothing to commit."""
        ready, gathered = self._followed.ready, Gathered()
        gathered.forgotten = set(self._followed.forgotten)
        gathered.positions.update((self._key(uid), None) for uid in gathered.forgotten)
        now = self._context.clock.time_ns()
        while ready and len(gathered.marks) < _MARKS and not self._full(gathered.batch):
            file = ready.popitem(last=False)[0]
            try:
                if not self._take(file, gathered, now):
                    break
            except OSError as error:  # the next hint or scan tries again
                self._followed.refuse(file.path, error)
        if self.first and all(file.sent for file in self._followed.files.values()):
            gathered.positions.update(self.first)
        return gathered if gathered.positions or gathered.batch.size else None

    @staticmethod
    def _full(batch: Batch) -> bool:
        return len(batch) >= _BATCH_LINES or batch.size >= _BATCH_BYTES

    def _take(self, file: File, gathered: Gathered, now: int) -> bool:
        """Take a block; false where it is the inside of a line that is too long: let others run before the next."""
        if not self._followed.opened(file):
            if file.last:
                self._let_go(file, gathered)
            return True
        taken = file.take(self._reading.max_line_bytes, self._reading.encoding)
        if taken.size:
            self._add(file, taken, gathered, now)
        if taken.more:
            self._followed.ready[file] = None
        elif file.last:
            self._let_go(file, gathered)
            return True
        if file.sent != (file.mark, file.path):
            file.sent = (file.mark, file.path)
            gathered.marks[file] = file.mark
            gathered.positions[self._key(file.uid)] = file.stored()
        return bool(taken.size) or not taken.more

    def _let_go(self, file: File, gathered: Gathered) -> None:
        gathered.positions[self._key(file.uid)] = file.stored() if file.is_somewhere() else None
        gathered.marks[file] = file.mark
        gathered.released.append(file)

    def _key(self, uid: bytes) -> str:
        return self._reading.key_prefix + uid.hex()

    def _add(self, file: File, taken: Taken, gathered: Gathered, now: int) -> None:
        batch, (texts, positions, replaced, long) = gathered.batch, taken.lines
        origin = file.origin(self._context.name, now)
        tag = file.tag or self._tag(file)
        batch.size += taken.size
        gathered.replaced += replaced
        for line in long:
            batch.reject(self._too_long(line, file, tag, origin))
        if not texts:
            return
        name = self._reading.path_field
        if name is None:
            batch.records += [{"message": text} for text in texts]
        else:
            path = file.name
            batch.records += [{"message": text, name: path} for text in texts]
        batch.tags += [tag] * len(texts)
        batch.times += [0] * len(texts)
        batch.positions += positions
        batch.origins.append(origin)
        batch.ends.append(len(batch.records))

    def _tag(self, file: File) -> str:
        path = file.name
        file.tag = (
            self._reading.tag.replace("{path}", path.strip("/").replace("/", "."))
            .replace("{name}", path.rpartition("/")[2])
        )  # fmt: skip
        return file.tag

    def _too_long(self, line: LongLine, file: File, tag: str, origin: Origin) -> Rejected:
        reason = (
            f"the line at byte {line.position} of {file.name} has {line.length} bytes, "
            f"more than max_line_bytes ({self._reading.max_line_bytes}); its first {len(line.head)} are kept"
        )
        return Rejected(tag, 0, line.head, line.position, origin, reason, why="too_large")
