"""Whose spool is where, and who goes on with those that are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.component import ByteSize
from mcp_ingest.config.model import ComponentConfig, Configuration, Place
from mcp_ingest.context import Share
from mcp_ingest.engine import folders
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.model import DeadLetterSettings, SpoolSettings
from mcp_ingest.spool.sums import SUMS
from tests.cli.daemons import leave_a_spool


def _left(directory: Path, *indices: int) -> None:
    for index in indices:
        folder = folders.folder_of(directory, index)
        folder.mkdir(exist_ok=True)
        (folder / DATABASE).touch()


def test_worker_0_has_the_folder_of_a_daemon_alone(tmp_path: Path) -> None:
    """The others lie in it; a folder without a database, or of another name, is nobody's."""
    _left(tmp_path, 0, 2, 11)
    (tmp_path / "worker-5").mkdir()
    (tmp_path / "damaged-1").mkdir()
    assert folders.workers_there(tmp_path) == [0, 2, 11]
    assert folders.workers_there(tmp_path / "nowhere") == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_orphan_falls_to_one_worker(tmp_path: Path, count: int) -> None:
    """However many workers there are, each spool is opened by exactly one of them."""
    _left(tmp_path, 0, 1, 2, 3, 4, 5, 6)
    taken = [folders.orphans(tmp_path, count, index) for index in range(count)]
    assert sorted(each for mine in taken for each in mine) == list(range(count, 7))


def test_what_damage_left_of_an_orphan_is_opened(tmp_path: Path) -> None:
    """Its database is gone, or was set aside by a salvage that did not end: who opens it says what is lost."""
    for index in (3, 4, 5):
        folders.folder_of(tmp_path, index).mkdir()
    (tmp_path / "worker-3" / SUMS).touch()
    (tmp_path / "worker-4" / "damaged-1").mkdir()
    (tmp_path / "worker-4" / "damaged-1" / "unfinished").touch()
    assert folders.orphans(tmp_path, 1) == [3, 4]
    assert folders.workers_there(tmp_path) == []


def test_bounds_are_shared_out(tmp_path: Path) -> None:
    """The bytes of the configuration are those of all workers together."""
    settings = SpoolSettings(
        directory=str(tmp_path), max_bytes=ByteSize(800), dead_letters=DeadLetterSettings(max_bytes=ByteSize(80))
    )
    third = folders.settings_of(settings, 3, 4)
    assert third.directory == str(tmp_path / "worker-3")
    assert (third.max_bytes, third.dead_letters.max_bytes) == (200, 20)
    assert folders.settings_of(settings, 0, 1) == settings


def test_who_runs_which_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All listen and read; what only one can do worker 0 does; one that is no more only goes on with its files."""
    sharing = {"forward": "ports", "tail": "items", "journal": "one"}
    inputs = {name: ComponentConfig("input", name, name, None, Place("f", 1, 1)) for name in sharing}
    monkeypatch.setattr(folders, "find", lambda kind, name: type("Found", (), {"sharing": sharing[name]}))
    config = Configuration(inputs=inputs, spool=SpoolSettings(directory=str(tmp_path)))

    def run(index: int, count: int) -> list[str]:
        return list(folders.config_of(config, Share(index, count)).inputs)

    assert run(0, 1) == run(0, 2) == ["forward", "tail", "journal"]
    assert run(1, 2) == ["forward", "tail"]
    assert run(3, 2) == ["tail"]


async def test_positions_that_are_there(tmp_path: Path) -> None:
    """Every spool's, read while nobody has it open; one that cannot be read has none."""
    await leave_a_spool(tmp_path)
    spool = tmp_path / "spool"
    (spool / "worker-1").mkdir()
    (spool / "worker-1" / DATABASE).write_bytes(b"no database" * 100)
    assert folders.positions_there(spool) == {0: {}, 1: {}}
