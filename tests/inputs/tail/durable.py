"""A spool in memory for tests of tail: what one emit brings is durable whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from mcp_ingest.context import Context
from mcp_ingest.errors import SpoolError, StreamBrokenError
from mcp_ingest.event import Batch, Progress, Rejected
from mcp_ingest.inputs.tail import Tail


class Durable:
    """Events by id, dead letters and positions, as the last commit left them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []  # id, message
        self.tags: list[str] = []
        self.records: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.letters: list[Rejected] = []
        self.positions: dict[str, bytes] = {}
        self.commits = 0
        self.failing = False
        self.crashed = False  # as after kill -9: what is under way never becomes durable
        self.gate: asyncio.Event | None = None
        self.under_way = 0

    async def emit(self, batch: Batch, progress: Progress | None = None) -> None:
        assert progress is not None
        assert progress.stream is not None
        if progress.stream.failed:
            raise StreamBrokenError("this stream is broken")
        self.under_way += 1
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if self.failing or self.crashed:
                progress.stream.failed = SpoolError("the disk is gone")
                raise progress.stream.failed
            self._commit(batch, progress)
        finally:
            self.under_way -= 1

    def _commit(self, batch: Batch, progress: Progress) -> None:
        assert [o.received > 0 for o in batch.origins] == [True] * len(batch.ends)
        assert (batch.ends or [0])[-1] == len(batch)
        self.events += [(i, r["message"]) for i, r in zip(batch.ids(), batch.records, strict=True)]
        self.tags += batch.tags
        self.records += batch.records
        self.paths += [o.metadata["path"] for o, a, b in batch.runs() for _ in range(a, b)]
        self.letters += batch.outcome.rejected
        for effect in batch.outcome.effects:
            effect()
        for key, value in progress.positions.items():
            if value is None:
                self.positions.pop(key, None)
            else:
                self.positions[key] = value
        self.commits += 1

    @property
    def messages(self) -> list[str]:
        return [message for _, message in self.events]

    @property
    def files(self) -> list[str]:
        return [key for key in self.positions if not key.endswith("/started")]

    def state(self, prefix: str) -> dict[str, bytes]:
        return {key: value for key, value in self.positions.items() if key.startswith(prefix)}


def settings(paths: list[Path], **others: Any) -> Any:
    """Checked settings with short times."""
    given = {
        "paths": [str(path) for path in paths],
        "start_at": "head",
        "scan_seconds": "100ms",
        "rotate_wait_seconds": "200ms",
        **others,
    }
    return msgspec.convert(given, Tail.Config, strict=False, dec_hook=lambda t, v: t.parse(v))


@asynccontextmanager
async def tailing(durable: Durable, *paths: Path, context: Context | None = None, **others: Any) -> AsyncIterator[Tail]:
    """A running input; it is cancelled at the end of the block."""
    ready = asyncio.Event()
    context = context or Context("app")
    context.state = durable.state
    context.ready = lambda where: ready.set()
    tail = Tail(settings(list(paths), **others), context)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tail.run(durable.emit))
        await ready.wait()
        try:
            yield tail
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  the condition is about files and positions, which wake nobody
            await asyncio.sleep(0.005)


def append(path: Path, *lines: str) -> None:
    """Append whole lines."""
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))
