"""The guard: `python -m perf.guard` fails when S2 or S3 costs over 25 % more floors than `results/ratios.json` says.

    python -m perf.guard             measure and compare; ends with 1 if it grew
    python -m perf.guard --record    measure and write the ratios down

Absolute times say nothing on a CI machine, so the cost is a ratio to the floor of the same minutes. What disturbs a run
(a neighbour, a throttled core, a cold cache) makes it dearer and never cheaper, and the floor likewise. So the ratio is
the least cost of all runs over the least floor of all runs: both are what the undisturbed machine would show. A single
lucky floor or run cannot make it fail or pass, as the ratio of one run to the floor beside it would: that varied by a
third within a minute where this varied by a tenth.

Three runs of each, a floor before and after every one. Where a ratio is over the limit then, three more: a real
regression is in every run and stays, a noisy minute passes. The recording takes all six, so that like is compared with
like. A scenario that got cheaper is said so: record it, else the next regression has that much room.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf.measure import floor, measure
from perf.program import McpIngest
from perf.scenario import ROOT, Scenario, scenarios

RATIOS = ROOT / "perf" / "results" / "ratios.json"
GUARDED = ("S2", "S3")
GROWTH = 1.25
_EVENTS = 60_000
_FIRST, _MOST = 3, 6


@dataclass
class Ratios:
    """What was measured so far: µs an event of each scenario, and of the floor."""

    costs: dict[str, list[float]] = field(default_factory=dict)
    floors: list[float] = field(default_factory=list)

    def ratio(self, scenario: str) -> float:
        """Its least cost in the least floor."""
        return min(self.costs[scenario]) / min(self.floors)


def grown(ratios: Ratios, recorded: Mapping[str, float]) -> list[str]:
    """The scenarios that cost over `GROWTH` times what is recorded."""
    return [name for name in ratios.costs if ratios.ratio(name) > recorded[name] * GROWTH]


def watch(recorded: Mapping[str, float], measured: Callable[[Ratios], None]) -> Ratios:
    """Measure until nothing is over its limit, three times at least and six at most.

    `measured` adds one run of every scenario.
    """
    ratios = Ratios()
    for number in range(_MOST):
        if number >= _FIRST and not grown(ratios, recorded):
            break
        measured(ratios)
    return ratios


def _measured_in(folder: Path, guarded: Sequence[Scenario]) -> Callable[[Ratios], None]:
    def once(ratios: Ratios) -> None:
        for scenario in guarded:
            ratios.floors.append(floor())
            figures = measure(scenario, McpIngest(), folder)
            ratios.costs.setdefault(scenario.name, []).append(figures["cpu_us"])
        ratios.floors.append(floor())

    return once


def verdict(ratios: Ratios, recorded: Mapping[str, float]) -> list[str]:
    """One line for each scenario: what it costs, what is recorded, and what follows."""
    lines = []
    for name in ratios.costs:
        now, then = ratios.ratio(name), recorded[name]
        growth = now / then
        word = "grew too much" if growth > GROWTH else "got cheaper: record it" if growth < 1 / GROWTH else "holds"
        lines.append(f"{name}: {now:.2f} floors, recorded {then:.2f}, limit {then * GROWTH:.2f}: {word}")
    runs = max(map(len, ratios.costs.values()))
    return [*lines, f"{runs} runs of {_EVENTS} events each; the floor is {min(ratios.floors):.2f} µs an event"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; compare or record."""
    parser = argparse.ArgumentParser("python -m perf.guard")
    parser.add_argument("--record", action="store_true", help="write the ratios down in place of comparing")
    options = parser.parse_args(arguments)
    recorded = json.loads(RATIOS.read_text()) if RATIOS.exists() else {}
    if not options.record and not all(name in recorded for name in GUARDED):
        print(f"{RATIOS} has no ratio of {', '.join(GUARDED)}: record them by --record", file=sys.stderr)
        return 2
    known = scenarios()
    guarded = [known[name].shortened(_EVENTS) for name in GUARDED]
    with tempfile.TemporaryDirectory(prefix="mcp-ingest-guard-") as folder:
        limits = dict.fromkeys(GUARDED, 0.0) if options.record else recorded
        ratios = watch(limits, _measured_in(Path(folder), guarded))
    if options.record:
        found = {name: round(ratios.ratio(name), 3) for name in ratios.costs}
        RATIOS.write_text(json.dumps(found, indent=1) + "\n")
        print(f"recorded {found} in {RATIOS}")
        return 0
    print("\n".join(verdict(ratios, recorded)))
    return 1 if grown(ratios, recorded) else 0


if __name__ == "__main__":
    sys.exit(main())
