"""Folders of the store: names, bounds, what is to go when."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.outputs.store import parts, schema
from mcp_ingest.outputs.store.parts import Bounds, Part, Place

HEAP = 15_000_000


def place(directory: Path, day: str = "2026-11-22", born: int = 1_795_348_800_000) -> Place:
    """A part's place on disk."""
    return Place(day, born, directory / day / str(born))


def filled(at: Place, times: list[int]) -> Part:
    """A part with an event for each time."""
    part = Part(at, HEAP)
    part.add("chunk-1", [schema.document({"message": "x"}, "chunk-1", f"id-{t}", t, b"{}") for t in times])
    return part


def test_places_are_only_what_we_made(tmp_path: Path) -> None:
    """Other folders and files in the store's folder are left alone."""
    for name in ("2026-11-22/1795348800000", "2026-11-21/1795348800001", "notes/1795348800000"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "2026-11-22" / "1795348800000.damaged").mkdir()
    (tmp_path / "2026-11-20").write_text("")
    assert [(found.day, found.born) for found in parts.places(tmp_path)] == [
        ("2026-11-21", 1_795_348_800_001),
        ("2026-11-22", 1_795_348_800_000),
    ]
    assert parts.places(tmp_path / "missing") == []


def test_a_part_expires_after_its_day_or_its_birth(tmp_path: Path) -> None:
    """What arrives late is kept for the retention from its arrival on."""
    end = parts.day_end("2026-11-22")
    assert place(tmp_path).expires(5) == end + 5
    assert place(tmp_path, "undated-2026-11-22").expires(5) == end + 5
    late = place(tmp_path, "2026-11-01")
    assert late.expires(5) == late.born * 1_000_000 + 5


def test_a_finished_part_knows_its_bounds(tmp_path: Path) -> None:
    """Its oldest and newest time are written down, and are the same without the file."""
    part = filled(place(tmp_path), [30, -10, 20])
    part.finish()
    assert parts.bounds(part.place, part.searcher) == Bounds(-10, 30)
    (part.place.path / "part.json").write_text("{broken")
    assert parts.bounds(part.place, part.searcher) == Bounds(-10, 30)


def test_an_uncommitted_part_is_empty(tmp_path: Path) -> None:
    """What is released without a commit is not there, and has no bounds."""
    part = filled(place(tmp_path), [1])
    part.release()
    again = Part(place(tmp_path), HEAP)
    assert again.events == 0
    assert parts.bounds(again.place, again.searcher) is None


def test_another_schema_is_no_part_of_ours(tmp_path: Path) -> None:
    """A folder with something else in it raises ValueError, and can be set aside."""
    at = place(tmp_path)
    at.path.mkdir(parents=True)
    (at.path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match=r"."):
        Part(at, HEAP)
    assert parts.set_aside(at).exists()
    assert parts.places(tmp_path) == []
