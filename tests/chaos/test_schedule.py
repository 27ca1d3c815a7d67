"""From a seed to faults."""

from __future__ import annotations

from itertools import islice

from tests.chaos.faults import faults
from tests.chaos.schedule import rounds


def test_the_same_seed_brings_the_same_faults() -> None:
    """Two schedules of one seed are equal, those of two seeds are not."""
    every = list(faults().values())
    assert list(islice(rounds(3, every), 60)) == list(islice(rounds(3, every), 60))
    assert list(islice(rounds(3, every), 60)) != list(islice(rounds(4, every), 60))


def test_each_fault_strikes_before_any_strikes_twice() -> None:
    """The first rounds have every fault once, in an order that differs from the next ones."""
    every = list(faults().values())
    schedule = rounds(7, every)
    first, second = ([each.fault for each in islice(schedule, len(every))] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(every)
    assert first != second


def test_only_the_end_of_the_daemon_strikes_beside_others() -> None:
    """A fault beside another ends the daemon's life, and never beside one that does so itself."""
    beside = [each for each in islice(rounds(1, list(faults().values())), 500) if each.beside]
    assert beside
    assert all(each.beside and each.beside.alone and not each.fault.alone for each in beside)


def test_without_faults_there_are_no_rounds() -> None:
    """Nothing to strike with: the schedule ends at once."""
    assert list(rounds(1, [])) == []
