"""Files of a configuration that are watched."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_ingest.engine import watch as module
from mcp_ingest.engine.watch import Watched, watch
from tests.engine.parts import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration of two files, and a place for more."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "c.yaml").write_text("include: [other.yaml, 'conf.d/*.yaml']\n")
    (tmp_path / "other.yaml").write_text("http: {port: 1}\n")
    return tmp_path


def test_files_come_and_go(folder: Path) -> None:
    """Included files are looked at, those that appear later, too, and one that is gone makes a difference."""
    watched = Watched(str(folder / "c.yaml"))
    first = watched.look()
    assert {path.name for path in first} == {"c.yaml", "other.yaml"}
    assert watched.look() == first
    (folder / "conf.d" / "new.yaml").write_text("http: {port: 2}\n")
    second = watched.look()
    assert {path.name for path in second} == {"c.yaml", "other.yaml", "new.yaml"}
    (folder / "other.yaml").unlink()
    assert watched.look() != second


def test_a_broken_file_is_watched(folder: Path) -> None:
    """What is not YAML now may be, once it is mended."""
    (folder / "other.yaml").write_text("http: {port: 1\n")
    watched = Watched(str(folder / "c.yaml"))
    assert folder / "other.yaml" in watched.look()


async def test_a_change_is_told_once_it_is_quiet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while the file is still written to, once for one change, and not at all where nobody asked for it."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    config = SimpleNamespace(given=str(folder / "c.yaml"), reload_on_change=False)
    graph: Any = SimpleNamespace(config=config)
    told: list[int] = []
    number = 0

    def write() -> None:
        nonlocal number
        number += 1
        (folder / "other.yaml").write_text(f"http: {{port: {number}}}\n")
        os.utime(folder / "other.yaml", ns=(number, number))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch(graph, lambda: told.append(number)))
        write()
        await asyncio.sleep(0.1)
        config.reload_on_change = True
        await asyncio.sleep(0.1)
        assert told == []
        for _ in range(30):
            write()
            await asyncio.sleep(0.005)
        await until(lambda: told)
        await asyncio.sleep(0.1)
        task.cancel()
    assert told[-1] == number
    assert len(told) < 10
