"""The running whole: built from a configuration, started, stopped without losing anything.

On SIGTERM the inputs stop first, what they have handed in is committed and acknowledged, the outputs get a few
seconds to deliver, and what they do not manage is delivered at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from typing import Any

from mcp_ingest import __version__
from mcp_ingest.component import Input, Output, find
from mcp_ingest.config.model import Configuration
from mcp_ingest.config.tags import compile_patterns
from mcp_ingest.context import Budget, Clock, Context, SystemClock
from mcp_ingest.engine import letters, status
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.ingest import Ingest
from mcp_ingest.engine.intake import IntakeMaker, Route
from mcp_ingest.engine.log import files_written_to
from mcp_ingest.engine.overflow import Overflow
from mcp_ingest.engine.overflow_report import OverflowReport
from mcp_ingest.engine.own_events import OwnEvents
from mcp_ingest.engine.pipeline import Pipeline, build_pipeline
from mcp_ingest.engine.preview import Previews
from mcp_ingest.engine.replay import Replay
from mcp_ingest.engine.retry import pause
from mcp_ingest.engine.why import Known, why
from mcp_ingest.errors import IngestError, SpoolDiskError, SpoolError
from mcp_ingest.event import describe
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.overflow import Bound

#: Seconds that the outputs get to deliver at a stop.
GRACE = 5.0
#: Seconds that the inputs get to listen before outputs and pages are loaded: an HTTP client takes a tenth of a second,
#: in which a sender could have been served.
INPUTS_FIRST = 0.5
_SAMPLE_SECONDS = 5.0


class Daemon:
    """All parts of one configuration. `run` lives until `stop` is set; the web part reads the rest."""

    def __init__(
        self,
        config: Configuration,
        metrics: Metrics,
        logger: logging.Logger,
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self.metrics = metrics
        self.clock = clock or SystemClock()
        self.listening: dict[str, str] = {}
        self._listened: set[str] = set()  # at least once
        self.log = logger
        self.budget = Budget(config.memory.max_in_flight)
        self._own_files = files_written_to(logger)
        self._rates = status.Rates()
        self._began = self.clock.monotonic()
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None
        self.listens = asyncio.Event()  # every input does, or did once
        types = {output.name: output.type for output in config.outputs.values()}
        self.spool = Spool(config.spool, types, self.clock, logger, metrics, _bounds(config))
        self._inputs: dict[str, Input] = {}
        self._outputs: dict[str, Output] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._replay: Replay | None = None

    # --- life ---

    async def run(self) -> None:
        """Start everything and live until `stop`; `listens` is set once every input listens.

        Raises IngestError when the spool or an input cannot be opened at all.
        """
        try:
            await self.spool.open(self._stop)
        except SpoolDiskError:
            return  # told to stop while it waited for its disk
        try:
            ingest = self._build()
            tell = OwnEvents(ingest, self.clock).emit
            report = OverflowReport(self.config.spool.when_full, tell, self.metrics, self.log)
            overflow = Overflow(self.spool, self._deliveries, report, self.log)
            async with asyncio.TaskGroup() as group:
                pump = group.create_task(ingest.run())
                inputs = [group.create_task(self._run_input(name, ingest)) for name in self._inputs]
                deliveries = [group.create_task(self._deliver(delivery)) for delivery in self._deliveries.values()]
                others = [group.create_task(each) for each in (overflow.run(), report.run(), self._sample())]
                await self._stop.wait()
                ingest.wait_no_more()
                for task in inputs:
                    task.cancel()
                await asyncio.wait(inputs) if inputs else None
                await report.summarise()
                ingest.drain()
                await asyncio.wait([pump])
                await self._deliver_the_rest()
                for task in [*deliveries, *others]:
                    task.cancel()
        finally:
            await asyncio.gather(*(self._close(name) for name in self._outputs))
            await self.spool.close()
        if self._fatal is not None:
            raise self._fatal

    async def _close(self, name: str) -> None:
        """One output's trouble keeps neither the others nor the spool from being closed."""
        try:
            async with asyncio.timeout(GRACE):
                await self._outputs[name].close()
        except Exception as error:
            self.log.warning("output %s could not be closed: %s", name, letters.safe_text(describe(error)))

    async def inputs_first(self) -> None:
        """Wait until every input listens, for a moment at the most: what takes long to load comes after them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INPUTS_FIRST):
                await self.listens.wait()

    def stop(self) -> None:
        """Begin the shutdown; `run` returns when it is done."""
        self._stop.set()

    def ready(self) -> str | None:
        """None when every input listens and the spool takes events, else a sentence that says what is missing."""
        missing = sorted(set(self.config.inputs) - set(self.listening))
        if self._stop.is_set():
            return "shutting down"
        if trouble := self.spool.trouble():
            return f"the disk of the spool refuses: {trouble}"
        if missing:
            return f"not listening yet: {', '.join(missing)}"
        why = self.spool.why_full()
        return f"{why} and takes no events" if why else None

    # --- parts ---

    def _build(self) -> Ingest:
        for name, each in self.config.outputs.items():
            output = find("output", each.type)(each.settings, self._context(name))
            self._outputs[name] = output
        routes = [
            Route(compile_patterns(pipeline.match), build_pipeline(pipeline, self._context(pipeline.name)))
            for pipeline in self.config.pipelines.values()
        ]
        masks = {route.pipeline.name: route.pipeline.mask for route in routes}
        for name, output in self._outputs.items():
            self._deliveries[name] = Delivery(name, output, self.spool, self.clock, self.metrics, self.log, masks)
        maker = IntakeMaker(routes, self._outputs, self.spool, self.clock)
        self._replay = Replay(self.spool, maker, self._outputs, self.log)
        for name, each in self.config.inputs.items():
            self._inputs[name] = find("input", each.type)(each.settings, self._context(name))
        return Ingest(maker, self.spool, self.metrics, self.log)

    def _context(self, name: str, metrics: Metrics | None = None) -> Context:
        return Context(
            name,
            self.clock,
            self.log,
            metrics or self.metrics,
            self.spool.positions,
            self.budget,
            lambda where: self._ready(name, where),
            self._own_files,
        )

    def _ready(self, name: str, where: str) -> None:
        self.listening[name] = where
        self._listened.add(name)
        if set(self.listening) == set(self.config.inputs):
            self.listens.set()

    async def _run_input(self, name: str, ingest: Ingest) -> None:
        """One input for as long as the daemon lives; one that cannot even start ends the daemon with its reason."""
        for attempt in range(1, 1_000_000):
            try:
                await self._inputs[name].run(ingest.emit_for(name, pulls=self._inputs[name].pulls))
            except Exception as caught:  # whatever it was, it is said, and it is tried again where that makes sense
                error = _innermost(caught)
                if name not in self._listened:
                    self._fatal = (
                        error if isinstance(error, IngestError) else IngestError(f"input {name}: {describe(error)}")
                    )
                    self._stop.set()
                    return
                why = letters.safe_text(describe(error))
                self.log.exception("input %s failed and is started again: %s", name, why)
            self.listening.pop(name, None)
            if self._stop.is_set():
                return
            await asyncio.sleep(pause(attempt))

    async def _deliver(self, delivery: Delivery) -> None:
        await self.inputs_first()
        await delivery.run()

    async def _deliver_the_rest(self) -> None:
        """Wait until nothing is held that an output in good health could deliver, `GRACE` seconds at the most."""
        end = self.clock.monotonic() + GRACE
        while self.clock.monotonic() < end:
            if not any(d.state == "up" and self.spool.held(name).events for name, d in self._deliveries.items()):
                return
            await asyncio.sleep(0.02)

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
        if self._replay is None:
            raise SpoolError("the spool is not open")
        return self._replay

    def previews(self) -> Previews:
        """What replays would do; each pipeline is built anew, once, with metrics of its own."""
        built: dict[str, Pipeline] = {}

        def pipeline_of(tag: str) -> Pipeline | None:
            for name, config in self.config.pipelines.items():
                if compile_patterns(config.match)(tag):
                    if name not in built:
                        built[name] = build_pipeline(config, self._context(name, Metrics()))
                    return built[name]
            return None

        return Previews(self.replay, self._outputs, pipeline_of)

    # --- what it says of itself ---

    async def why(self, text: str, tag: str | None, peer: str | None) -> Known:
        """What became of an event that is still known; what waits, waits for its output's reason if not for its own."""
        known = await why(text, self.spool, self._inputs, tag, peer)
        for owed in [owed for event in known.held for owed in event.owed if owed.output in self._deliveries]:
            owed.why = owed.why or self._deliveries[owed.output].why
        return known

    def delivering(self) -> list[str]:
        """The outputs, once the spool is open."""
        return list(self._deliveries)

    def status(self) -> dict[str, Any]:
        """The JSON of `/status`."""
        ledger, now = self.spool.ledger(), self.clock.monotonic()
        wall = self.clock.time_ns()
        received, delivered = status.received(ledger), status.delivered(ledger)
        held = {name: self.spool.held(name) for name in self._deliveries}
        usage = self.spool.usage()
        removed = self.spool.backlog_of_removed_outputs()
        return {
            "version": __version__,
            "configuration": self.config.path,
            "uptime_seconds": now - self._began,
            "ready": self.ready(),
            "inputs": {
                name: {
                    "listening": self.listening.get(name),
                    "received": received[name],
                    "rate": self._rates.rate(name, now, received[name]),
                }
                for name in self.config.inputs
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
                for name, delivery in self._deliveries.items()
            },
            "removed_outputs": {name: dataclasses.asdict(each) for name, each in removed.items()},
            "spool": status.spool_status(usage, wall) | status.damage(self.spool.notices(), self.spool.trouble()),
            "ledger": status.ledger_rows(ledger),
            "sums": status.sums(ledger, status.owed(held, removed), usage.dead_letters),
        }


def _bounds(config: Configuration) -> dict[str, Bound]:
    """What the settings that all outputs have say of their backlogs."""
    outputs = config.outputs.values()
    return {each.name: Bound(each.settings.best_effort, each.settings.max_backlog) for each in outputs}


def _innermost(error: BaseException) -> BaseException:
    """What a task group of one task wraps up."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
