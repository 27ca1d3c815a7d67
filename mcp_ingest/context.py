"""What a component is handed: clock, logger, metrics, state, budget. A test hands in its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mcp_ingest.metrics import Metrics


class Clock(Protocol):
    """The two clocks: `time_ns` since 1970 (may jump), `monotonic` seconds (never does)."""

    def time_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment."""
        ...


class SystemClock:
    """The machine's clocks."""

    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)


class Budget:
    """Bytes in flight from socket to spool: `take` waits while others hold too much.

    Who asks for more than the whole limit gets it when nobody else holds anything. First come, first served.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> None:
        """Reserve `count` bytes; give them back with `give`."""
        if self.take_now(count):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(count)
            else:
                with contextlib.suppress(ValueError):  # `give` was there before
                    self._waiting.remove((count, future))
                self._wake()
            raise

    def take_now(self, count: int) -> bool:
        """Reserve `count` bytes if that needs no waiting; whether it did."""
        if self._waiting or not self._fits(count):
            return False
        self.used += count
        return True

    def resize(self, limit: int) -> None:
        """Another limit: what is held already stays held."""
        self.limit = limit
        self._wake()

    def give(self, count: int) -> None:
        """Give back what `take` reserved."""
        self.used -= count
        self._wake()

    @asynccontextmanager
    async def holding(self, count: int) -> AsyncIterator[None]:
        """Reserve for the length of a block."""
        await self.take(count)
        try:
            yield
        finally:
            self.give(count)

    def _fits(self, count: int) -> bool:
        return self.used == 0 or self.used + count <= self.limit

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            count, future = self._waiting.popleft()
            if not future.done():
                self.used += count
                future.set_result(None)


#: Committed positions of several spools: key to value, by the number of the worker that has them.
Positions = Mapping[int, Mapping[str, bytes]]


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of the work falls to whom: worker `index` of `count`, counted from 0.

    An index that is not below `count` is that of a worker that is no more, whose spool another process has taken over:
    nothing new falls to it. `ports` are those that all workers share, by the input's name. `positions` are what all
    spools had committed when the workers were started, and stay what they were then, so that all workers agree.
    `locks` is a folder for what only one of the processes may do at a time.
    """

    index: int = 0
    count: int = 1
    ports: Mapping[str, int] = field(default_factory=dict)
    positions: Positions = field(default_factory=dict)
    locks: Path | None = None

    @property
    def several(self) -> bool:
        """Whether other workers share the ports."""
        return self.count > 1

    @property
    def suffix(self) -> str:
        """What tells this worker's folders and files from those of worker 0: empty, or `worker-3`."""
        return f"worker-{self.index}" if self.index else ""

    def port(self, name: str, configured: int) -> int:
        """The port for the input of this name: where any free one would do, the one that all workers share."""
        return configured or self.ports.get(name, 0)

    def takes(self, item: bytes) -> bool:
        """Whether an item that nobody has a position of falls to this worker; the same item always to the same."""
        return int.from_bytes(hashlib.blake2b(item, digest_size=8).digest()) % self.count == self.index

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """No other worker is in a block of this name meanwhile; waits, so call it in a thread."""
        if self.locks is None:
            yield
            return
        with (self.locks / f"{name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _no_state(prefix: str) -> Mapping[str, bytes]:
    return {}


def _nobody(where: str) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(slots=True)
class Context:
    """Everything that a component gets from outside.

    `name` is the component's name in the configuration. `state(prefix)` are the committed positions whose
    key begins so. `ready(where)` tells the engine that an input takes events, and where ("tcp 0.0.0.0:24224").
    `own_files` are (device, inode) of files that the daemon writes its own log to: no input may read them.
    `share` says what of the work is this worker's; alone it is all of it.
    `lost_positions()` tells whether committed positions were lost by damage on disk: what is not known may have been.
    """

    name: str = "test"
    clock: Clock = field(default_factory=SystemClock)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("mcp_ingest"))
    metrics: Metrics = field(default_factory=Metrics)
    state: Callable[[str], Mapping[str, bytes]] = _no_state
    budget: Budget = field(default_factory=lambda: Budget(256 * 2**20))
    ready: Callable[[str], None] = _nobody
    own_files: frozenset[tuple[int, int]] = frozenset()
    share: Share = field(default_factory=Share)
    lost_positions: Callable[[], bool] = _never
