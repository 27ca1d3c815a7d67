"""The guard fails when a ratio grew, in every run, and is not moved by a noisy one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from perf import guard
from perf.floor_beside import FloorBeside
from perf.guard import grown, verdict, watch
from perf.scenario import scenarios

RECORDED = {"S2": 3.0, "S3": 5.0}


def _runs(*ratios: tuple[float, float]) -> Callable[[], Mapping[str, float]]:
    made = iter(ratios)
    return lambda: dict(zip(("S2", "S3"), next(made), strict=True))


def test_what_costs_the_same_holds_after_three_runs() -> None:
    """Three runs are enough where nothing is over its limit."""
    ratios = watch(RECORDED, _runs((3.1, 5.2), (3.0, 7.0), (3.5, 5.9)))
    assert len(ratios["S2"]) == 3
    assert not grown(ratios, RECORDED)
    assert verdict(ratios, RECORDED)[1].startswith("S3: 5.90 floors, recorded 5.00, limit 6.25: holds")


def test_a_regression_is_in_every_run() -> None:
    """A chain that costs 30 % more fails, after three more runs have said so as well."""
    ratios = watch(RECORDED, _runs(*[(3.1, 6.5)] * 6))
    assert len(ratios["S2"]) == 6
    assert grown(ratios, RECORDED) == ["S3"]
    assert "S3: 6.50 floors, recorded 5.00, limit 6.25: grew too much" in verdict(ratios, RECORDED)[1]


def test_a_noisy_minute_passes() -> None:
    """Two disturbed runs of three tip the median; with three more, left in peace, it comes back."""
    ratios = watch(RECORDED, _runs((4.0, 7.0), (4.1, 6.9), (3.0, 5.0), (3.1, 5.0), (3.0, 5.1), (2.9, 5.0)))
    assert not grown(ratios, RECORDED)


def test_what_got_cheaper_wants_to_be_recorded() -> None:
    """Else the next regression would have that much room."""
    ratios = watch(RECORDED, _runs(*[(2.0, 5.0)] * 3))
    assert "got cheaper: record it" in verdict(ratios, RECORDED)[0]


def test_it_guards_what_is_recorded() -> None:
    """The repository has a ratio for each guarded scenario, and each is a scenario."""
    assert set(json.loads(guard.RATIOS.read_text())) == set(guard.GUARDED)
    assert set(guard.GUARDED) <= set(scenarios())


def test_without_a_record_there_is_nothing_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says how to record, and does not pass."""
    monkeypatch.setattr(guard, "RATIOS", tmp_path / "ratios.json")
    assert guard.main([]) == 2
    assert "--record" in capsys.readouterr().err


def test_one_run_of_a_guarded_scenario(tmp_path: Path) -> None:
    """The ratio is the daemon's CPU in the floor of the same seconds."""
    (ratio,) = guard.run_once([scenarios()["S2"].shortened(4_000)], tmp_path).values()
    assert 0.5 < ratio < 1_000


def test_the_floor_beside_is_that_of_the_block() -> None:
    """It is known when the block has ended: some tenths of a microsecond to some tens."""
    with FloorBeside() as floor:
        pass
    assert 0.2 < floor.value < 50
