"""Measure: `python -m perf [--only S3,S2] [--runs 5] [--peer fluentd] [--short] [--events N]`.

Runs every scenario of `perf/scenarios`, interleaved, and writes the report, its plots and the measurements to
`perf/results`; with `--only`, `--short` or `--events` to `perf/results/part`, so that a part never takes the place of
the whole. Ends with 1 if a target is missed or a run failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from perf import machine, report
from perf.arguments import count, named
from perf.floor_beside import FloorBeside
from perf.measure import floor, in_floors, measure
from perf.peers import PEERS
from perf.processes import MeasureError
from perf.program import McpIngest, Program
from perf.report import Results
from perf.scenario import ROOT, Forward, Lines, Scenario


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, write the report, say which targets are met."""
    options = _options(arguments)
    selected: list[Scenario] = options.only or named("")
    part = bool(options.only or options.short or options.events)
    if options.short or options.events:
        selected = [scenario.shortened(options.events) for scenario in selected]
    programs = _programs(options.peer)
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="mcp-ingest-perf-") as folder:
        results = _run(selected, programs, options.runs, Path(folder))
    folder_of_results = Path(options.results) / ("part" if part else "")
    page = report.write(results, folder_of_results, _plots(results, folder_of_results))
    print(f"\n{page.read_text()}\n{page}")
    missed = [
        f"{scenario.name}: {report.bound(target)}"
        for scenario, target, spread in report.targets(results, McpIngest.name)
        if not target.met(spread.median)
    ]
    print(f"missed: {'; '.join(missed)}" if missed else "all targets are met")
    return 1 if missed or results.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m perf", description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--only", type=named, default=[], help="names of scenarios, with commas between")
    parser.add_argument("--runs", type=count, default=5, help="how often each is run; the median counts (5)")
    parser.add_argument("--peer", action="append", default=[], choices=sorted(PEERS), help="measure this one as well")
    parser.add_argument("--events", type=count, help="so many events in each scenario")
    parser.add_argument("--short", action="store_true", help="a fifth of the events, or of the seconds")
    parser.add_argument("--directory", help="where the spools are made: the disk to measure (the system's /tmp)")
    parser.add_argument("--results", default=str(ROOT / "perf" / "results"), help="where the report goes")
    return parser.parse_args(arguments)


def _programs(peers: Sequence[str]) -> list[Program]:
    found: list[Program] = [McpIngest()]
    for peer in (PEERS[name] for name in peers):
        if why := peer.missing():
            print(why, file=sys.stderr)
        else:
            found.append(peer)
    return found


def _run(selected: Sequence[Scenario], programs: Sequence[Program], runs: int, folder: Path) -> Results:
    results = Results(
        {scenario.name: scenario for scenario in selected},
        {program.name: program.version() for program in programs},
        machine.describe(folder, ROOT),
    )
    before = floor()
    for number in range(runs):
        for scenario in selected:
            if number >= (scenario.most_runs or runs):
                continue
            for program in programs:
                if program.can(scenario):
                    before = _run_once(results, scenario, program, before, folder)
    return results


def _run_once(results: Results, scenario: Scenario, program: Program, before: float, folder: Path) -> float:
    """Run it between two floors; the second of them, which is the next run's first."""
    full_speed = isinstance(scenario.load, Forward | Lines)
    try:
        with FloorBeside() if full_speed else nullcontext() as meanwhile:
            figures = measure(scenario, program, folder)
    except MeasureError as error:
        print(error, file=sys.stderr)
        results.failures.append(str(error))
        return floor()
    after = floor()
    added = in_floors(figures, (before + after) / 2, meanwhile.value if meanwhile else 0.0)
    results.add(scenario, program.name, added)
    shown = [f"{added[name]:.3g} {name}" for name in _SHOWN if name in added]
    print(f"{scenario.name:<22} {program.name:<12} {', '.join(shown)}", flush=True)
    return after


_SHOWN = (
    "floors", "floors_meanwhile", "cpu_us", "rate", "drain_rate", "cores", "p50_ms", "p99_ms", "idle_cores",
    "idle_rss_mb", "peak_rss_mb", "listening_seconds",
)  # fmt: skip


def _plots(results: Results, folder: Path) -> list[str]:
    try:
        from perf.plots import draw

        return draw(results, folder)
    except ImportError:
        print("no plots: matplotlib is missing (pip install -e '.[perf]'; `make perf` does)", file=sys.stderr)
        return []


if __name__ == "__main__":
    sys.exit(main())
