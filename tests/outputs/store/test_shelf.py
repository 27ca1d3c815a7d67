"""The store's one writer: few writers open at a time, full parts finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.outputs.store import parts, shelf
from mcp_ingest.outputs.store.shelf import Shelf
from tests.outputs.store.test_store import Clock, chunk, messages

HEAP = 15_000_000


def opened(directory: Path, clock: Clock | None = None) -> Shelf:
    """A shelf that keeps everything."""
    return Shelf(directory, clock or Clock(), HEAP, 40 * parts.DAY, 2**40)


def test_many_days_at_once(tmp_path: Path) -> None:
    """A backlog of many days has a few writers open at a time, and nothing is lost when they are closed."""
    store = opened(tmp_path)
    for number in range(12):
        store.add(chunk(number, [str(number)], f"2026-11-{number + 1:02}"))
        assert sum(part.writing for found in store._days.values() for part in found) <= shelf.MAX_WRITERS
    store.close()
    assert sorted(map(int, messages(tmp_path))) == list(range(12))


def test_idle_writers_are_closed(tmp_path: Path) -> None:
    """A day that got nothing for a minute lets go of its writer at the next commit."""
    clock = Clock()
    store = opened(tmp_path, clock)
    store.add(chunk(1, ["yesterday"], "2026-11-21"))
    store.commit()
    clock.now += 61 * parts.SECOND
    store.add(chunk(2, ["today"]))
    store.commit()
    assert list(store._days) == ["2026-11-22"]
    store.close()
    assert len(messages(tmp_path)) == 2


def test_a_full_part_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a part has enough events the day goes on in a new one."""
    monkeypatch.setattr(shelf, "PART_EVENTS", 2)
    store = opened(tmp_path)
    for number in range(3):
        store.add(chunk(number, ["a", "b"]))
        store.commit()
    store.close()
    assert len(parts.places(tmp_path)) == 3
    assert len(messages(tmp_path)) == 6


def test_a_line_that_is_no_record_is_kept(tmp_path: Path) -> None:
    """A broken line does not hinder its neighbours."""
    store = opened(tmp_path)
    broken = chunk(1, ["good", "bad"])
    broken.lines = [broken.lines[0], b"[]"]
    store.add(broken)
    store.close()
    (at,) = parts.places(tmp_path)
    assert parts.Part(at, HEAP).events == 2


def test_sweep_leaves_the_days_that_are_open_usable(tmp_path: Path) -> None:
    """A part that is dropped while it is open does not come back, and its day takes new events."""
    clock = Clock()
    store = Shelf(tmp_path, clock, HEAP, parts.DAY, 2**40)
    store.add(chunk(1, ["old"]))
    store.commit()
    clock.now += 3 * parts.DAY
    store.sweep()
    assert messages(tmp_path) == []
    store.add(chunk(2, ["late"]))
    store.close()
    assert messages(tmp_path) == ["late"]


def test_bounds_hold_for_all_workers_together(tmp_path: Path) -> None:
    """The oldest parts of all go, whoever wrote them; each worker drops its own."""
    clock = Clock()
    sizes = []
    for index, worker in enumerate(("", "worker-1")):
        written = Shelf(tmp_path, clock, HEAP, 40 * parts.DAY, 2**40, worker)
        for day in (10, 20):
            written.add(chunk(index, [f"{worker}{day}"], f"2026-11-{day}"))
        written.close()
        sizes += [place.size() for place in parts.places(tmp_path / worker)]
    assert sorted(messages(tmp_path)) == ["10", "20", "worker-110", "worker-120"]
    half = sum(sizes) // 2 + max(sizes) // 2
    for worker, left in (("", 3), ("worker-1", 2)):
        Shelf(tmp_path, clock, HEAP, 40 * parts.DAY, half, worker).close()
        assert len(parts.all_places(tmp_path)) == left
    assert [place.day for place in parts.all_places(tmp_path)] == ["2026-11-20", "2026-11-20"]
