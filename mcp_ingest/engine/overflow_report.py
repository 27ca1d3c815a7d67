"""What is said of events that were let go: a metric, a line when it begins, a line and an event every minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from mcp_ingest.engine.lines import iso
from mcp_ingest.errors import IngestError
from mcp_ingest.event import Record
from mcp_ingest.metrics import DROPPED_EVENTS, Metrics
from mcp_ingest.spool.model import HIGH
from mcp_ingest.spool.overflow import BEST_EFFORT, DROP_OLDEST, OVER_BUDGET, REMOVED, Part

TAG = "mcp.ingest.overflow"
#: Seconds that one summary is about.
PERIOD = 60.0
#: Seconds that a summary may wait for room in the spool; without, the line in the log remains.
PATIENCE = 10.0

_WHY = {
    BEST_EFFORT: "space is short, and it is best_effort",
    OVER_BUDGET: "it owes more than its max_backlog",
    DROP_OLDEST: "the spool is full",
    REMOVED: "the configuration has it no more, and space is short",
}

Emit = Callable[[str, Record], Awaitable[None]]


@dataclass(slots=True)
class _Episode:
    """What one output lost for one reason since the last summary; times are of commits, nanoseconds since 1970."""

    normal: int = 0
    high: int = 0
    oldest: int = 0
    newest: int = 0

    def add(self, part: Part) -> None:
        if part.priority == HIGH:
            self.high += part.events
        else:
            self.normal += part.events
        self.oldest = min(self.oldest or part.oldest, part.oldest)
        self.newest = max(self.newest, part.newest)


@dataclass(slots=True)
class OverflowReport:
    """`note` what was let go; `run` tells of it. It is over for an output when a whole period brought nothing."""

    policy: str
    emit: Emit
    metrics: Metrics
    log: logging.Logger
    _episodes: dict[tuple[str, str], _Episode] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, parts: Iterable[Part]) -> None:
        """These were let go."""
        for part in parts:
            priority = "high" if part.priority == HIGH else "normal"
            labels = {"output": part.output, "priority": priority, "reason": part.reason}
            self.metrics.counter(DROPPED_EVENTS, **labels).inc(part.events)
            key = part.output, part.reason
            if key not in self._episodes:
                self._episodes[key] = _Episode()
                self.log.warning(
                    "output %s: its oldest events are let go: %s", part.output, _WHY.get(part.reason, part.reason)
                )
            self._episodes[key].add(part)
            self._news.set()

    async def run(self) -> None:
        """A summary of each period in which something was let go, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(PERIOD)
            await self.summarise()
            if not self._episodes:
                self._news.clear()

    async def summarise(self) -> None:
        """Tell what was let go since the last time."""
        for (output, reason), episode in list(self._episodes.items()):
            if not episode.normal + episode.high:
                del self._episodes[output, reason]
                continue
            self._episodes[output, reason] = _Episode()
            await self._tell(output, reason, episode)

    async def _tell(self, output: str, reason: str, episode: _Episode) -> None:
        events, oldest, newest = episode.normal + episode.high, iso(episode.oldest), iso(episode.newest)
        message = (
            f"output {output}: {events} events were let go ({episode.high} of them errors), "
            f"received between {oldest} and {newest}: {_WHY.get(reason, reason)}"
        )
        self.log.warning("%s", message)
        record: Record = {
            "service_name": "mcp-ingest",
            "log_level": "WARNING" if reason in (BEST_EFFORT, REMOVED) else "ERROR",
            "message": message,
            "operation": "overflow",
            "metadata": {
                "output": output,
                "policy": self.policy,
                "reason": reason,
                "events": events,
                "errors": episode.high,
                "oldest": oldest,
                "newest": newest,
            },
        }
        try:
            async with asyncio.timeout(PATIENCE):
                await self.emit(TAG, record)
        except (TimeoutError, IngestError) as error:
            self.log.info("the summary of it is in this log only: %s", str(error) or "the spool has no room")
