"""Probes take their own CPU each, and leave nothing behind."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from perf.probes import Probes


def _busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_each_has_its_own_without_those_inside() -> None:
    """What an inner function takes is not the outer one's, and waiting is nobody's."""
    probes = Probes()
    inner = probes.timed("inner", lambda: _busy(0.02))

    def outer() -> None:
        _busy(0.01)
        inner()
        inner()
        time.sleep(0.05)

    probes.timed("outer", outer)()
    assert list(probes.spent) == ["outer", "inner"]  # in the order in which they were met
    assert 0.04e9 <= probes.spent["inner"] < 0.05e9
    assert 0.01e9 <= probes.spent["outer"] < 0.02e9


def test_a_name_can_be_told_from_the_arguments() -> None:
    """One probe for all stages, a name for each."""
    probes = Probes()
    apply = probes.timed(lambda stage: f"`{stage}`", len)
    apply("drop")
    apply("redact")
    apply("drop")
    assert list(probes.spent) == ["`drop`", "`redact`"]


def test_threads_do_not_mix() -> None:
    """What another thread does meanwhile is not inside of this one's call."""
    probes = Probes()
    other = threading.Thread(target=probes.timed("other", lambda: _busy(0.02)))

    def waits() -> None:
        other.start()
        other.join()

    probes.timed("waits", waits)()
    assert probes.spent["other"] >= 0.02e9
    assert probes.spent["waits"] < 0.01e9


def test_places_are_as_before_afterwards() -> None:
    """A probe stands in a function's place until the block ends; a call that raises is noted as well."""
    probes, owner = Probes(), SimpleNamespace(work=_busy)
    with probes.at([(owner, "work", "work")]), pytest.raises(TypeError):
        owner.work("long")
    with probes.at([(owner, "work", "work")]):
        owner.work(0.001)
    assert owner.work is _busy
    assert probes.spent["work"] >= 0.001e9
    probes.reset()
    assert probes.spent == {"work": 0}
