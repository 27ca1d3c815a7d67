"""The journal beside appended files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mcp_ingest.outputs.file.journal import Journal, Piece


def test_it_knows_what_it_appended(tmp_path: Path) -> None:
    """A piece of a chunk is known once its lines are durable, also by the next one who opens the journal."""
    at = tmp_path / "journal.json"
    journal = Journal(at)
    piece = Piece("ab-1", str(tmp_path / "f"))
    assert not journal.knows(piece)
    journal.append({piece.path: b"x\n"}, [piece])
    journal.close()
    again = Journal(at)
    assert again.knows(piece)
    assert not again.knows(Piece("cd-1", piece.path))
    assert not again.knows(Piece("ab-1", "other"))
    again.close()


def test_a_file_that_is_gone_or_shorter(tmp_path: Path) -> None:
    """A file that was deleted or rotated since is left as it is."""
    at, gone, short = tmp_path / "journal.json", tmp_path / "gone", tmp_path / "short"
    short.write_text("1\n")
    at.write_text(json.dumps({"lengths": {str(gone): 5, str(short): 100}}))
    Journal(at).close()
    assert not gone.exists()
    assert short.read_text() == "1\n"
    assert json.loads(at.read_text())["lengths"] == {}


def test_only_one_at_a_time(tmp_path: Path) -> None:
    """A second one who opens it is refused."""
    first = Journal(tmp_path / "journal.json")
    with pytest.raises(BlockingIOError):
        Journal(tmp_path / "journal.json")
    first.close()


def test_new_folders_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new folder is synced where its name stands, or a power cut would take it with what is in it."""
    synced: list[Path] = []
    sync = os.fsync

    def noted(file: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{file}")))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted)
    journal = Journal(tmp_path / "out" / "journal.json")
    path = tmp_path / "out" / "tag" / "service" / "f"
    journal.append({str(path): b"x\n"}, [Piece("ab-1", str(path))])
    journal.close()
    assert {tmp_path, tmp_path / "out", tmp_path / "out" / "tag", path.parent, path} <= set(synced)
