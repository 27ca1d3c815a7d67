"""`store`: keeps events searchable in this process, without a server.

What it is for: the first steps, small installations, and the days when Elasticsearch is away. It is a tantivy index
(what Lucene is to Elasticsearch) that `mcp-ingest query` and the explorer search; see `schema` for what a field
means, `parts` for the folders. For more than some ten million events a day, or for several machines, take
`elasticsearch`.

Guarantees: an answered event is on disk and visible. A chunk that is delivered again replaces what it left the first
time, so nothing is there twice. A commit costs some 20 ms of CPU however little is in it, so that requests share
one: at once after a quiet time, else every `commit_seconds`, or when 8 MiB wait.

Retention: parts go whole, `retention` after the end of their day (or after their birth, for what came late), and
the oldest ones whenever all together take more than `max_bytes`.

Metrics: those of every output (`mcp_ingest_output_events_total`, `mcp_ingest_delivery_seconds`, …).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from mcp_ingest.component import ByteSize, Duration, Example, Output, OutputSettings
from mcp_ingest.context import Context
from mcp_ingest.errors import OutputError
from mcp_ingest.event import Batch
from mcp_ingest.outputs.store import parts
from mcp_ingest.outputs.store.shelf import Shelf
from mcp_ingest.verdict import AllDelivered, Request, Unknown, Verdicts

T = TypeVar("T")

_EARLY_BYTES = 8 * 2**20
_MIN_HEAP = 15_000_000  # tantivy refuses less


class _Added(NamedTuple):
    """Where a request stands among all that was added; `era` changes when what waits was lost."""

    era: int
    number: int


class Store(Output):
    """See the module."""

    class Config(OutputSettings):
        """Settings of `store`."""

        directory: Annotated[str, Meta(description="The store's folder; one daemon at a time writes there.")] = (
            "mcp-ingest-data/store"
        )
        retention: Annotated[Duration, Meta(description="How long events are kept.")] = msgspec.field(
            default_factory=lambda: Duration.parse("7d")
        )
        max_bytes: Annotated[
            ByteSize, Meta(description="Bytes on disk above which the oldest events go, whatever their age.")
        ] = msgspec.field(default_factory=lambda: ByteSize.parse("10GiB"))
        heap: Annotated[ByteSize, Meta(description="Memory of an index writer; there are up to three at a time.")] = (
            msgspec.field(default_factory=lambda: ByteSize.parse("16MB"))
        )
        commit_seconds: Annotated[
            Duration, Meta(description="The least time between two commits, and so the longest until a search sees it.")
        ] = msgspec.field(default_factory=lambda: Duration.parse("800ms"))

        def check(self) -> list[str]:
            """The bounds that tantivy and sense set."""
            problems = super().check()
            if self.heap < _MIN_HEAP:
                problems.append(f"heap: an index writer needs at least {_MIN_HEAP} bytes")
            if self.retention <= 0:
                problems.append("retention: must be more than nothing")
            return problems

    EXAMPLES: ClassVar = [
        Example("A week, 10 GiB at the most", {"directory": "/var/lib/mcp-ingest/store", "retention": "7d"}),
        Example("A day on a small disk", {"retention": "1d", "max_bytes": "500MiB"}),
    ]

    whole_chunks = True
    latency_tells_load = False  # a request waits for the commit that it shares, up to `commit_seconds`
    concurrency = 4
    max_request_bytes = 2 * 2**20
    max_request_events = 10_000

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self._thread: ThreadPoolExecutor | None = None
        self._shelf: Shelf | None = None
        self._turn = asyncio.Lock()
        self._enough = asyncio.Event()
        self._era = self._added = self._durable = 0
        self._waiting_bytes = 0
        self._committed_at = float("-inf")

    async def start(self) -> None:
        """Open the folder and drop what is too old."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{self.context.name}")
        try:
            self._shelf = await self._run(self._open)
        except (OSError, ValueError) as error:
            raise OutputError(f"the store in {self.config.directory} cannot be opened: {error}") from error

    def address(self, batch: Batch) -> list[str]:
        """The folder of each event: its day, or `undated-` and the day of its receipt."""
        made: list[str] = []
        for origin, start, end in batch.runs():
            low, high = origin.received - parts.OLDEST_BEFORE, origin.received + parts.NEWEST_AFTER
            undated = f"undated-{parts.day_name(origin.received // parts.DAY)}"
            days: dict[int, str] = {}
            for time in batch.times[start:end]:
                number = time // parts.DAY if time and low <= time <= high else None
                if number is None:
                    made.append(undated)
                else:
                    made.append(days.get(number) or days.setdefault(number, parts.day_name(number)))
        return made

    async def write(self, request: Request) -> Verdicts:
        """Add the chunks and wait for the commit that holds them."""
        try:
            mine = await self._run(lambda: self._add(request))
            if self._waiting_bytes >= _EARLY_BYTES:
                self._enough.set()
            while self._durable < mine.number and self._era == mine.era:
                async with self._turn:
                    if self._durable < mine.number and self._era == mine.era:
                        await self._pause()
                        await self._run(self._commit)
        except (OSError, ValueError, OutputError) as error:
            return Unknown(f"the store: {error}")
        return AllDelivered() if self._era == mine.era else Unknown("the store: a commit failed")

    async def close(self) -> None:
        """Commit what was added and let go of the folder."""
        if self._thread is not None:
            try:
                if self._shelf is not None:
                    await self._run(self._shelf.close)
            except (OSError, ValueError) as error:
                self.context.logger.warning("store %s: %s", self.context.name, error)
            self._thread.shutdown(wait=False)
        self._thread = self._shelf = None

    async def _pause(self) -> None:
        due = self._committed_at + self.config.commit_seconds
        left = due - self.context.clock.monotonic()
        if self._waiting_bytes < _EARLY_BYTES and left > 0:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), left)

    async def _run(self, function: Callable[[], T]) -> T:
        if self._thread is None:
            raise OutputError("the store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    # --- in the thread -------------------------------------------------------------------------------------

    def _open(self) -> Shelf:
        config = self.config
        retention = int(config.retention * parts.SECOND)
        return Shelf(Path(config.directory), self.context.clock, config.heap, retention, config.max_bytes)

    def _add(self, request: Request) -> _Added:
        shelf = self._opened()
        try:
            for chunk in request.parts:
                shelf.add(chunk)
        except BaseException:
            self._lose(shelf)
            raise
        self._added += 1
        self._waiting_bytes += request.size
        self._say_damage(shelf)
        return _Added(self._era, self._added)

    def _commit(self) -> None:
        shelf = self._opened()
        self._committed_at = self.context.clock.monotonic()
        self._waiting_bytes = 0
        try:
            shelf.commit()
        except BaseException:
            self._lose(shelf)
            raise
        self._durable = self._added

    def _lose(self, shelf: Shelf) -> None:
        """Nothing that waits can be trusted: every request that waits is to come again."""
        self._era += 1
        self._waiting_bytes = 0
        shelf.abandon()

    def _opened(self) -> Shelf:
        if self._shelf is None:
            raise OutputError("the store is not open")
        return self._shelf

    def _say_damage(self, shelf: Shelf) -> None:
        while shelf.damaged:
            self.context.logger.error("store %s: damaged, set aside as %s", self.context.name, shelf.damaged.pop())
