"""Backlogs of removed outputs, moved and dropped by hand while the daemon works."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.engine import backlogs as module
from mcp_ingest.engine.backlogs import Backlogs
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.spool import Spool
from mcp_ingest.spool.model import Intake
from tests.engine.live import Live, living, send
from tests.engine.parts import until


def _blocked(directory: Path) -> dict[str, Any]:
    (directory / "closed").touch()
    return {"type": "file", "path": str(directory / "closed" / "old.ndjson")}


async def _leave_a_backlog(live: Live, chunks: int = 3) -> None:
    """Two events each for `old`, which goes then; `archive` comes."""
    with live.sender() as sender:
        for number in range(chunks):
            await send(sender, f"{number}a", f"{number}b")
    await live.reload(outputs={"archive": live.file("{tag}")})


def _ledger(live: Live, output: str) -> dict[str, int]:
    rows = live.daemon.status()["ledger"]["outputs"]
    return {f"{row['term']} {row['reason']}".strip(): row["count"] for row in rows if row["output"] == output}


async def test_a_backlog_moves_to_another_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is delivered there once, under its id, where the other output wants it; both sums close throughout."""
    monkeypatch.setattr(module, "SLICE_BYTES", 1)
    async with living(tmp_path, outputs={"old": _blocked(tmp_path)}) as live:
        await _leave_a_backlog(live)
        ids = {row for each in (await live.daemon.spool.backlog("old (file)", 2**20))[1] for row in each.chunk.ids}
        assert await Backlogs(live.daemon.graph).move("old (file)", "archive") == 6
        live.assert_closed()
        await until(lambda: live.delivered() == 6)
        live.assert_closed()
        assert live.daemon.status()["removed_outputs"] == {}
        assert _ledger(live, "old") == {"assigned": 6, "redirected moved to archive": 6}
        assert _ledger(live, "archive") == {"assigned": 6, "delivered": 6}
        with pytest.raises(IngestError, match="there is no backlog"):
            await Backlogs(live.daemon.graph).move("nobody (file)", "archive")
    assert [json.loads(line)["message"] for line in live.lines("t")] == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert len(ids) == 6


async def test_a_backlog_moves_to_where_nothing_is_held(tmp_path: Path) -> None:
    """An output that counts at once as delivered."""
    async with living(tmp_path, outputs={"old": _blocked(tmp_path)}) as live:
        await _leave_a_backlog(live)
        await live.reload(outputs={"hole": {"type": "blackhole"}})
        assert await Backlogs(live.daemon.graph).move("old (file)", "hole") == 6
        assert live.delivered("hole") == 6
        assert live.daemon.status()["spool"]["chunks"] == 0
        live.assert_closed()


async def test_a_backlog_is_dropped_by_hand(tmp_path: Path) -> None:
    """It is gone and counted; what others owe of its chunks stays."""
    outputs = {"old": _blocked(tmp_path), "archive": _blocked(tmp_path)}
    async with living(tmp_path, outputs=outputs) as live:
        with live.sender() as sender:
            await send(sender, "one", "two")
        await live.reload(outputs={"archive": outputs["archive"]})
        assert await Backlogs(live.daemon.graph).drop("old (file)") == 2
        assert _ledger(live, "old") == {"assigned": 2, "dropped by_hand": 2}
        assert live.daemon.status()["outputs"]["archive"]["held"] == 2
        live.assert_closed()
        with pytest.raises(SpoolError, match="there is no backlog"):
            await Backlogs(live.daemon.graph).drop("archive (file)")


async def test_a_move_to_nowhere_is_refused(tmp_path: Path) -> None:
    """The outputs that there are are named, and nothing has moved."""
    async with living(tmp_path, outputs={"old": _blocked(tmp_path)}) as live:
        await _leave_a_backlog(live)
        with pytest.raises(IngestError, match="no output 'nowhere': there are archive"):
            await Backlogs(live.daemon.graph).move("old (file)", "nowhere")
        assert live.daemon.status()["removed_outputs"]["old (file)"]["events"] == 6


async def test_what_is_let_go_meanwhile_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of space, say: it counts as dropped, the rest as moved, and never both."""
    real, dropped = Spool.commit, False

    async def commit(self: Spool, intake: Intake) -> list[int]:
        nonlocal dropped
        if intake.moved is not None and not dropped:
            dropped = True
            await self.drop_backlog("old (file)")
        return await real(self, intake)

    async with living(tmp_path, outputs={"old": _blocked(tmp_path)}) as live:
        await _leave_a_backlog(live)
        monkeypatch.setattr(Spool, "commit", commit)
        assert await Backlogs(live.daemon.graph).move("old (file)", "archive") == 0
        assert _ledger(live, "old") == {"assigned": 6, "dropped by_hand": 6}
        live.assert_closed()


async def test_a_reload_waits_for_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The removed output does not come back in the middle of it."""
    real, begun, go_on = Spool.commit, asyncio.Event(), asyncio.Event()

    async def commit(self: Spool, intake: Intake) -> list[int]:
        if intake.moved is not None:
            begun.set()
            await go_on.wait()
        return await real(self, intake)

    async with living(tmp_path, outputs={"old": _blocked(tmp_path)}) as live:
        await _leave_a_backlog(live)
        monkeypatch.setattr(Spool, "commit", commit)
        async with asyncio.TaskGroup() as group:
            moving = group.create_task(Backlogs(live.daemon.graph).move("old (file)", "archive"))
            await begun.wait()
            back = {"old": _blocked(tmp_path), "archive": live.file("{tag}")}
            reloading = group.create_task(live.reload(outputs=back))
            await asyncio.sleep(0.2)
            assert not reloading.done()
            go_on.set()
        assert moving.result() == 6
        await until(lambda: live.delivered() == 6)
        live.assert_closed()
