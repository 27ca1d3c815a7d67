"""What one configuration makes of one spool: inputs, routes, outputs, deliveries, and the tasks that move them.

Inputs emit into the ingest, whose turns become commits of the spool, and a delivery for each output takes from it.
The spool is handed in, open or not: a process may have several, each with a graph of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from mcp_ingest.component import Output, find
from mcp_ingest.config.model import Configuration
from mcp_ingest.config.tags import compile_patterns
from mcp_ingest.context import Budget, Clock, Context, Share
from mcp_ingest.engine import letters
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.ingest import Ingest
from mcp_ingest.engine.intake import IntakeMaker, Route
from mcp_ingest.engine.pipeline import Pipeline, build_pipeline
from mcp_ingest.engine.preview import Previews
from mcp_ingest.engine.replay import Replay
from mcp_ingest.engine.running import RunningInput
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.event import describe
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool

#: Seconds that the outputs get to deliver at a stop.
GRACE = 5.0
#: Seconds that the inputs get to listen before outputs and pages are loaded: an HTTP client takes a tenth of a second,
#: in which a sender could have been served.
INPUTS_FIRST = 0.5


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all graphs of a process share; `own_files` as in `Context`."""

    clock: Clock
    metrics: Metrics
    log: logging.Logger
    budget: Budget
    own_files: frozenset[tuple[int, int]] = frozenset()
    share: Share = field(default_factory=Share)


class Graph:
    """`build` it once its spool is open, `start` its tasks, `finish`, `close`.

    `failed` is called with the reason of an input that cannot even start. `listens` is set once every input does, or
    did once.
    """

    def __init__(
        self, config: Configuration, spool: Spool, around: Surroundings, failed: Callable[[IngestError], None]
    ) -> None:
        self.config = config
        self.spool = spool
        self.listens = asyncio.Event()
        self.inputs: dict[str, RunningInput] = {}
        self.outputs: dict[str, Output] = {}
        self.deliveries: dict[str, Delivery] = {}
        self._around = around
        self._failed = failed
        self._replay: Replay | None = None
        self._tasks: dict[str, list[asyncio.Task[None]]] = {"ingest": [], "inputs": [], "deliveries": []}

    # --- life ----------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make all parts; nothing runs yet."""
        around, config = self._around, self.config
        for name, each in config.outputs.items():
            self.outputs[name] = find("output", each.type)(each.settings, self._context(name))
        routes = [
            Route(compile_patterns(pipeline.match), build_pipeline(pipeline, self._context(pipeline.name)))
            for pipeline in config.pipelines.values()
        ]
        masks = {route.pipeline.name: route.pipeline.mask for route in routes}
        for name, output in self.outputs.items():
            self.deliveries[name] = Delivery(name, output, self.spool, around.clock, around.metrics, around.log, masks)
        maker = IntakeMaker(routes, self.outputs, self.spool, around.clock)
        self.ingest = Ingest(maker, self.spool, around.metrics, around.log)
        self._replay = Replay(self.spool, maker, self.outputs, around.log)
        for name, each in config.inputs.items():
            self.inputs[name] = RunningInput(each, self._context(name), self._heard)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Set everything going, as tasks of the group."""
        make, tasks = group.create_task, self._tasks
        tasks["ingest"] = [make(self.ingest.run())]
        tasks["inputs"] = [make(each.run(self.ingest.emit_for(name))) for name, each in self.inputs.items()]
        tasks["deliveries"] = [make(self._deliver(delivery)) for delivery in self.deliveries.values()]

    async def finish(self) -> None:
        """Stop taking in, make what was taken in durable, give the outputs a moment; all tasks end."""
        self.ingest.wait_no_more()
        for running in self.inputs.values():
            running.end()
        await _cancel(self._tasks["inputs"])
        self.ingest.drain()
        await asyncio.wait(self._tasks["ingest"])
        await self._deliver_the_rest()
        await _cancel(self._tasks["deliveries"])

    async def close(self) -> None:
        """Close every output; one's trouble keeps neither the others nor the spool from being closed."""
        await asyncio.gather(*(self._close(name) for name in self.outputs))

    async def _close(self, name: str) -> None:
        try:
            async with asyncio.timeout(GRACE):
                await self.outputs[name].close()
        except Exception as error:
            self._around.log.warning("output %s could not be closed: %s", name, letters.safe_text(describe(error)))

    # --- dead letters --------------------------------------------------------------------------------------

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

        return Previews(self.replay, self.outputs, pipeline_of)

    # --- parts ---------------------------------------------------------------------------------------------

    def _context(self, name: str, metrics: Metrics | None = None) -> Context:
        around = self._around
        return Context(
            name,
            around.clock,
            around.log,
            metrics or around.metrics,
            self.spool.positions,
            around.budget,
            own_files=around.own_files,
            share=around.share,
        )

    def _heard(self) -> None:
        """An input listens now, or cannot start."""
        for running in self.inputs.values():
            if running.failed is not None:
                self._failed(running.failed)
        if not self.not_listening():
            self.listens.set()

    def not_listening(self) -> list[str]:
        """The inputs that take nothing yet, or no more."""
        return sorted(name for name, running in self.inputs.items() if running.where is None)

    async def inputs_first(self) -> None:
        """Wait until every input listens, for a moment at the most: what takes long to load comes after them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INPUTS_FIRST):
                await self.listens.wait()

    async def _deliver(self, delivery: Delivery) -> None:
        await self.inputs_first()
        await delivery.run()

    async def _deliver_the_rest(self) -> None:
        """Wait until nothing is held that an output in good health could deliver, `GRACE` seconds at the most."""
        clock = self._around.clock
        end = clock.monotonic() + GRACE
        while clock.monotonic() < end:
            if not any(d.state == "up" and self.spool.held(name).events for name, d in self.deliveries.items()):
                return
            await asyncio.sleep(0.02)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
