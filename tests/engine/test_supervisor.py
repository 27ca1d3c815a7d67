"""The supervisor's own rules; with real workers it is tested in `tests/integration/test_workers.py`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest
import yaml

from mcp_ingest.config.load import load
from mcp_ingest.engine import member, supervisor
from mcp_ingest.engine.supervisor import Supervisor
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import WORKERS, Metrics
from tests.engine.parts import until
from tests.engine.test_member import BEGIN, WORKS


def _supervisor(folder: Path, program: str = WORKS, workers: int = 3, directory: Path | None = None) -> Supervisor:
    path = folder / "c.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "inputs": {"forward": {"host": "127.0.0.1", "port": 0}},
                "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
                "outputs": {"blackhole": None},
                "spool": {"directory": str(folder / "spool")},
                "workers": workers,
            }
        )
    )
    command = [sys.executable, "-c", BEGIN + program]
    return Supervisor(load(str(path)), command, Metrics(), logging.getLogger("test"))


async def test_it_is_ready_when_all_are(tmp_path: Path) -> None:
    """And says which are not; at the end none of them is left."""
    above = _supervisor(tmp_path)
    assert above.ready() == "workers that do not listen: all"
    async with asyncio.TaskGroup() as group:
        group.create_task(above.run())
        await asyncio.wait_for(above.listens.wait(), 30)
        assert above.ready() is None
        assert above.metrics.gauge(WORKERS)._value.get() == 3
        above.members[1].listening = None
        assert above.ready() == "workers that do not listen: 1"
        above.stop()
        assert above.ready() == "shutting down"
    assert [each.pid for each in above.members] == [None, None, None]


async def test_one_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """The others end before the reason is raised."""
    program = f"if link.orders.index == 1:\n link.tell(Notice(failed='broken'))\n sys.exit(1)\n{WORKS}"
    above = _supervisor(tmp_path, program)
    with pytest.raises(IngestError, match=r"^broken$"):
        await asyncio.wait_for(above.run(), 30)
    assert all(each.pid is None for each in above.members)


async def test_a_worker_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The shutdown has an end, whatever a worker does."""
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.5)
    above = _supervisor(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WORKS + "\nsignal.pause()" * 9)
    async with asyncio.TaskGroup() as group:
        group.create_task(above.run())
        await asyncio.wait_for(above.listens.wait(), 30)
        above.stop()
    assert "3 workers did not end within" in caplog.text
    assert all(each.pid is None for each in above.members)


async def test_orphans_and_positions_are_in_the_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker is told the same positions, and whose spool is its own to take over."""
    monkeypatch.setattr(member, "pause", lambda attempt: 0.05)
    for index in (0, 4, 5):
        folder = tmp_path / "spool" / (f"worker-{index}" if index else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spool.db").touch()
    above = _supervisor(tmp_path)
    async with asyncio.TaskGroup() as group:
        group.create_task(above.run())
        await until(lambda: len(above.members) == 3)
        assert [each.spools for each in above.members] == [(0,), (1, 4), (2, 5)]
        above.stop()
