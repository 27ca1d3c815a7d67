"""Another configuration for a graph that runs: built and tried beside it, then put in its place between two turns.

What is unchanged stays the same object: an input with its connections, a stage with its state, an output with its
delivery. New inputs listen before the change, but what they emit waits at a gate until it; so nothing is acknowledged
that the old routes would have taken, and nothing is lost when the change is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mcp_ingest.component import Emit
from mcp_ingest.config.changes import compare, refusals, same_component
from mcp_ingest.config.model import Configuration
from mcp_ingest.engine.graph import Graph, bounds_of
from mcp_ingest.engine.parts import Parts
from mcp_ingest.engine.running import RunningInput
from mcp_ingest.errors import AddressTakenError, ConfigError, IngestError, SpoolError
from mcp_ingest.event import Batch, Progress

#: Seconds within which a new input must listen, and those in which an address is tried that an old one still has.
START_SECONDS, ADDRESS_SECONDS = 30.0, 5.0
_AGAIN_SECONDS = 0.01


class Gate:
    """Lets emits pass once it is open; until then they wait."""

    def __init__(self) -> None:
        self._decided = asyncio.Event()
        self._is_open = False

    def through(self, emit: Emit) -> Emit:
        """The same `emit` behind the gate."""

        async def gated(batch: Batch, progress: Progress | None = None) -> None:
            if not self._is_open:
                await self._decided.wait()
                if not self._is_open:
                    raise SpoolError("the configuration of this input was not taken")
            await emit(batch, progress)

        return gated

    def open(self) -> None:
        """From now on everything passes."""
        self._is_open = True
        self._decided.set()

    def refuse(self) -> None:
        """It will never be open: what waits fails."""
        self._decided.set()


class Change:
    """`prepare` one, then `commit` or `abandon` it. Only `prepare` fails, and then it has been abandoned."""

    def __init__(self, graph: Graph, config: Configuration) -> None:
        self.changes = compare(graph.config, config)
        self._graph = graph
        self._config = config
        self._gate = Gate()
        self._news = asyncio.Event()
        self._parts: Parts | None = None
        self._ids: dict[str, int] = {}
        self._inputs: dict[str, RunningInput] = {}  # as they are to be
        self._in_place: list[Callable[[], None]] = []
        self._coming: list[RunningInput] = []
        self._going: list[RunningInput] = []
        self._stages = _stages(graph.config)
        self._ended = False  # those that go have been ended already

    async def prepare(self) -> None:
        """Build and start all that is new. IngestError where that fails: the graph goes on as it was."""
        graph, config = self._graph, self._config
        if problems := refusals(graph.config, config):
            raise ConfigError(problems)
        try:
            self._parts = graph.build_anew(config)
            self._plan_inputs()
            self._ids = await graph.spool.register({output.name: output.type for output in config.outputs.values()})
            await self._listen()
            self._parts.metrics.publish()
        except Exception:
            await self.abandon()
            raise
        except BaseException:
            self._gate.refuse()  # the daemon stops: what was started ends with all the rest
            raise

    async def commit(self) -> None:
        """Take it: from the next turn on the new routes hold."""
        graph, parts = self._graph, self._parts
        assert parts is not None
        gone = {name: output for name, output in graph.outputs.items() if parts.outputs.get(name) is not output}
        new = [name for name, output in parts.outputs.items() if graph.outputs.get(name) is not output]
        await graph.end_deliveries(gone)
        async with graph.ingest.between_turns():
            await graph.spool.take(self._config.spool, self._ids, bounds_of(self._config))
            graph.take(parts, self._inputs)
            for apply in self._in_place:
                apply()
            for running in self._coming:
                running.heard = graph.heard
            self._gate.open()
        graph.heard()
        await asyncio.gather(*(graph.close_output(name, output) for name, output in gone.items()))
        graph.deliver(new)
        if not self._ended:
            await graph.end(self._going)
        self._forget()

    async def abandon(self) -> None:
        """Undo what was prepared."""
        graph = self._graph
        self._gate.refuse()
        await graph.end(self._coming)
        if self._ended:
            for running in self._going:
                graph.read(running, graph.emit_for(running))
        built = self._parts.outputs if self._parts is not None else {}
        unused = {name: output for name, output in built.items() if graph.outputs.get(name) is not output}
        await asyncio.gather(*(graph.close_output(name, output) for name, output in unused.items()))
        graph.publish()

    # --- inputs --------------------------------------------------------------------------------------------

    def _plan_inputs(self) -> None:
        """Which stay, which go on with other settings, which come and go."""
        old = self._graph.config.inputs
        for name, config in self._config.inputs.items():
            running = self._graph.inputs.get(name)
            if running is not None and same_component(old.get(name), config):
                self._inputs[name] = running
                continue
            apply = None
            if running is not None and old[name].type == config.type:
                apply = running.input.change_to(config.settings)
            if running is not None and apply is not None:
                self._inputs[name] = running
                self._in_place.append(apply)
            else:
                self._inputs[name] = self._graph.input(config, self._news.set)
                self._coming.append(self._inputs[name])
        self._going = [each for name, each in self._graph.inputs.items() if self._inputs.get(name) is not each]

    def _may_overlap(self, running: RunningInput) -> bool:
        """Whether it may start while the old one of its name, if there is one, still runs."""
        return running.input.overlaps or running.name not in self._graph.inputs

    async def _listen(self) -> None:
        """Start those that come; some only once others have ended, which begin anew if that fails."""
        beside = [running for running in self._coming if self._may_overlap(running)]
        problem, taken = await self._start(beside)
        if problem is None and taken and not self._going:
            problem = taken[0].failed
        after = [*taken, *(running for running in self._coming if running not in beside)]
        if problem is None and after:
            self._ended = True
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._graph.end(self._going))
                if not all(map(self._may_overlap, after)):
                    await asyncio.wait([ending])
                problem = await self._start_patiently(after)
        if problem is not None:
            raise problem

    async def _start_patiently(self, inputs: Sequence[RunningInput]) -> IngestError | None:
        """Start them as soon as those that end let go of their addresses; why that did not succeed."""
        clock = self._graph.around.clock
        until = clock.monotonic() + ADDRESS_SECONDS
        while True:
            problem, taken = await self._start(inputs)
            if problem is not None or not taken:
                return problem
            if clock.monotonic() > until:
                return taken[0].failed
            await asyncio.sleep(_AGAIN_SECONDS)
            inputs = taken

    async def _start(self, inputs: Sequence[RunningInput]) -> tuple[IngestError | None, list[RunningInput]]:
        """Start these inputs behind the gate: what is wrong, and whose address somebody has."""
        graph = self._graph
        for running in inputs:
            graph.read(running, self._gate.through(graph.emit_for(running)))
        try:
            async with asyncio.timeout(START_SECONDS):
                while waiting := [each.name for each in inputs if not each.listened and each.failed is None]:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return IngestError(f"input {waiting[0]} does not listen after {START_SECONDS:g} s"), []
        taken = [running for running in inputs if isinstance(running.failed, AddressTakenError)]
        others = [running.failed for running in inputs if running.failed is not None and running not in taken]
        return next(iter(others), None), taken

    # --- what is left of the old ---------------------------------------------------------------------------

    def _forget(self) -> None:
        """The metrics of what is no more: a gauge of it would stand for ever."""
        metrics = self._graph.around.metrics
        for name in self.changes.inputs.removed:
            metrics.forget("input", name)
        for name in self.changes.outputs.removed:
            metrics.forget("output", name)
        for name in self._stages - _stages(self._config):
            metrics.forget("stage", name)


def _stages(config: Configuration) -> set[str]:
    return {stage.name for pipeline in config.pipelines.values() for stage in pipeline.stages}
