"""What one configuration makes of one spool: inputs, routes, outputs, deliveries, and the tasks that move them.

Inputs emit into the ingest, whose turns become commits of the spool, and a delivery for each output takes from it.
The spool is handed in, open or not: a process may have several, each with a graph of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from mcp_ingest.component import Emit, Output
from mcp_ingest.config.model import ComponentConfig, Configuration
from mcp_ingest.config.tags import compile_patterns
from mcp_ingest.context import Budget, Clock, Context, Share
from mcp_ingest.engine import letters
from mcp_ingest.engine.delivery import Delivery
from mcp_ingest.engine.ingest import Ingest
from mcp_ingest.engine.intake import IntakeMaker
from mcp_ingest.engine.overflow import Overflow
from mcp_ingest.engine.overflow_report import OverflowReport
from mcp_ingest.engine.own_events import OwnEvents
from mcp_ingest.engine.parts import Parts, build_parts
from mcp_ingest.engine.pipeline import Pipeline, build_pipeline
from mcp_ingest.engine.preview import Previews
from mcp_ingest.engine.replay import Replay
from mcp_ingest.engine.running import RunningInput
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.event import describe
from mcp_ingest.metrics import Metrics
from mcp_ingest.spool import Spool
from mcp_ingest.spool.overflow import Bound

#: Seconds that the outputs get to deliver at a stop, a request to be answered when its output goes, an input to end.
GRACE = 5.0
#: Seconds that the inputs get to listen before outputs and pages are loaded: an HTTP client takes a tenth of a second,
#: in which a sender could have been served.
INPUTS_FIRST = 0.5

T = TypeVar("T")


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
    did once. A reload (`reload.py`) builds further parts by `build_anew` and puts them in the place of the present ones
    by `take`; the dictionaries, the ingest and the tasks of what is unchanged stay.
    """

    def __init__(
        self, config: Configuration, spool: Spool, around: Surroundings, failed: Callable[[IngestError], None]
    ) -> None:
        self.config = config
        self.spool = spool
        self.around = around
        self.listens = asyncio.Event()
        self.changing = asyncio.Lock()  # who has it may count on its outputs
        self.inputs: dict[str, RunningInput] = {}
        self.outputs: dict[str, Output] = {}
        self.deliveries: dict[str, Delivery] = {}
        self._replay: Replay | None = None  # once it is built
        self._masks: dict[str, letters.Mask] = {}  # the rules of each pipeline, by its name
        self.fail = failed
        self._pump: asyncio.Task[None] | None = None
        self._keeping: list[asyncio.Task[None]] = []  # the spool within its bounds
        self._reading: dict[RunningInput, asyncio.Task[None]] = {}
        self._delivering: dict[Delivery, asyncio.Task[None]] = {}

    # --- life ----------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Make all parts; nothing runs yet. IngestError where one cannot be built."""
        clock, log, metrics = self.around.clock, self.around.log, self.around.metrics
        parts = build_parts(self.config, metrics, self.context)
        parts.metrics.publish()
        self._maker = IntakeMaker([], {}, self.spool, clock)
        self._replay = Replay(self.spool, self._maker, self.outputs, log)
        self.ingest = Ingest(self._maker, self.spool, metrics, log)
        tell = OwnEvents(self.ingest, clock).emit
        self._report = OverflowReport(self.config.spool.when_full, tell, metrics, log)
        self._overflow = Overflow(self.spool, self.deliveries, self._report, log)
        self.take(parts, {name: self.input(each, self.heard) for name, each in self.config.inputs.items()})

    def start(self, group: asyncio.TaskGroup) -> None:
        """Set everything going, as tasks of the group, which live until `finish`."""
        self._group = group
        self._pump = group.create_task(self.ingest.run())
        self._keeping = [group.create_task(each) for each in (self._overflow.run(), self._report.run())]
        for running in self.inputs.values():
            self.read(running, self.emit_for(running))
        self.deliver(self.deliveries)

    async def finish(self) -> None:
        """Stop taking in, make what was taken in durable, give the outputs a moment; all tasks end."""
        self.ingest.wait_no_more()
        for running in self._reading:
            running.end()
        await _cancel(self._reading.values())
        await self._report.summarise()
        self.ingest.drain()
        if self._pump is not None:
            await asyncio.wait([self._pump])
        await self._deliver_the_rest()
        await _cancel([*self._delivering.values(), *self._keeping])

    async def close(self) -> None:
        """Close every output; one's trouble keeps neither the others nor the spool from being closed."""
        await asyncio.gather(*(self.close_output(name, output) for name, output in self.outputs.items()))

    async def close_output(self, name: str, output: Output) -> None:
        """Close an output, whatever it says of that."""
        try:
            async with asyncio.timeout(GRACE):
                await output.close()
        except Exception as error:
            self.around.log.warning("output %s could not be closed: %s", name, letters.safe_text(describe(error)))

    # --- parts ---------------------------------------------------------------------------------------------

    def build_anew(self, config: Configuration) -> Parts:
        """The parts of another configuration, with those that are unchanged; IngestError where one cannot be built."""
        return build_parts(config, self.around.metrics, self.context, self._parts)

    def publish(self) -> None:
        """What its stages declare, and nothing else, is on /metrics."""
        self._parts.metrics.publish()

    def input(self, config: ComponentConfig, heard: Callable[[], None]) -> RunningInput:
        """An input of these settings; IngestError where it cannot be built."""
        return RunningInput(config, self.context(config.name), heard)

    def take(self, parts: Parts, inputs: Mapping[str, RunningInput]) -> None:
        """These are the parts from now on; a delivery is made for each output that is not there yet.

        Between two turns, and once the spool has taken their outputs.
        """
        self._parts, self.config = parts, parts.config
        self._report.policy = parts.config.spool.when_full
        self._maker.use(parts.routes, self.outputs)
        self._take_masks({route.pipeline.name: route.pipeline.mask for route in parts.routes})
        for name in [name for name, output in self.outputs.items() if parts.outputs.get(name) is not output]:
            del self.outputs[name], self.deliveries[name]
        around = self.around
        for name, output in parts.outputs.items():
            if name not in self.outputs:
                self.deliveries[name] = Delivery(
                    name, output, self.spool, around.clock, around.metrics, around.log, self._masks
                )
        _become(self.outputs, parts.outputs)
        _become(self.deliveries, {name: self.deliveries[name] for name in parts.outputs})
        _become(self.inputs, inputs)

    def _take_masks(self, masks: Mapping[str, letters.Mask]) -> None:
        """The rules of pipelines that are no more are kept until nothing is owed that went through them."""
        if not self.spool.usage().chunks:
            self._masks.clear()
        self._masks.update(masks)

    def context(self, name: str, metrics: Metrics | None = None) -> Context:
        """What the part of this name is handed; `metrics` are its own where it is only tried."""
        around, positions = self.around, self.spool.positions
        clock, log, metrics = around.clock, around.log, metrics or around.metrics
        return Context(
            name,
            clock,
            log,
            metrics,
            positions,
            around.budget,
            own_files=around.own_files,
            share=around.share,
            lost_positions=lambda: any(notice.positions_lost for notice in self.spool.notices()),
        )

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
                        built[name] = build_pipeline(config, self.context(name, Metrics()))
                    return built[name]
            return None

        return Previews(self.replay, self.outputs, pipeline_of)

    # --- inputs at work ------------------------------------------------------------------------------------

    def emit_for(self, running: RunningInput) -> Emit:
        """What this input emits to."""
        return self.ingest.emit_for(running.name, pulls=running.input.pulls)

    def read(self, running: RunningInput, emit: Emit) -> None:
        """Set an input going."""
        running.begin()
        task = self._reading[running] = self._group.create_task(running.run(emit))
        task.add_done_callback(partial(self._has_read, running))

    def _has_read(self, running: RunningInput, task: asyncio.Task[None]) -> None:
        if self._reading.get(running) is task:
            del self._reading[running]

    async def end(self, inputs: Iterable[RunningInput]) -> None:
        """End these inputs: what they have taken in becomes durable and is acknowledged.

        What does not within a while (a full spool, say) is refused, and their senders send it again.
        """
        ending = [running for running in inputs if running in self._reading]
        tasks = {self._reading[running] for running in ending}
        if not tasks:
            return
        for running in ending:
            running.end()
            self._reading[running].cancel()
        _, late = await asyncio.wait(tasks, timeout=GRACE)
        if late:
            self.ingest.refuse({running.name for running in ending}, "the input ends: the configuration changed")
            _, late = await asyncio.wait(late, timeout=2 * GRACE)
        for running in ending:
            if self._reading.get(running) in late:
                self.around.log.error("input %s does not end: a fault in it; it is left to itself", running.name)

    def heard(self) -> None:
        """An input listens now, or cannot start."""
        for running in self.inputs.values():
            if running.failed is not None:
                self.fail(running.failed)
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

    # --- outputs at work -----------------------------------------------------------------------------------

    def deliver(self, names: Iterable[str]) -> None:
        """Set the deliveries of these outputs going."""
        for delivery in [self.deliveries[name] for name in names]:
            task = self._delivering[delivery] = self._group.create_task(self._deliver(delivery))
            task.add_done_callback(partial(self._delivered, delivery))

    async def end_deliveries(self, names: Collection[str]) -> None:
        """Let the requests of these outputs be answered, for a while; nothing is sent any more."""
        ending = [self.deliveries[name] for name in names]
        tasks = [self._delivering[delivery] for delivery in ending if delivery in self._delivering]
        for delivery in ending:
            delivery.finish()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=GRACE)
        await _cancel(late)

    def _delivered(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        del self._delivering[delivery]

    async def _deliver(self, delivery: Delivery) -> None:
        await self.inputs_first()
        await delivery.run()

    async def _deliver_the_rest(self) -> None:
        """Wait until nothing is held that an output in good health could deliver, `GRACE` seconds at the most."""
        clock = self.around.clock
        end = clock.monotonic() + GRACE
        while clock.monotonic() < end:
            if not any(d.state == "up" and self.spool.held(name).events for name, d in self.deliveries.items()):
                return
            await asyncio.sleep(0.02)


def bounds_of(config: Configuration) -> dict[str, Bound]:
    """What the settings that all outputs have say of their backlogs."""
    outputs = config.outputs.values()
    return {each.name: Bound(each.settings.best_effort, each.settings.max_backlog) for each in outputs}


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    if cancelled:
        await asyncio.wait(cancelled)


def _become(old: dict[str, T], new: Mapping[str, T]) -> None:
    """The same dictionary, with other entries: others hold it."""
    entries = dict(new)
    old.clear()
    old.update(entries)
