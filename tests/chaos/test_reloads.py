"""Reloads under load, a few of them; `make chaos` makes a thousand."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.reloads import run


async def test_reloads_under_load_lose_and_leak_nothing(tmp_path: Path) -> None:
    """Back and forth between two configurations: every event once and in order, nothing left behind."""
    report = await run(30, tmp_path)
    assert report.problems() == []
    assert report.events > 500
    assert report.reloads >= 32
