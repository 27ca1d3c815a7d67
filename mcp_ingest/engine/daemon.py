"""The running whole: a spool, the graph over it, and what both say of themselves.

On SIGTERM the inputs stop first, what they have handed in is committed and acknowledged, the outputs get a few
seconds to deliver, and what they do not manage is delivered at the next start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

from mcp_ingest import __version__
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.config.tags import compile_patterns
from mcp_ingest.context import Budget, Clock, SystemClock
from mcp_ingest.engine import status
from mcp_ingest.engine.graph import Graph, Surroundings, bounds_of
from mcp_ingest.engine.log import files_written_to
from mcp_ingest.engine.pipeline import Pipeline, build_pipeline
from mcp_ingest.engine.preview import Previews
from mcp_ingest.engine.reload import Reloader
from mcp_ingest.engine.replay import Replay
from mcp_ingest.engine.watch import watch
from mcp_ingest.engine.why import Known, why
from mcp_ingest.errors import IngestError, SpoolDiskError, SpoolError
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool

_SAMPLE_SECONDS = 5.0


class Daemon:
    """One configuration at work. `run` lives until `stop`; the web part reads the rest."""

    def __init__(
        self,
        config: Configuration,
        metrics: Metrics,
        logger: logging.Logger,
        clock: Clock | None = None,
    ) -> None:
        self.metrics = metrics
        self.clock = clock or SystemClock()
        self.log = logger
        self._rates = status.Rates()
        self._began = self.clock.monotonic()
        self._stop = asyncio.Event()
        self._fatal: IngestError | None = None
        self.budget = Budget(config.memory.max_in_flight)
        types = {output.name: output.type for output in config.outputs.values()}
        self.spool = Spool(config.spool, types, self.clock, logger, metrics, bounds_of(config))
        around = Surroundings(self.clock, metrics, logger, self.budget, files_written_to(logger))
        self.graph = Graph(config, self.spool, around, self._fail)
        self.reloader = Reloader(self.graph, lambda: load(self.config.given), self._apply)

    @property
    def config(self) -> Configuration:
        """The configuration that it runs."""
        return self.graph.config

    # --- life ---

    async def run(self) -> None:
        """Start everything and live until `stop`; `graph.listens` is set once every input listens.

        Raises IngestError when the spool or an input cannot be opened at all.
        """
        try:
            await self.spool.open(self._stop)
        except SpoolDiskError:
            return  # told to stop while it waited for its disk
        try:
            self.graph.build()
            async with asyncio.TaskGroup() as group:
                self.graph.start(group)
                group.create_task(self.reloader.run())
                others = [group.create_task(each) for each in (self._sample(), watch(self.graph, self.reloader.ask))]
                await self._stop.wait()
                await self.reloader.stop()
                await self.graph.finish()
                for task in others:
                    task.cancel()
        finally:
            await self.graph.close()
            await self.spool.close()
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Begin the shutdown; `run` returns when it is done."""
        self._stop.set()

    def _fail(self, error: IngestError) -> None:
        self._fatal = error
        self.stop()

    def _apply(self, config: Configuration) -> None:
        """Take what is neither the graph's nor the spool's of a new configuration."""
        self.log.setLevel(config.log.level.upper())
        self.budget.resize(config.memory.max_in_flight)

    def ready(self) -> str | None:
        """None when every input listens and the spool takes events, else a sentence that says what is missing."""
        if self._stop.is_set():
            return "shutting down"
        if trouble := self.spool.trouble():
            return f"the disk of the spool refuses: {trouble}"
        missing = self.graph.not_listening() if self.graph.inputs else sorted(self.config.inputs)
        if missing:
            return f"not listening yet: {', '.join(missing)}"
        why = self.spool.why_full()
        return f"{why} and takes no events" if why else None

    async def _sample(self) -> None:
        while True:
            ledger = self.spool.ledger()
            totals = status.received(ledger)
            totals.update({f"output {name}": count for name, count in status.delivered(ledger).items()})
            self._rates.sample(self.clock.monotonic(), totals)
            try:
                await self.spool.dead_letters.expire(self.spool.usage().letters)
            except SpoolError as error:
                self.log.error("dead letters that are too old could not be let go: %s", error)
            await asyncio.sleep(_SAMPLE_SECONDS)

    # --- dead letters ---

    @property
    def replay(self) -> Replay:
        """The replays of its spool; SpoolError before that is open."""
        if self.graph.replay is None:
            raise SpoolError("the spool is not open")
        return self.graph.replay

    def previews(self) -> Previews:
        """What replays would do; each pipeline is built anew, once, with metrics of its own."""
        built: dict[str, Pipeline] = {}

        def pipeline_of(tag: str) -> Pipeline | None:
            for name, config in self.config.pipelines.items():
                if compile_patterns(config.match)(tag):
                    if name not in built:
                        built[name] = build_pipeline(config, self.graph.context(name, Metrics()))
                    return built[name]
            return None

        return Previews(self.replay, self.graph.outputs, pipeline_of)

    # --- what it says of itself ---

    async def why(self, text: str, tag: str | None, peer: str | None) -> Known:
        """What became of an event that is still known; what waits, waits for its output's reason if not for its own."""
        inputs = {name: running.input for name, running in self.graph.inputs.items()}
        known = await why(text, self.spool, inputs, tag, peer)
        deliveries = self.graph.deliveries
        for owed in [owed for event in known.held for owed in event.owed if owed.output in deliveries]:
            owed.why = owed.why or deliveries[owed.output].why
        return known

    def delivering(self) -> list[str]:
        """The outputs, once the spool is open."""
        return list(self.graph.deliveries)

    def status(self) -> dict[str, Any]:
        """The JSON of `/status`."""
        ledger, now = self.spool.ledger(), self.clock.monotonic()
        wall = self.clock.time_ns()
        received, delivered = status.received(ledger), status.delivered(ledger)
        held = {name: self.spool.held(name) for name in self.graph.deliveries}
        usage = self.spool.usage()
        removed = self.spool.backlog_of_removed_outputs()
        return {
            "version": __version__,
            "configuration": self.config.path,
            "reload_failed": self.reloader.why,
            "uptime_seconds": now - self._began,
            "ready": self.ready(),
            "inputs": {
                name: {
                    "listening": running.where,
                    "received": received[name],
                    "rate": self._rates.rate(name, now, received[name]),
                }
                for name, running in self.graph.inputs.items()
            },
            "outputs": {
                name: {
                    "type": self.config.outputs[name].type,
                    "state": delivery.state,
                    "why": delivery.why or None,
                    "parked": delivery.parked(),
                    "held": held[name].events,
                    "held_bytes": held[name].bytes,
                    "oldest_age_seconds": status.age(held[name].oldest, wall),
                    "delivered": delivered[name],
                    "lost": status.lost(ledger, name),
                    "rate": self._rates.rate(f"output {name}", now, delivered[name]),
                }
                for name, delivery in self.graph.deliveries.items()
            },
            "removed_outputs": {name: dataclasses.asdict(each) for name, each in removed.items()},
            "spool": status.spool_status(usage, wall) | status.damage(self.spool.notices(), self.spool.trouble()),
            "ledger": status.ledger_rows(ledger),
            "sums": status.sums(ledger, status.owed(held, removed), usage.dead_letters),
        }
