"""Scenarios are found by their file names, expand, shorten and know what they may cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mcp_ingest.config.load import load
from perf.figures import CATALOGUE
from perf.program import Place, configuration, tails
from perf.scenario import Forward, Lines, Scenario, Steady, Target, chosen, scenarios, stages_of

SCENARIOS = scenarios()


def test_a_file_is_a_scenario() -> None:
    """Each file of the folder is one scenario of its name, in the order of the numbers."""
    folder = Path(__file__).parents[2] / "perf" / "scenarios"
    assert set(SCENARIOS) == {path.stem.upper() for path in folder.glob("*.py") if path.stem != "__init__"}
    numbered = [name for name in SCENARIOS if name.startswith("S") and name[1:].isdigit()]
    assert numbered == ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_mcp_ingest_can_start_with_every_scenario(name: str, tmp_path: Path) -> None:
    """The configuration that is written for a scenario has no mistake in it."""
    for number, scenario in enumerate(SCENARIOS[name].expanded()):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "mcp-ingest.yaml"
        path.write_text(yaml.safe_dump(configuration(scenario, Place(folder))))
        assert list(load(str(path)).inputs) == ["tail" if tails(scenario) else "forward"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_targets_are_figures_that_exist(name: str) -> None:
    """A target names a figure of the catalogue, and the scenario beside it is there."""
    scenario = SCENARIOS[name]
    assert all(target.figure in CATALOGUE for target in scenario.targets)
    assert scenario.beside is None or scenario.beside in SCENARIOS


def test_one_by_one_is_a_scenario_for_each_stage() -> None:
    """S8 becomes one without stages and one for each stage, which stands beside it."""
    base, *others = SCENARIOS["S8"].expanded()
    assert base.stages == ()
    assert [other.stages for other in others] == [[stage] for stage in stages_of("pipelines/mcp.yaml")]
    assert {other.beside for other in others} == {base.name}
    assert "S8 normalize" in [other.name for other in others]


def test_chosen_brings_the_one_beside_along() -> None:
    """Who asks for S6 alone gets S2 as well, before it; an unknown name is an error."""
    assert [scenario.name for scenario in chosen(["s6"], SCENARIOS)] == ["S2", "S6"]
    assert [scenario.name for scenario in chosen(["S3", "S1"], SCENARIOS)] == ["S3", "S1"]
    with pytest.raises(KeyError, match="S99"):
        chosen(["S99"], SCENARIOS)


@pytest.mark.parametrize(
    ("load_", "events"), [(Forward(events=1_000), 200), (Lines(events=50), 10), (Steady(rate=100, seconds=20), 400)]
)
def test_shortened_is_a_fifth(load_: Forward | Lines | Steady, events: int) -> None:
    """The short form has a fifth of the events, or of the seconds."""
    assert Scenario(title="", load=load_).shortened().load.events == events


def test_shortened_to_a_number_of_events() -> None:
    """A number of events is taken as it is."""
    assert Scenario(title="", load=Forward(events=1_000)).shortened(77).load.events == 77


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target("floors", at_most=3.0), 3.0, True),
        (Target("floors", at_most=3.0), 3.01, False),
        (Target("drain_share", at_least=0.8), 0.8, True),
        (Target("drain_share", at_least=0.8), 0.79, False),
    ],
)
def test_target(target: Target, value: float, met: bool) -> None:
    """A bound itself is within the bounds."""
    assert target.met(value) is met
