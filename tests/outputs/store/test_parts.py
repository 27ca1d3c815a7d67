"""Folders of the store: names, bounds, what is to go when."""

from __future__ import annotations

from pathlib import Path

import pytest
from tantivy import Index

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
    searcher = Index.open(str(part.place.path)).searcher()
    assert parts.bounds(part.place, searcher) == Bounds(-10, 30)
    (part.place.path / "part.json").write_text("{broken")
    assert parts.bounds(part.place, searcher) == Bounds(-10, 30)


def test_an_uncommitted_part_is_empty(tmp_path: Path) -> None:
    """What is released without a commit is not there, and has no bounds."""
    part = filled(place(tmp_path), [1])
    part.release()
    again = Part(place(tmp_path), HEAP)
    assert again.events == 0
    assert parts.bounds(again.place, Index.open(str(again.place.path)).searcher()) is None


def test_another_schema_is_no_part_of_ours(tmp_path: Path) -> None:
    """A folder with something else in it raises ValueError, and can be set aside."""
    at = place(tmp_path)
    at.path.mkdir(parents=True)
    (at.path / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match=r"."):
        Part(at, HEAP)
    assert parts.set_aside(at).exists()
    assert parts.places(tmp_path) == []


def test_a_finished_part_knows_its_chunks(tmp_path: Path) -> None:
    """Of a finished part its chunks are known without opening it, and one of them can still be taken out."""
    part = Part(place(tmp_path), HEAP)
    for number in (1, 2, 3, 7, 9, 10):
        part.add(f"ab-{number}", [schema.document({}, f"ab-{number}", f"id-{number}", number, b"{}")])
    part.finish()
    found = parts.summary(part.place)
    assert found is not None
    assert found.chunks == {"ab": [(1, 3), (7, 7), (9, 10)]}
    assert [number for number in range(12) if found.has(f"ab-{number}")] == [1, 2, 3, 7, 9, 10]
    assert not found.has("cd-1")
    again = Part(place(tmp_path), HEAP)
    again.forget("ab-8")
    assert not again.writing
    again.forget("ab-7")
    again.commit()
    again.release()
    index = Index.open(str(part.place.path))
    assert index.searcher().num_docs == 5


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("Data corrupted: 'meta.json'", True),
        ("An IO error occurred: 'No such file or directory (os error 2)'", True),
        ("An IO error occurred: 'Too many open files (os error 24)'", False),
        ("An IO error occurred: 'No space left on device (os error 28)'", False),
    ],
)
def test_what_is_damage(text: str, damage: bool) -> None:
    """Only what is wrong with the folder itself sets a part aside, not what the system lacks for the moment."""
    assert parts.is_damage(ValueError(text)) is damage
