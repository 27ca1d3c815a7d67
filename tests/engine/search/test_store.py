"""Searching the embedded store: order, limits, bounds, and what disappears meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.engine.search import checks, store
from mcp_ingest.outputs.store import parts, shelf
from mcp_ingest.outputs.store.shelf import Shelf
from tests.outputs.store.test_store import NOON, Clock, chunk

ALL = checks.Everything()
EVER = checks.Between(None, None)


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty events in ten parts of two days and an undated one, five seconds apart."""
    monkeypatch.setattr(shelf, "PART_EVENTS", 3)
    writer = Shelf(tmp_path, Clock(), 15_000_000, 10**18, 2**40)
    for number in range(10):
        day = ["2026-11-21", "2026-11-22", "undated-2026-11-22"][number % 3]
        writer.add(chunk(number, [f"{number}-{i}" for i in range(3)], day, NOON + number * 5 * parts.SECOND))
        writer.commit()
    writer.close()
    return tmp_path


def found(directory: Path, *arguments: object, **options: object) -> list[str]:
    """The messages that a search finds."""
    answer = store.search(directory, *arguments, **options)  # type: ignore[arg-type]
    return [hit.event["message"] for hit in answer.hits]


def test_the_newest_come_first_over_all_parts(filled: Path) -> None:
    """Hits are sorted by time over parts and days, from either end."""
    newest = [f"{number}-{i}" for number in range(9, -1, -1) for i in (2, 1, 0)]
    assert found(filled, ALL, EVER, 100) == newest
    assert found(filled, ALL, EVER, 4) == newest[:4]
    assert found(filled, ALL, EVER, 4, newest_first=False) == newest[::-1][:4]


def test_bounds_are_included(filled: Path) -> None:
    """The first and the last moment belong to what is searched."""
    between = checks.Between(NOON + 5 * parts.SECOND, NOON + 10 * parts.SECOND)
    assert found(filled, ALL, between, 100) == ["2-0", "1-2", "1-1", "1-0"]
    assert found(filled, ALL, checks.Between(NOON + 10**15, None), 100) == []


def test_counting_stops_when_it_takes_long(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The total is exact while counting is quick, else it is what was counted so far, and says so."""
    answer = store.search(filled, ALL, EVER, 2)
    assert (answer.total, answer.exact) == (30, True)
    monkeypatch.setattr(store, "COUNT_SECONDS", -1.0)
    answer = store.search(filled, ALL, EVER, 2)
    assert (len(answer.hits), answer.total, answer.exact) == (2, 3, False)


def test_damage_is_left_out_and_said(filled: Path) -> None:
    """A part that cannot be opened is named, the others are searched."""
    place = parts.places(filled)[0]
    (place.path / "meta.json").write_text("{")
    answer = store.search(filled, ALL, EVER, 100)
    assert len(answer.hits) == 27
    assert str(place.path) in answer.notes[0]


def test_no_store_is_no_hit(tmp_path: Path) -> None:
    """A store that nobody has written to yet finds nothing."""
    assert found(tmp_path / "missing", ALL, EVER, 10) == []


def test_hits_carry_their_id(filled: Path) -> None:
    """A hit has the event's id and the event whole."""
    (hit,) = store.search(filled, checks.Term("_id", "event-4-1"), EVER, 10).hits
    assert (hit.id, hit.event["number"], hit.event["tag"]) == ("event-4-1", 4, "mcp.test")
