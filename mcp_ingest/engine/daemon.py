"""The running whole: a spool, the graph over it, and what both say of themselves.

Spools of workers that are no more (`folders.py`) are opened beside it, each with a graph of its own over the inputs
that have positions in it: what they hold is delivered, and their files are read on.

On SIGTERM the inputs stop first, what they have handed in is committed and acknowledged, the outputs get a few
seconds to deliver, and what they do not manage is delivered at the next start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from mcp_ingest import __version__
from mcp_ingest.config.load import load
from mcp_ingest.config.model import Configuration
from mcp_ingest.context import Budget, Clock, Share, SystemClock
from mcp_ingest.engine import status
from mcp_ingest.engine.folders import config_of, refusals_of_workers
from mcp_ingest.engine.graph import Graph, Surroundings, bounds_of
from mcp_ingest.engine.log import files_written_to
from mcp_ingest.engine.reload import Reloader
from mcp_ingest.engine.together import together
from mcp_ingest.engine.watch import watch
from mcp_ingest.engine.why import why
from mcp_ingest.errors import ConfigError, IngestError, SpoolDiskError, SpoolError
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
        share: Share | None = None,
        orphans: Sequence[int] = (),
    ) -> None:
        self.metrics = metrics
        self.clock = clock or SystemClock()
        self.log = logger
        self._began = self.clock.monotonic()
        self._stop = asyncio.Event()
        self._fatal: IngestError | None = None
        share = share or Share()
        self.budget = Budget(config_of(config, share).memory.max_in_flight)
        around = Surroundings(self.clock, metrics, logger, self.budget, files_written_to(logger), share)
        self.graphs = {index: self._graph(config, around, index) for index in (share.index, *orphans)}
        self.graph = self.graphs[share.index]
        self.spool = self.graph.spool
        self.reloader = Reloader(self.graph, lambda: self._load(config, self.graph), self._apply)
        self._others = [
            Reloader(graph, partial(self._load, config, graph), lambda _: None)
            for graph in self.graphs.values()
            if graph is not self.graph
        ]
        self._backlogs: dict[int, Graph] = {}  # of workers that are no more
        self._rates = {graph: status.Rates() for graph in self.graphs.values()}

    def _graph(self, config: Configuration, around: Surroundings, index: int) -> Graph:
        """The graph of this worker, or of one that is no more, which has metrics of its own."""
        if index != around.share.index:
            share = dataclasses.replace(around.share, index=index)
            around = dataclasses.replace(around, share=share, metrics=Metrics())
        mine, types = config_of(config, around.share), {output.name: output.type for output in config.outputs.values()}
        spool = Spool(mine.spool, types, self.clock, self.log, around.metrics, bounds_of(mine))
        return Graph(mine, spool, around, self._fail)

    def _load(self, first: Configuration, graph: Graph) -> Configuration:
        """The configuration as it is now, as this graph takes it; `first` is the one of the start."""
        share = graph.around.share
        found = load(first.given)
        if share.several and (problems := refusals_of_workers(first, found, share)):
            raise ConfigError(problems)
        return config_of(found, share)

    @property
    def config(self) -> Configuration:
        """The configuration that it runs."""
        return self.graph.config

    # --- life ---

    async def run(self) -> None:
        """Start everything and live until `stop`; `graph.listens` is set once every input listens.

        Raises IngestError when the spool or an input cannot be opened at all.
        """
        graphs, reloaders = self.graphs.values(), [self.reloader, *self._others]
        try:
            try:
                await self._open()
            except SpoolDiskError:
                return  # told to stop while it waited for its disk
            async with asyncio.TaskGroup() as group:
                for graph in graphs:
                    graph.start(group)
                for reloader in reloaders:
                    group.create_task(reloader.run())
                others = [group.create_task(each) for each in (self._sample(), watch(self.graph, self.reloader.ask))]
                await self._stop.wait()
                await asyncio.gather(*(reloader.stop() for reloader in reloaders))
                await asyncio.gather(*(graph.finish() for graph in graphs))
                for task in others:
                    task.cancel()
        finally:
            await asyncio.gather(*(graph.close() for graph in graphs))
            await asyncio.gather(*(graph.spool.close() for graph in graphs))
        if self._fatal is not None:
            raise self._fatal

    async def _open(self) -> None:
        for index, graph in self.graphs.items():
            await graph.spool.open(self._stop)
            graph.build()
            if graph is not self.graph and (held := _held(graph)):
                self._backlogs[index] = graph
                self.log.info("delivers %d events of worker %d, which is no more", held, index)

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
        for other in self._others:
            other.ask()

    def ready(self) -> str | None:
        """None when every input listens and the spool takes events, else a sentence that says what is missing."""
        if self._stop.is_set():
            return "shutting down"
        for graph in self.graphs.values():
            if trouble := graph.spool.trouble():
                return f"the disk of the spool refuses: {trouble}"
            missing = graph.not_listening() if graph.inputs else sorted(graph.config.inputs)
            if missing:
                return f"not listening yet: {', '.join(missing)}"
        why = self.spool.why_full()
        return f"{why} and takes no events" if why else None

    async def _sample(self) -> None:
        while True:
            for graph, rates in self._rates.items():
                ledger = graph.spool.ledger()
                totals = status.received(ledger)
                totals.update({f"output {name}": count for name, count in status.delivered(ledger).items()})
                rates.sample(self.clock.monotonic(), totals)
                await self._expire(graph.spool)
            self._say_empty()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _expire(self, spool: Spool) -> None:
        try:
            await spool.dead_letters.expire(spool.usage().letters)
        except SpoolError as error:
            self.log.error("dead letters that are too old could not be let go: %s", error)

    def _say_empty(self) -> None:
        """Say it once when the spool of a worker that is no more holds nothing any more."""
        for index, graph in [*self._backlogs.items()]:
            if not _held(graph):
                del self._backlogs[index]
                self.log.info("everything that the spool of worker %d held is delivered", index)

    # --- what it says of itself ---

    async def why(self, text: str, tag: str | None, peer: str | None) -> dict[str, Any]:
        """What became of an event that is still known; what waits, waits for its output's reason if not for its own."""
        found = [await self._why(graph, text, tag, peer) for graph in self.graphs.values()]
        answer: dict[str, Any] = together(found)
        return answer

    async def _why(self, graph: Graph, text: str, tag: str | None, peer: str | None) -> dict[str, Any]:
        inputs = {name: running.input for name, running in graph.inputs.items()}
        known = await why(text, graph.spool, inputs, tag, peer)
        deliveries = graph.deliveries
        for owed in [owed for event in known.held for owed in event.owed if owed.output in deliveries]:
            owed.why = owed.why or deliveries[owed.output].why
        return known.as_json()

    def status(self) -> dict[str, Any]:
        """The JSON of `/status`."""
        return {
            "version": __version__,
            "configuration": self.config.path,
            "reload_failed": next((each.why for each in (self.reloader, *self._others) if each.why), None),
            "uptime_seconds": self.clock.monotonic() - self._began,
            "ready": self.ready(),
            **together([self._status_of(graph) for graph in self.graphs.values()]),
        }

    def _status_of(self, graph: Graph) -> dict[str, Any]:
        spool, rates = graph.spool, self._rates[graph]
        ledger, now = spool.ledger(), self.clock.monotonic()
        wall = self.clock.time_ns()
        received, delivered = status.received(ledger), status.delivered(ledger)
        held = {name: spool.held(name) for name in graph.deliveries}
        usage = spool.usage()
        removed = spool.backlog_of_removed_outputs()
        return {
            "inputs": {
                name: {
                    "listening": running.where,
                    "received": received[name],
                    "rate": rates.rate(name, now, received[name]),
                }
                for name, running in graph.inputs.items()
            },
            "outputs": {
                name: {
                    "type": graph.config.outputs[name].type,
                    "state": delivery.state,
                    "why": delivery.why or None,
                    "parked": delivery.parked(),
                    "held": held[name].events,
                    "held_bytes": held[name].bytes,
                    "oldest_age_seconds": status.age(held[name].oldest, wall),
                    "delivered": delivered[name],
                    "lost": status.lost(ledger, name),
                    "rate": rates.rate(f"output {name}", now, delivered[name]),
                }
                for name, delivery in graph.deliveries.items()
            },
            "removed_outputs": {name: dataclasses.asdict(each) for name, each in removed.items()},
            "spool": status.spool_status(usage, wall) | status.damage(spool.notices(), spool.trouble()),
            "ledger": status.ledger_rows(ledger),
            "sums": status.sums(ledger, status.owed(held, removed), usage.dead_letters),
        }


def _held(graph: Graph) -> int:
    return sum(graph.spool.held(name).events for name in graph.deliveries)
