"""Reload: another configuration is loaded, checked and taken, one at a time, or the old one goes on.

It is asked for by SIGHUP, by `mcp-ingest reload` and, where `reload_on_change` says so, by a change of the files. Who
asks while one is under way gets the next one, together with all others who wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mcp_ingest.config.changes import Changes, Difference
from mcp_ingest.config.model import ComponentConfig, Configuration
from mcp_ingest.engine.change import Change
from mcp_ingest.engine.graph import Graph
from mcp_ingest.engine.letters import safe_text
from mcp_ingest.engine.tuning import collect_replaced
from mcp_ingest.errors import ConfigError, IngestError
from mcp_ingest.event import describe
from mcp_ingest.metrics import CONFIG_RELOAD_SUCCESS, CONFIG_RELOAD_TIME


class Neighbour(Protocol):
    """Something beside the graph that the configuration has settings for, such as the pages."""

    async def prepare(self, config: Configuration) -> None:
        """Make ready for this configuration; IngestError says why that cannot be."""
        ...

    async def settle(self, *, taken: bool) -> None:
        """It was taken, or not: let go of the old, or of what was prepared."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A configuration that was taken: what it changed, and what `check` warns of.

    `backlogs` are the events that outputs which it removed still owe, by `name (type)`.
    """

    configuration: str
    changes: Changes
    warnings: tuple[str, ...]
    backlogs: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The same as values of JSON."""
        beside = {"warnings": self.warnings, "backlogs": self.backlogs}
        return {"configuration": self.configuration, **asdict(self.changes), **beside}


class Reloader:
    """Takes other configurations for a graph. `run` is its task, which `stop` ends.

    `load` reads the configuration, in a thread; `apply` takes what is neither the graph's nor a neighbour's. `why` says
    why the last one was not taken, None where it was.
    """

    def __init__(self, graph: Graph, load: Callable[[], Configuration], apply: Callable[[Configuration], None]) -> None:
        self.why: str | None = None
        self.neighbours: list[Neighbour] = []
        self._graph = graph
        self._load = load
        self._apply = apply
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[Taken]] = []
        self._task: asyncio.Task[Any] | None = None
        self._committing = self._stopping = False
        self._say_success()

    def ask(self) -> None:
        """Reload soon; nobody waits for it."""
        self._asked.set()

    async def reload(self) -> Taken:
        """Reload and say what changed; IngestError (ConfigError for mistakes in the files) when nothing did."""
        if self._stopping:
            raise IngestError("the daemon stops")
        future: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.ask()
        return await future

    async def run(self) -> None:
        """Do what is asked for, until `stop`."""
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                await self._asked.wait()
                self._asked.clear()
                waiting, self._waiting = self._waiting, []
                try:
                    async with self._graph.changing:
                        taken = await self._reload()
                    self._answer(waiting, taken)
                except asyncio.CancelledError:
                    self._waiting += waiting
                    raise
                except Exception as error:
                    self._answer(waiting, self._failed(error))
        finally:
            self._answer(self._waiting, IngestError("the daemon stops"))

    async def stop(self) -> None:
        """Give up what is only being prepared, wait for what is being taken."""
        self._stopping = True
        if self._task is not None and not self._task.done():
            if not self._committing:
                self._task.cancel()
            await asyncio.wait([self._task])

    # --- one reload ----------------------------------------------------------------------------------------

    async def _reload(self) -> Taken:
        config = await asyncio.to_thread(self._load)
        change, outputs = Change(self._graph, config), self._graph.config.outputs
        if not change.changes.nothing:
            await self._prepare(change, config)
            await self._commit(change, config)
        taken = Taken(config.path, change.changes, config.warnings, self._backlogs(outputs.values()))
        self._took(taken)
        return taken

    async def _prepare(self, change: Change, config: Configuration) -> None:
        prepared: list[Neighbour] = []
        try:
            for neighbour in self.neighbours:
                await neighbour.prepare(config)
                prepared.append(neighbour)
            await change.prepare()
        except BaseException:
            for neighbour in prepared:
                await neighbour.settle(taken=False)
            raise

    async def _commit(self, change: Change, config: Configuration) -> None:
        """Nothing here may fail: if it does, half of it is taken, and only a new start makes it whole."""
        self._committing = True
        try:
            await change.commit()
            self._apply(config)
            for neighbour in self.neighbours:
                await neighbour.settle(taken=True)
        except Exception as error:
            why = safe_text(describe(error))
            self._graph.fail(IngestError(f"a reload stopped half way, start the daemon again: {why}"))
            raise
        finally:
            self._committing = False

    def _backlogs(self, outputs: Iterable[ComponentConfig]) -> dict[str, int]:
        """What those of these outputs owe that are no more."""
        names = {f"{output.name} ({output.type})" for output in outputs}
        removed = self._graph.spool.backlog_of_removed_outputs()
        return {name: held.events for name, held in removed.items() if name in names}

    def _took(self, taken: Taken) -> None:
        log = self._graph.around.log
        for warning in taken.warnings:
            log.warning("%s", warning)
        log.info("reloaded %s: %s", taken.configuration, summary(taken.changes))
        for name, events in taken.backlogs.items():
            log.warning("%d events of the removed output %s wait in the spool", events, name)
        self._say_success()
        collect_replaced()

    def _failed(self, error: Exception) -> IngestError:
        log = self._graph.around.log
        problem = error if isinstance(error, IngestError) else IngestError(safe_text(describe(error)))
        if problem is not error:
            log.exception("a configuration was not taken: a fault in mcp-ingest")
        for sentence in problem.problems if isinstance(problem, ConfigError) else [str(problem)]:
            log.error("reload failed, the old configuration goes on: %s", sentence)
        self.why = str(problem)
        self._graph.around.metrics.gauge(CONFIG_RELOAD_SUCCESS).set(0)
        return problem

    def _say_success(self) -> None:
        around, self.why = self._graph.around, None
        around.metrics.gauge(CONFIG_RELOAD_SUCCESS).set(1)
        around.metrics.gauge(CONFIG_RELOAD_TIME).set(around.clock.time_ns() / 1e9)

    @staticmethod
    def _answer(waiting: list[asyncio.Future[Taken]], result: Taken | IngestError) -> None:
        for future in waiting:
            if future.done():  # who asked went away
                continue
            if isinstance(result, Taken):
                future.set_result(result)
            else:
                future.set_exception(result)


def summary(changes: Changes) -> str:
    """What changed, in one line."""
    parts = []
    for kind, difference in changes.by_kind().items():
        parts += [f"{kind} {how}: {', '.join(names)}" for how, names in _changed(difference).items() if names]
    if changes.settings:
        parts.append(f"settings changed: {', '.join(changes.settings)}")
    return "; ".join(parts) or "nothing changed"


def _changed(difference: Difference) -> dict[str, tuple[str, ...]]:
    return {"added": difference.added, "changed": difference.changed, "removed": difference.removed}
