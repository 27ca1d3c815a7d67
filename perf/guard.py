"""The guard: `python -m perf.guard` fails when S2 or S3 costs over 25 % more floors than `results/ratios.json` says.

    python -m perf.guard             measure and compare; ends with 1 if it grew
    python -m perf.guard --record    measure and write the ratios down

Absolute times say nothing on a CI machine, and even the ratio to a floor from before the run says little there: what
disturbs the one need not disturb the other. So the floor is taken in the very seconds of the run (`floor_beside.py`),
and the ratio is the median of three runs. On two busy cores those medians varied by some 10 %: a limit of 25 % is far
enough from that, and near enough to see what is wrong.

Where a ratio is over the limit, three runs more, and the median of all six counts: a minute in which one of three runs
was enough to tip the median passes, a real regression is in every run and stays. A recording takes six at once. What
got much cheaper is said: record it, else the next regression has that much room.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perf.floor_beside import FloorBeside
from perf.measure import measure
from perf.program import McpIngest
from perf.scenario import ROOT, Scenario, scenarios

RATIOS = ROOT / "perf" / "results" / "ratios.json"
GUARDED = ("S2", "S3")
GROWTH = 1.25
_EVENTS = 60_000
_FEW, _MANY = 3, 6

#: The ratio of each run, by scenario.
Ratios = dict[str, list[float]]


def grown(ratios: Ratios, recorded: Mapping[str, float]) -> list[str]:
    """The scenarios whose median is over `GROWTH` times what is recorded."""
    return [name for name, runs in ratios.items() if statistics.median(runs) > recorded[name] * GROWTH]


def watch(recorded: Mapping[str, float], once: Callable[[], Mapping[str, float]]) -> Ratios:
    """Three runs; three more if something seems to have grown. `once` makes one run of each scenario."""
    ratios: Ratios = {name: [] for name in recorded}
    for number in range(_MANY):
        if number == _FEW and not grown(ratios, recorded):
            break
        for name, ratio in once().items():
            ratios[name].append(ratio)
    return ratios


def run_once(guarded: Sequence[Scenario], folder: Path) -> dict[str, float]:
    """The ratio of one run of each of these."""
    found = {}
    for scenario in guarded:
        with FloorBeside() as floor:
            figures = measure(scenario, McpIngest(), folder)
        found[scenario.name] = figures["cpu_us"] / floor.value
    return found


def verdict(ratios: Ratios, recorded: Mapping[str, float]) -> list[str]:
    """One line for each scenario: what it costs, what is recorded, and what follows."""
    lines = []
    for name, runs in ratios.items():
        now, then = statistics.median(runs), recorded[name]
        limit = then * GROWTH
        word = "grew too much" if now > limit else "got cheaper: record it" if now < then / GROWTH else "holds"
        shown = " ".join(f"{ratio:.2f}" for ratio in runs)
        lines.append(f"{name}: {now:.2f} floors, recorded {then:.2f}, limit {limit:.2f}: {word} (runs: {shown})")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; compare or record."""
    parser = argparse.ArgumentParser("python -m perf.guard")
    parser.add_argument("--record", action="store_true", help="write the ratios down in place of comparing")
    options = parser.parse_args(arguments)
    recorded: dict[str, float] = json.loads(RATIOS.read_text()) if RATIOS.exists() else {}
    if not options.record and set(recorded) != set(GUARDED):
        print(f"{RATIOS} does not have the ratios of {', '.join(GUARDED)}: record them by --record", file=sys.stderr)
        return 2
    known = scenarios()
    guarded = [known[name].shortened(_EVENTS) for name in GUARDED]
    with tempfile.TemporaryDirectory(prefix="mcp-ingest-guard-") as folder:
        limits = dict.fromkeys(GUARDED, 0.0) if options.record else recorded  # over 0 are all, so all six are made
        ratios = watch(limits, lambda: run_once(guarded, Path(folder)))
    if options.record:
        recorded = {name: round(statistics.median(runs), 3) for name, runs in ratios.items()}
        RATIOS.write_text(json.dumps(recorded, indent=1) + "\n")
    print("\n".join(verdict(ratios, recorded)))
    return 1 if grown(ratios, recorded) else 0


if __name__ == "__main__":
    sys.exit(main())
