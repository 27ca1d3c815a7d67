"""What a scenario declares; `scenarios/NAME.py` holds one as `SCENARIO`, and the file's name is its whole registration.

A declaration says what is sent (a load), through which stages, to which output, and what it may cost at most. How it
is measured is `measure.py`'s business, and which program does the work (mcp-ingest or a peer) is asked on the command
line.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

ROOT = Path(__file__).resolve().parents[1]
#: `--short` runs a part of this size of every scenario.
SHORT = 5


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Events by forward, as fast as they are acknowledged."""

    events: int = 400_000
    chunk: int = 1_000  # events in a message
    mode: Literal["message", "forward", "packed", "compressed"] = "packed"
    connections: int = 2
    window: int | None = None  # unacknowledged messages of a connection; the load generator's choice by default


@dataclass(frozen=True, kw_only=True)
class Steady:
    """Events by forward at a steady rate; each carries the moment when it was sent, so that the sink sees its age."""

    rate: int = 5_000  # events a second
    seconds: int = 20
    chunk: int = 10
    connections: int = 4

    @property
    def events(self) -> int:
        """Events of the whole run."""
        return self.rate * self.seconds


@dataclass(frozen=True, kw_only=True)
class Lines:
    """One file of JSON lines, put in place at once, to be tailed from its head."""

    events: int = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ManyFiles:
    """So many tailed files, of which `active` grow by `rate` lines a second in all; the others stay as they are."""

    files: int = 10_000
    active: int = 10
    rate: int = 1_000
    seconds: int = 10

    @property
    def events(self) -> int:
        """Lines of the whole run."""
        return self.rate * self.seconds


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No events: what the program costs while nothing happens."""

    seconds: int = 10
    events: int = 0


Load = Forward | Steady | Lines | ManyFiles | Nothing


@dataclass(frozen=True)
class Target:
    """What a figure (see `figures.py`) of a scenario may be, as a median."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, value: float) -> bool:
        """Whether this value is within the bounds."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One measured way from a load to an output."""

    title: str
    load: Load
    #: A pipeline file (its path from the root of the repository), or stages as they stand in one; none by default.
    stages: str | Sequence[Any] = ()
    output: Literal["elasticsearch", "blackhole", "store"] = "elasticsearch"
    #: Processes that share the port.
    workers: int = 1
    #: The sink comes only when everything is in the spool; measured is how fast that drains.
    backlog: bool = False
    targets: Sequence[Target] = ()
    #: The scenario that this one is compared with in the same run; it is run as well.
    beside: str | None = None
    #: One scenario for each stage of `stages`, that stage alone, and one without any, which they stand beside.
    one_by_one: bool = False
    #: What the peers showed in it elsewhere, beside a floor of their own, for whom they are not installed.
    peers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: More runs than these teach nothing.
    most_runs: int | None = None
    #: Given by the file's name.
    name: str = ""

    def shortened(self, events: int | None = None) -> Scenario:
        """The same with so many events, or a `SHORT`th of them or of its seconds."""
        if isinstance(self.load, Forward | Lines):
            load: Load = dataclasses.replace(self.load, events=events or max(1, self.load.events // SHORT))
        else:
            load = dataclasses.replace(self.load, seconds=max(2, self.load.seconds // SHORT))
        return dataclasses.replace(self, load=load)

    def expanded(self) -> list[Scenario]:
        """Itself; or, one by one, the scenarios of its stages."""
        if not self.one_by_one:
            return [self]
        base = dataclasses.replace(self, name=f"{self.name} none", stages=(), one_by_one=False)
        made = [
            dataclasses.replace(
                base, name=f"{self.name} {_stage_name(stage)}", stages=[stage], beside=base.name, title=_alone(stage)
            )
            for stage in stages_of(self.stages)
        ]
        return [base, *made]


def stages_of(stages: str | Sequence[Any]) -> list[Any]:
    """The stages as a list, whether they are given or stand in a file with one pipeline."""
    if not isinstance(stages, str):
        return list(stages)
    (pipeline,) = yaml.safe_load((ROOT / stages).read_text())["pipelines"].values()
    return list(pipeline["stages"])


def _stage_name(stage: str | Mapping[str, Any]) -> str:
    return stage if isinstance(stage, str) else next(iter(stage))


def _alone(stage: str | Mapping[str, Any]) -> str:
    return f"`{_stage_name(stage)}` as the only stage"


def scenarios(package: str = "perf.scenarios") -> dict[str, Scenario]:
    """All scenarios by name, in the order of their names: `s3_one.py` is `S3_ONE`."""
    return {scenario.name: scenario for scenario in _discovered(package)}


def _discovered(package: str) -> Iterator[Scenario]:
    folder = importlib.import_module(package)
    for found in sorted(pkgutil.iter_modules(folder.__path__), key=lambda module: _order(module.name)):
        declared: Scenario = importlib.import_module(f"{package}.{found.name}").SCENARIO
        yield dataclasses.replace(declared, name=found.name.upper())


def _order(name: str) -> tuple[int, str]:
    digits = "".join(character for character in name if character.isdigit())
    return (int(digits) if digits else 1_000, name)


def chosen(names: Sequence[str], known: Mapping[str, Scenario]) -> list[Scenario]:
    """The scenarios of these names (all without any), those that they stand beside first, expanded.

    Raises KeyError with the unknown name.
    """
    wanted: dict[str, Scenario] = {}
    for name in [name.upper() for name in names] or known:
        scenario = known[name]
        if scenario.beside:
            wanted[scenario.beside] = known[scenario.beside]
        wanted[name] = scenario
    return [each for scenario in wanted.values() for each in scenario.expanded()]
