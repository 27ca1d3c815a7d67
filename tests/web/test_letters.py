"""What a spool answers about its dead letters; its pages are tested in `test_dead_letters.py`."""

from __future__ import annotations

from pathlib import Path

from mcp_ingest.spool import SpoolReader
from mcp_ingest.web.letters import number_at
from tests.cli.daemons import leave_a_spool


async def test_numbers_by_time(tmp_path: Path) -> None:
    """Where the letters before a moment end; the only letter here has the number 1."""
    await leave_a_spool(tmp_path)
    with SpoolReader(tmp_path / "spool") as spool:
        (letter,) = spool.letters(1)
        moments = (0, letter.time, letter.time + 1)
        found = [spool.look(lambda reader, at=moment: number_at(reader, at)) for moment in moments]  # type: ignore[misc]
    assert found == [1, 1, 2]
