"""The process above several workers: it holds their ports, starts them, starts them again, and ends with them.

It takes no events itself. Each worker has a spool of its own (`folders.py`) and answers it over HTTP on loopback, so
that it can speak for all (`web/all_workers.py`). A worker whose supervisor is gone, by `kill -9` too, ends cleanly; all
of them hold the supervisor's lock, so that the next supervisor begins when the last of them is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Clock, SystemClock
from mcp_ingest.engine import folders, ports
from mcp_ingest.engine.member import Member
from mcp_ingest.engine.orders import Orders
from mcp_ingest.engine.succession import supervisors_lock
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import WORKERS, Metrics
from mcp_ingest.spool.files import Lock

#: Seconds that the workers have for their clean end.
STOP_SECONDS = 30.0


class Supervisor:
    """`run` lives until `stop`; `command` starts a worker, with `--worker N` behind it.

    `listens` is set once all inputs of all workers listen, or did once.
    """

    def __init__(
        self,
        config: Configuration,
        command: Sequence[str],
        metrics: Metrics,
        logger: logging.Logger,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.log = logger
        self.members: list[Member] = []
        self.listens = asyncio.Event()
        self._command = command
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()
        self._fatal: IngestError | None = None

    async def run(self) -> None:
        """Hold the ports, run the workers until `stop`. IngestError: a port is taken, or a worker cannot start."""
        directory = Path(self.config.spool.directory)
        lock = await supervisors_lock(directory, self._stop, self._clock, self.log)
        if lock is None:
            return
        try:
            with ports.held(self.config) as found:
                await self._run(lock, found, directory)
        finally:
            lock.give()

    def stop(self) -> None:
        """Begin the shutdown; `run` returns when all workers have ended."""
        self._stop.set()

    def reload(self) -> None:
        """Let every worker read its configuration again."""
        for member in self.members:
            member.reload()

    def ready(self) -> str | None:
        """None when every worker listens, else a sentence that says what is missing."""
        if self._stop.is_set():
            return "shutting down"
        missing = [str(member.index) for member in self.members if member.listening is None]
        if missing or not self.members:
            return f"workers that do not listen: {', '.join(missing) or 'all'}"
        return None

    async def _run(self, lock: Lock, found: dict[str, int], directory: Path) -> None:
        count = self.config.workers
        positions = {index: dict(each) for index, each in folders.positions_there(directory).items()}
        for index in range(count):
            orphans = folders.orphans(directory, count, index)
            orders = Orders(index, count, found, positions, orphans, -1, lock.descriptor)
            self.members.append(Member(self._command, orders, self._clock, self.metrics, self.log, self._heard))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._live(member)) for member in self.members]
            try:
                await self._stop.wait()
            finally:
                await self._end(tasks)
        if self._fatal is not None:
            raise self._fatal

    async def _live(self, member: Member) -> None:
        """One worker; where it cannot start, all end for its reason."""
        try:
            await member.run()
        except IngestError as error:
            self._fatal = self._fatal or error
        finally:
            self.stop()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for member in self.members:
            member.stop()
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        if late:
            self.log.error("%d workers did not end within %.0f s and are killed", len(late), STOP_SECONDS)
            for member in self.members:
                member.kill()
        await asyncio.gather(*tasks)

    def _heard(self) -> None:
        listening = sum(member.listening is not None for member in self.members)
        self.metrics.gauge(WORKERS).set(listening)
        if listening == len(self.members):
            self.listens.set()
