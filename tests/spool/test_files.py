"""Tests of the lock and the ballast."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcp_ingest.errors import SpoolError
from mcp_ingest.spool.files import Ballast, Lock, make_directory


def test_the_lock_names_who_has_it(tmp_path: Path) -> None:
    """The second to ask for the lock hears the process id of the first, and gets it when that one lets go."""
    first, second = Lock(tmp_path), Lock(tmp_path)
    first.take()
    with pytest.raises(SpoolError, match=f"in use by process {os.getpid()}"):
        second.take(patience=0)
    first.give()
    second.take(patience=0)
    second.give()


def test_the_ballast_is_made_of_blocks(tmp_path: Path) -> None:
    """The ballast takes its size from the disk and gives it back."""
    ballast = Ballast(tmp_path, 2**20)
    assert not ballast.held
    assert ballast.take()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 2**20
    ballast.release()
    assert not ballast.held


def test_there_is_no_ballast_where_there_is_no_room(tmp_path: Path) -> None:
    """A ballast larger than the disk is not begun."""
    ballast = Ballast(tmp_path, 2**60)
    assert not ballast.take()
    assert not (tmp_path / "ballast").exists()


def test_missing_parents_are_made(tmp_path: Path) -> None:
    """The spool's folder is made with its parents, and may be there already."""
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
