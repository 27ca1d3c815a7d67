"""Puts what was measured into docs/speed.md: `python -m perf.page [--check]`.

The page has places for tables, between `<!-- made: NAME -->` and `<!-- end -->`; they are made of what is kept in
`results`: `measurements.json` (by `make perf`) and `steps.json` (by `python -m perf.steps --write`). `--check` ends
with 1 where a table is not that.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perf.figures import CATALOGUE, spread_text
from perf.program import McpIngest
from perf.report import Results, bound
from perf.scenario import ROOT, Scenario, scenarios

PAGE = ROOT / "docs" / "speed.md"
MEASUREMENTS = ROOT / "perf" / "results" / "measurements.json"
_PLACE = re.compile(r"(<!-- made: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: The peers of the scenarios' declarations, each a column.
_PEERS = ("Fluentd 1.19.3", "Fluent Bit 5.1.1", "rsyslog 8.2302")
#: What is shown of a scenario that has no target: of these groups the first that was measured.
_SHOWN = (("p50_ms", "p99_ms", "cores", "idle_cores"), ("floors", "peak_anonymous_mb"))
_MACHINE = ("processor", "memory", "system", "disk", "Python", "commit", "when")


def results(path: Path = MEASUREMENTS) -> Results:
    """The kept measurements, as they were before they were written."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    known = {each.name: each for scenario in scenarios().values() for each in scenario.expanded()}
    found = Results({}, kept["programs"], kept["machine"])
    for each in kept["scenarios"]:
        scenario = known[each["scenario"]]
        found.scenarios[scenario.name] = scenario
        for figures in each["runs"]:
            found.add(scenario, each["program"], figures)
    return found


# --- the table of scenarios --------------------------------------------------------------------------------


def scenario_table(found: Results) -> str:
    """A line for each target, or for each figure of a scenario without one; the peers beside the first.

    What each stage costs the whole daemon (S8) is left out: the tables step by step say that better.
    """
    others = [name for name in found.programs if name != McpIngest.name]
    heads = ["", "scenario", "mcp-ingest", "target", *(f"{name}, here" for name in others), *_PEERS]
    rows = []
    declared = scenarios()
    for scenario in (each for name, each in found.scenarios.items() if name in declared):
        peers = [scenario.peers.get(name, "") for name in _PEERS]
        for number, (figure, target) in enumerate(_figures(found, scenario)):
            about = [scenario.name, scenario.title] if not number else ["", ""]
            here = [_value(found, scenario, program, figure) for program in (McpIngest.name, *others)]
            rows.append([*about, here[0], target, *here[1:], *(peers if not number else [""] * len(_PEERS))])
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _figures(found: Results, scenario: Scenario) -> list[tuple[str, str]]:
    """The names of the figures that are shown, each with its target in words."""
    measured = found.spreads(scenario.name, McpIngest.name)
    targets = [(target.figure, bound(target)) for target in scenario.targets if target.figure in measured]
    groups = ([(name, "") for name in group if name in measured] for group in _SHOWN)
    return targets or next(filter(None, groups), [])


def _value(found: Results, scenario: Scenario, program: str, name: str) -> str:
    spread = found.spreads(scenario.name, program).get(name)
    if spread is None:
        return ""
    figure = CATALOGUE[name]
    shown = f"{spread_text(name, spread)} {figure.unit}".strip()
    return shown if name == "floors" else f"{shown} ({figure.title})"


def machine_text(described: Mapping[str, str]) -> str:
    """On what it was measured, as one line."""
    named = {"Python": "Python ", "commit": "commit ", "memory": "memory of "}
    return "Measured on: " + "; ".join(named.get(n, "") + described[n] for n in _MACHINE if n in described) + "."


# --- the page ----------------------------------------------------------------------------------------------


def made() -> dict[str, str]:
    """What stands in each place, by its name."""
    from perf import steps  # it imports this module to write the page

    found, taken = results(), steps.read()
    return {
        "scenarios": scenario_table(found),
        "machine": machine_text(found.machine),
        "machine of steps": machine_text(taken.machine),
        **steps.tables(taken),
    }


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The page with these tables in their places; KeyError for a place that there is no table for."""
    put: Callable[[re.Match[str]], Any] = lambda place: f"{place[1]}{tables[place[2]]}\n{place[3]}"  # noqa: E731
    return _PLACE.sub(put, text)


def write(path: Path = PAGE) -> bool:
    """Bring the page up to date; whether it was not."""
    text = path.read_text(encoding="utf-8")
    new = filled(text, made())
    path.write_text(new, encoding="utf-8")
    return new != text


def main() -> int:
    """Write, or check."""
    if "--check" in sys.argv[1:]:
        text = PAGE.read_text(encoding="utf-8")
        stale = filled(text, made()) != text
        print("docs/speed.md is stale: run python -m perf.page" if stale else "docs/speed.md is what was measured")
        return int(stale)
    print("written: docs/speed.md" if write() else "docs/speed.md is what was measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
