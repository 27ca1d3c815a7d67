"""The guard fails when a ratio grew, in every run, and is not moved by a noisy one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from perf.guard import Ratios, grown, verdict, watch

RECORDED = {"S2": 3.0, "S3": 5.0}


def _runs(costs: Iterable[tuple[float, float]], floors: Iterator[float]) -> Callable[[Ratios], None]:
    made = iter(costs)

    def once(ratios: Ratios) -> None:
        for name, cost in zip(("S2", "S3"), next(made), strict=True):
            ratios.costs.setdefault(name, []).append(cost)
        ratios.floors.append(next(floors))

    return once


def _floors() -> Iterator[float]:
    while True:
        yield 1.0


def test_what_costs_the_same_holds_after_three_runs() -> None:
    """Three runs are enough where nothing is over its limit."""
    ratios = watch(RECORDED, _runs([(3.1, 5.2)] * 3, _floors()))
    assert len(ratios.costs["S2"]) == 3
    assert not grown(ratios, RECORDED)


def test_a_regression_is_in_every_run() -> None:
    """A chain that costs 30 % more fails, after three more runs have said so as well."""
    ratios = watch(RECORDED, _runs([(3.1, 6.5)] * 6, _floors()))
    assert len(ratios.costs["S2"]) == 6
    assert grown(ratios, RECORDED) == ["S3"]
    assert verdict(ratios, RECORDED)[1] == "S3: 6.50 floors, recorded 5.00, limit 6.25: grew too much"


def test_a_noisy_minute_passes() -> None:
    """Runs that something disturbed do not count when a later one was left in peace."""
    ratios = watch(RECORDED, _runs([(4.0, 7.0), (4.1, 6.9), (5.0, 7.1), (3.1, 5.0)], _floors()))
    assert not grown(ratios, RECORDED)


def test_a_disturbed_floor_hides_nothing() -> None:
    """A floor that was measured too dear beside a dear run does not make that run look cheap."""
    ratios = watch(RECORDED, _runs([(3.1, 6.5)] * 6, iter([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])))
    assert grown(ratios, RECORDED) == ["S3"]


def test_what_got_cheaper_wants_to_be_recorded() -> None:
    """Else the next regression would have that much room."""
    ratios = watch(RECORDED, _runs([(2.0, 5.0)] * 3, _floors()))
    assert verdict(ratios, RECORDED)[0].endswith("got cheaper: record it")
