"""What was measured, as a page: a table of all scenarios with their targets, the machine, the versions, the plots.

A figure is the median of the runs, with the least and the most in brackets. `measurements.json` beside the page has
each run by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perf.figures import CATALOGUE, Figures, Spread, spread_text, text
from perf.scenario import Scenario, Target

#: What the main table shows of each scenario, where it was measured.
_COLUMNS = ("floors", "floors_meanwhile", "cpu_us", "rate", "peak_rss_mb", "peak_anonymous_mb")
#: What stands on lines of its own below it.
_DETAILS = (
    "floors_more", "cost_share", "rate_share",
    "p50_ms", "p99_ms", "longest_ms", "cores", "idle_cores", "idle_rss_mb", "idle_anonymous_mb",
    "fill_rate", "drain_rate", "drain_floors", "drain_share",
)  # fmt: skip
_ABOUT = """\
One floor is what decoding the same packed events to dicts and serialising them again costs in Python, measured in a
process of its own before and after each run. The floor of the same seconds is taken in small portions while the run
lasts: it is higher, and what disturbs the run disturbs it as well, so that it tells better how two runs compare. CPU is
that of all processes of the program, from the operating system, per event that was sent. Runs were interleaved: one of
every scenario, then the next of every scenario. A figure is the median of the runs, with the least and the most in
brackets. Delivery is to `perf/sink.py`, and every run in which a document was missing or doubled, or a sum of the
ledger did not close, is no measurement and named as failed.
"""


@dataclass
class Results:
    """All runs: figures by scenario and program, one set a run, in the order of the runs."""

    scenarios: dict[str, Scenario]
    programs: dict[str, str]  # name: version
    machine: dict[str, str]
    runs: dict[tuple[str, str], list[Figures]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # runs that were no measurement, and why

    def add(self, scenario: Scenario, program: str, figures: Figures) -> None:
        """Add one run."""
        self.runs.setdefault((scenario.name, program), []).append(figures)

    def spreads(self, scenario: str, program: str) -> dict[str, Spread]:
        """The spread of each figure that every run has; empty for what was not run."""
        made = self._compared(scenario, program)
        names = [name for name in CATALOGUE if made and all(name in figures for figures in made)]
        return {name: Spread.of([figures[name] for figures in made]) for name in names}

    def _compared(self, scenario: str, program: str) -> list[Figures]:
        """The runs, with what they are beside the medians of the scenario that they stand beside."""
        made = self.runs.get((scenario, program), [])
        beside = self.scenarios[scenario].beside
        if beside is None:
            return made
        other = {name: spread.median for name, spread in self.spreads(beside, program).items()}
        compared = _worker_shares if self.scenarios[scenario].workers > 1 else _comparison
        return [{**figures, **compared(figures, other)} for figures in made]


def _comparison(figures: Figures, other: Figures) -> Figures:
    found: Figures = {}
    if "drain_rate" in figures and "rate" in other:
        found["drain_share"] = figures["drain_rate"] / other["rate"]
    elif "floors_meanwhile" in figures and "floors_meanwhile" in other:
        # how much dearer it is says the floor of the same seconds; how much that is in floors, the floor
        found["floors_more"] = (figures["floors_meanwhile"] / other["floors_meanwhile"] - 1) * other["floors"]
    return found


def _worker_shares(figures: Figures, other: Figures) -> Figures:
    """What several workers cost and bring, beside one."""
    pairs = {"cost_share": "floors_meanwhile", "rate_share": "rate"}
    return {share: figures[name] / other[name] for share, name in pairs.items() if name in figures and other.get(name)}


def markdown(results: Results, plots: Sequence[str] = ()) -> str:
    """The whole page."""
    named = ", ".join(f"{name} {version}" for name, version in results.programs.items())
    most = max((len(made) for made in results.runs.values()), default=0)
    parts = [
        "<!-- Made by `make perf`: do not edit. -->\n",
        f"# What it costs\n\n{named}; up to {most} runs.\n\n{_ABOUT}",
        "\n".join(_table(["", ""], [[name, value] for name, value in results.machine.items()])),
        "\n".join(["## Failed\n", *(f"- {_one_line(why)}" for why in results.failures)]) if results.failures else "",
        "\n".join(["## CPU, rates, memory\n", *_main_table(results)]),
        "\n".join(["## Targets\n", *_targets(results)]),
        "\n".join(["## More figures\n", *_details(results)]),
        "\n\n".join(f"![{Path(plot).stem}]({plot})" for plot in plots),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _main_table(results: Results) -> list[str]:
    heads = [f"{CATALOGUE[name].title}, {CATALOGUE[name].unit}".removesuffix(", ") for name in _COLUMNS]
    heads[_COLUMNS.index("rate")] = "events/s until delivered"
    rows = []
    for scenario, program in _measured(results):
        spreads = results.spreads(scenario.name, program)
        shown = [spread_text(name, spreads[name]) if name in spreads else "" for name in _COLUMNS]
        rows.append([scenario.name, scenario.title, program, *shown])
    return _table(["scenario", "", "program", *heads], rows)


def _details(results: Results) -> list[str]:
    rows = []
    for scenario, program in _measured(results):
        spreads = results.spreads(scenario.name, program)
        for name in _DETAILS:
            if name in spreads:
                shown = f"{spread_text(name, spreads[name])} {CATALOGUE[name].unit}".strip()
                rows.append([scenario.name, program, CATALOGUE[name].title, shown])
    starts = [
        figures["listening_seconds"]
        for (_, program), made in results.runs.items()
        for figures in made
        if program == next(iter(results.programs)) and "listening_seconds" in figures
    ]
    if starts:
        shown = f"{spread_text('listening_seconds', Spread.of(starts))} s"
        rows.append(["all", next(iter(results.programs)), CATALOGUE["listening_seconds"].title, shown])
    return _table(["scenario", "program", "figure", "value"], rows)


def _targets(results: Results) -> list[str]:
    program = next(iter(results.programs))
    rows = []
    for scenario, target, spread in targets(results, program):
        figure = CATALOGUE[target.figure]
        shown = f"{spread_text(target.figure, spread)} {figure.unit}".strip()
        verdict = "met" if target.met(spread.median) else "**not met**"
        peers = "; ".join(f"{name}: {value}" for name, value in scenario.peers.items())
        rows.append([scenario.name, figure.title, bound(target), shown, verdict, peers])
    return _table(["scenario", "figure", "target", "measured", "", "peers, measured elsewhere without fsync"], rows)


def bound(target: Target) -> str:
    """A target in words."""
    if target.at_most is not None:
        return f"at most {text(target.figure, target.at_most)}"
    return f"at least {text(target.figure, target.at_least or 0.0)}"


def targets(results: Results, program: str) -> Iterator[tuple[Scenario, Target, Spread]]:
    """All targets that were measured."""
    for scenario in results.scenarios.values():
        spreads = results.spreads(scenario.name, program)
        for target in scenario.targets:
            if target.figure in spreads:
                yield scenario, target, spreads[target.figure]


def _measured(results: Results) -> Iterator[tuple[Scenario, str]]:
    for scenario in results.scenarios.values():
        for program in results.programs:
            if (scenario.name, program) in results.runs:
                yield scenario, program


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return lines + [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def write(results: Results, folder: Path, plots: Sequence[str] = ()) -> Path:
    """Write `report.md` and `measurements.json` into a folder; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.md"
    page.write_text(markdown(results, plots))
    (folder / "measurements.json").write_text(json.dumps(as_json(results), indent=1) + "\n")
    return page


def as_json(results: Results) -> Mapping[str, object]:
    """Everything, for whoever wants to work with it."""
    runs = [
        {"scenario": scenario, "program": program, "runs": [_rounded(figures) for figures in made]}
        for (scenario, program), made in results.runs.items()
    ]
    return {"machine": results.machine, "programs": results.programs, "scenarios": runs}


def _rounded(figures: Figures) -> Figures:
    return {name: float(f"{value:.5g}") for name, value in figures.items()}
