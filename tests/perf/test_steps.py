"""The steps of the real parts: each has a figure, they add up, and the tables say so."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from perf import page, steps
from perf.probes import Probes
from perf.scenario import scenarios
from perf.steps import ALONE, PLACES, REST, TOGETHER, Costs, Steps, chains, run, small
from perf.way import SERVER, frames, opened


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Costs]:
    named = [scenarios()[name] for name in ("S3", "S3W")]
    found: dict[str, Costs] = run(partial(chains, named, frames(9, 1_000), 1), tmp_path_factory.mktemp("steps"))
    return found


@pytest.mark.parametrize(("name", "stages"), [("S3", 5), ("S3W", 9)])
def test_a_chain_step_by_step(name: str, stages: int, measured: dict[str, Costs]) -> None:
    """Every place has a figure, each stage its own, and the sum is what the process took."""
    costs = measured[name]
    assert len([step for step in costs if step.startswith("`")]) == stages
    named = {each for _, _, each in PLACES if isinstance(each, str)}
    assert named <= set(costs)
    assert all(costs[step] > 0 for step in costs if step != REST)
    assert SERVER not in costs
    alone = (ALONE, TOGETHER)
    assert sum(cost for step, cost in costs.items() if step not in alone) == pytest.approx(costs[TOGETHER])


@pytest.mark.parametrize("events", [1, 64, 1_000])
def test_everything_arrives_once(events: int, tmp_path: Path) -> None:
    """What goes the way is delivered, whatever the size of its frames, but for the tenth that is dropped."""

    async def go(directory: Path) -> int:
        async with opened(scenarios()["S3"], directory, Probes()) as way:
            await way.through(frames(9, events), 4)
            ledger = way._daemon.status()
            assert all(row["closed"] for row in ledger["sums"])
            return int(ledger["outputs"]["elasticsearch"]["delivered"])

    assert 0.7 * 9 * events <= run(go, tmp_path) <= 9 * events


def test_small_batches_cost_more_for_each_event(tmp_path: Path) -> None:
    """A frame of one event costs nearly as much as one of three."""
    one, three = (run(partial(small, scenarios()["S3"], frames(40, events), 8), tmp_path) for events in (1, 3))
    assert one > three / 3


def _measured() -> Steps:
    rounds = [
        {"`drop`": cost, steps._DISK: cost, ALONE: 2 * cost, REST: cost, TOGETHER: 3 * cost} for cost in (1.0, 3.0, 2.0)
    ]
    return Steps({"Python": "3.13"}, [1.0, 2.0, 2.0], {"S3": rounds}, {"3": {"1": [900.0], "8": [300.0]}})


def test_the_table_has_medians() -> None:
    """Floors are the median of the rounds, microseconds that times the median floor; alone is in brackets."""
    assert steps.chain_table(_measured(), "S3").splitlines() == [
        "| S3, step by step | µs an event | floors |",
        "| --- | --: | --: |",
        "| `drop` | 4.00 | 2.00 |",
        f"| {steps._DISK} | 4.00 | 2.00 |",
        f"| ({ALONE}) | (8.00) | (4.00) |",
        f"| {REST} | 4.00 | 2.00 |",
        f"| **{TOGETHER}** | **12.00** | **6.00** |",
        "| the floor: decode to dicts and serialise, nothing else | 2.00 | 1 |",
    ]


def test_the_table_of_small_batches() -> None:
    """A frame's cost, and an event's."""
    assert steps.batch_table(_measured()).splitlines()[-1] == "| 3 | 900 | 300.0 | 300 | 100.0 |"


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    """Measurements are read as they were written."""
    path = tmp_path / "steps.json"
    path.write_text(steps.as_json(_measured()))
    assert steps.read(path) == _measured()


def test_writing_keeps_the_measurements_and_fills_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--write` writes both; without the daemon beside it a run is short."""
    monkeypatch.setattr(steps, "RESULTS", tmp_path / "steps.json")
    monkeypatch.setattr(steps, "SMALL", {3: 4})
    monkeypatch.setattr(steps, "_FRAMES", 9)
    monkeypatch.setattr(steps, "tune_collector", lambda: None)  # the other tests go on in this process
    written: list[bool] = []
    monkeypatch.setattr(page, "write", lambda: written.append(True))
    assert steps.main(["--runs", "1", "--no-daemon", "--write", "--directory", str(tmp_path)]) == 0
    assert written
    assert set(steps.read(tmp_path / "steps.json").chains) == {"S3", "S3W"}
    assert "| `redact` |" in capsys.readouterr().out


def test_the_loop_is_closed_behind_a_failure(tmp_path: Path) -> None:
    """A round that fails says why, and leaves no folder."""

    async def fails(directory: Path) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(str(directory))

    with pytest.raises(RuntimeError):
        run(fails, tmp_path)
    assert not [*tmp_path.iterdir()]
