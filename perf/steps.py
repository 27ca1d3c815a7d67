"""Where the time goes, step by step: `python -m perf.steps [--runs 7] [--write]`.

The steps of S3 and S3W in the daemon's own parts, without sockets (`way.py`), each with a probe (`probes.py`): frames
of 1,000 events over eight lanes, so that commits and requests are shared as under load. A round goes through both
chains in turn, in small portions, then has the whole daemon with the same chains between load generator and sink. All
of it is beside a floor of the same seconds (`floor_beside.py`): what a step costs in floors is the median of the
rounds, in µs that times the median floor.

What no probe takes is one line: the event loop, futures, the two threads waking each other, the books of delivery.
What the whole daemon costs above that is the network: reading sockets, HTTP to Elasticsearch, acknowledgements.

After that what a batch costs that is small: the whole way of frames of 1, 3, 64 and 1,000 events.

`--write` keeps the measurements in `results/steps.json` and puts the tables into `docs/speed.md` (see `page.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from mcp_ingest.engine import ingest, intake, pipeline
from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from mcp_ingest.outputs import elasticsearch
from mcp_ingest.spool import chunk, transaction, worker
from perf import machine, page
from perf.arguments import count
from perf.floor_beside import FloorBeside
from perf.measure import measure
from perf.probes import Place, Probes
from perf.program import McpIngest
from perf.scenario import ROOT, Scenario, scenarios
from perf.way import SERVER, Way, frames, opened

RESULTS = ROOT / "perf" / "results" / "steps.json"
CHAINS = ("S3", "S3W")
EVENTS, LANES = 1_000, 8  # of a frame; that are under way
_FRAMES, _PORTIONS = 16, 5  # of a portion; of a round
_WARM = 8
_EVENTS_OF_DAEMON = 150_000
#: Events of a frame, and how many frames of them.
SMALL = {1: 400, 3: 400, 64: 200, 1_000: 24}

_DISK = "SQLite: commit and later delete, fsynced"
_BLOB = "chunk as a blob with its columns"
#: The functions with a probe, and what they are called. A stage is called by its name.
PLACES: Sequence[Place] = (
    (ingest.Ingest, "_turn", "taking waiting batches together, freeing their records"),
    (intake.IntakeMaker, "make", "routing, priorities, ledger"),
    (pipeline, "_apply", lambda stage, batch: f"`{stage.context.name}`"),
    (intake, "finish", "the one serialisation, with ids and times"),
    (elasticsearch.Elasticsearch, "address", "names of indices"),
    (chunk, "segment", "compression (isal, level 1)"),
    (transaction.Writer, "prepare", _BLOB),
    (transaction, "encode", _BLOB),
    (transaction.Writer, "write", _DISK),
    (worker.Worker, "_checkpoint", _DISK),
    (elasticsearch.Elasticsearch, "_request", "request from stored segments"),
    (elasticsearch, "verdicts", "verdicts of the answer"),
)
ALONE = "a chunk of 1,000 in a commit of its own"
REST = "event loop, futures, threads waking each other, delivery's books"
TOGETHER = "together, in this process"
NETWORK = "sockets, HTTP, acknowledgements"
DAEMON = "the whole daemon"

#: CPU an event by step: in µs as it is measured, in floors as it is kept.
Costs = dict[str, float]


@dataclasses.dataclass
class Steps:
    """What was measured: a floor a round, in µs; the costs of each round of each chain; of small batches the same."""

    machine: dict[str, str]
    floors: list[float] = dataclasses.field(default_factory=list)
    chains: dict[str, list[Costs]] = dataclasses.field(default_factory=dict)
    #: µs a batch: by events of a batch, one connection and eight, a value a round.
    batches: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)


# --- measuring -----------------------------------------------------------------------------------------------


def run(work: Callable[[Path], Coroutine[Any, Any, Any]], parent: Path) -> Any:
    """Run it in the daemon's event loop, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix="steps-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(work(Path(directory)))


async def chains(named: Sequence[Scenario], sent: Sequence[bytes], portions: int, directory: Path) -> dict[str, Costs]:
    """One round: what each step of each chain cost an event, in µs."""
    async with AsyncExitStack() as stack:
        ways = []
        for scenario in named:
            probes, place = Probes(), directory / scenario.name
            place.mkdir()
            ways.append(Chain(probes, await stack.enter_async_context(opened(scenario, place, probes))))
        for portion in range(portions + 1):
            for each in ways:
                await each.portion(sent)
                if not portion:  # the first warms up
                    each.reset()
        for each in ways:
            await each.commits_alone(sent)
    return {scenario.name: each.costs() for scenario, each in zip(named, ways, strict=True)}


class Chain:
    """One open chain, and what its events cost so far."""

    def __init__(self, probes: Probes, way: Way) -> None:
        self._probes = probes
        self._way = way
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self._probes.reset()
        self._seconds, self._events, self._alone = 0.0, 0, 0.0

    async def portion(self, sent: Sequence[bytes]) -> None:
        """Carry these frames as under load."""
        with self._probes.at(PLACES):
            self._seconds += await self._way.through(sent, LANES)
        self._events += len(sent) * EVENTS

    async def commits_alone(self, sent: Sequence[bytes]) -> None:
        """Carry them one after another, each in a commit of its own, and note what the disk cost."""
        before = dict(self._probes.spent)
        with self._probes.at(PLACES):
            await self._way.through(sent, 1)
        self._alone = (self._probes.spent[_DISK] - before[_DISK]) / (len(sent) * EVENTS) / 1e3
        self._probes.spent = before

    def costs(self) -> Costs:
        """Microseconds an event."""
        costs = {name: spent / self._events / 1e3 for name, spent in self._probes.spent.items()}
        together = self._seconds / self._events * 1e6 - costs.pop(SERVER)
        rest = together - sum(costs.values())
        return {**costs, REST: rest, ALONE: self._alone, TOGETHER: together}


async def small(scenario: Scenario, sent: Sequence[bytes], lanes: int, directory: Path) -> float:
    """Microseconds of CPU for each of these frames, the whole way."""
    probes = Probes()
    async with opened(scenario, directory, probes) as way:
        await way.through(sent[:_WARM], lanes)
        probes.reset()
        took = await way.through(sent, lanes)
    return (took * 1e9 - probes.spent[SERVER]) / len(sent) / 1e3


def once(steps: Steps, named: Sequence[Scenario], sent: Sequence[bytes], parent: Path, daemon: bool) -> None:
    """One round of the chains."""
    with FloorBeside() as floor:
        found: dict[str, Costs] = run(partial(chains, named, sent, _PORTIONS), parent)
    steps.floors.append(floor.value)
    for scenario in named:
        mine = {step: cost / floor.value for step, cost in found[scenario.name].items()}
        if daemon:
            with FloorBeside() as beside:
                figures = measure(scenario.shortened(_EVENTS_OF_DAEMON), McpIngest(), parent)
            mine[DAEMON] = figures["cpu_us"] / beside.value
            mine[NETWORK] = mine[DAEMON] - mine[TOGETHER]
        steps.chains.setdefault(scenario.name, []).append(mine)


def once_small(steps: Steps, scenario: Scenario, sent: Mapping[int, Sequence[bytes]], parent: Path) -> None:
    """One round of small batches."""
    for events, some in sent.items():
        for lanes in (1, LANES):
            took: float = run(partial(small, scenario, some, lanes), parent)
            steps.batches.setdefault(str(events), {}).setdefault(str(lanes), []).append(took)


# --- showing -------------------------------------------------------------------------------------------------


def chain_table(steps: Steps, name: str) -> str:
    """The steps of one chain as a table, in the order in which an event meets them."""
    rounds = steps.chains[name]
    own = [step for step in rounds[0] if step not in (ALONE, TOGETHER, REST, DAEMON, NETWORK)]
    order = [*own, REST, f"**{TOGETHER}**", *((NETWORK, f"**{DAEMON}**") if DAEMON in rounds[0] else ())]
    rows = []
    for step in order:
        rows.append(_row(steps, rounds, step))
        if step == _DISK:
            rows.append(_row(steps, rounds, ALONE, f"({ALONE})", "({})"))
    beside = f"| the floor: decode to dicts and serialise, nothing else | {statistics.median(steps.floors):.2f} | 1 |"
    return "\n".join([f"| {name}, step by step | µs an event | floors |", "| --- | --: | --: |", *rows, beside])


def _row(steps: Steps, rounds: Sequence[Costs], step: str, title: str = "", form: str = "{}") -> str:
    cost = statistics.median(costs[step.strip("*")] for costs in rounds)
    form = f"**{form}**" if step.startswith("**") else form
    shown = (form.format(f"{cost * statistics.median(steps.floors):.2f}"), form.format(f"{cost:.2f}"))
    return f"| {title or step} | {shown[0]} | {shown[1]} |"


def batch_table(steps: Steps) -> str:
    """What frames of few events cost."""
    head = ["| events in a frame | one connection: µs a frame | µs an event | eight: µs a frame | µs an event |"]
    rows = []
    for events, lanes in steps.batches.items():
        cells = [text for taken in lanes.values() for text in _costs(statistics.median(taken), int(events))]
        rows.append(f"| {int(events):,} | {' | '.join(cells)} |")
    return "\n".join([*head, f"|{' --: |' * 5}", *rows])


def _costs(frame: float, events: int) -> Iterable[str]:
    return f"{frame:,.0f}", f"{frame / events:,.1f}"


def tables(steps: Steps) -> dict[str, str]:
    """All tables by the names of their places on the page."""
    found = {f"steps {name}": chain_table(steps, name) for name in steps.chains}
    return {**found, "batches": batch_table(steps)} if steps.batches else found


def as_json(steps: Steps) -> str:
    """The measurements with so many digits as mean something."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.4g}")
        if isinstance(value, dict):
            return {name: rounded(each) for name, each in value.items()}
        return [*map(rounded, value)] if isinstance(value, list) else value

    return json.dumps(rounded(dataclasses.asdict(steps)), indent=1, ensure_ascii=False) + "\n"


def read(path: Path = RESULTS) -> Steps:
    """What was kept."""
    return Steps(**json.loads(path.read_text(encoding="utf-8")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show; with `--write` keep it and write the page."""
    parser = argparse.ArgumentParser("python -m perf.steps")
    parser.add_argument("--runs", type=count, default=7, help="rounds; their medians count (7)")
    parser.add_argument("--no-daemon", dest="daemon", action="store_false", help="without the whole daemon beside it")
    parser.add_argument("--write", action="store_true", help="keep the measurements, and write docs/speed.md")
    parser.add_argument("--directory", help="where the spools are made: the disk to measure (the system's /tmp)")
    options = parser.parse_args(arguments)
    tune_allocator()
    known = scenarios()
    sent = frames(_FRAMES, EVENTS)
    few = {events: frames(count, events) for events, count in SMALL.items()}
    tune_collector()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="mcp-ingest-steps-") as folder:
        steps = Steps(machine.describe(Path(folder), ROOT))
        for number in range(options.runs):
            print(f"round {number + 1} of {options.runs}", file=sys.stderr, flush=True)
            once(steps, [known[name] for name in CHAINS], sent, Path(folder), options.daemon)
            once_small(steps, known["S3"], few, Path(folder))
    print("\n\n".join(tables(steps).values()))
    if options.write:
        RESULTS.write_text(as_json(steps), encoding="utf-8")
        page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
