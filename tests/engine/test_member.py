"""One worker as its supervisor sees it; the process is a small program that does what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_ingest.context import SystemClock
from mcp_ingest.engine import member as members
from mcp_ingest.engine.member import Member
from mcp_ingest.engine.orders import Orders
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import WORKER_RESTARTS, Metrics
from tests.engine.parts import until

BEGIN = """
import os, signal, sys, time
from mcp_ingest.engine.orders import Link, Notice
link = Link(int(sys.argv[-1]))
"""
WORKS = "link.tell(Notice(listening={'f': 'tcp'}))\nsignal.pause()"


class _Starts:
    """A worker that runs this program, and what its supervisor hears."""

    def __init__(self, program: str) -> None:
        self.metrics = Metrics()
        self.heard = 0
        lock = os.open("/dev/null", os.O_RDONLY)
        orders = Orders(1, 2, {}, {}, [], -1, lock)
        command = [sys.executable, "-c", BEGIN + program]
        self.member = Member(command, orders, SystemClock(), self.metrics, logging.getLogger("test"), self._hear)

    def _hear(self) -> None:
        self.heard += 1

    @property
    def restarts(self) -> float:
        return float(self.metrics.counter(WORKER_RESTARTS, worker="1")._value.get())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Member]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.member.run())
            try:
                yield self.member
            finally:
                self.member.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long pauses."""
    monkeypatch.setattr(members, "pause", lambda attempt: 0.05)


async def test_a_worker_that_is_killed_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """It is started again, which is counted and said once; whoever asked it meanwhile is told at once."""
    start = _Starts(WORKS)
    async with start.running() as worker:
        await until(lambda: worker.listening == {"f": "tcp"}, 20)
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with pytest.raises(TimeoutError):
            async with worker.asked(60):
                await asyncio.sleep(60)
        await until(lambda: worker.listening is not None and worker.pid != first, 20)
        assert (worker.lives, start.restarts) == (2, 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "worker 1 was ended by SIGKILL; it is started again in 0.1 s"
    ]
    assert worker.listening is None


async def test_a_worker_that_cannot_start_is_an_error() -> None:
    """What it says is the reason; one that says nothing ended with its code."""
    for program, said in (
        ("link.tell(Notice(failed='no such spool'))\nsys.exit(1)", "no such spool"),
        ("sys.exit(3)", "worker 1 ended with code 3"),
    ):
        with pytest.raises(IngestError, match=said):
            await asyncio.wait_for(_Starts(program).member.run(), 30)


async def test_a_later_failure_is_tried_again(tmp_path: Path) -> None:
    """Once it has listened, no reason that it gives ends the others."""
    flag = tmp_path / "second"
    program = (
        f"if not os.path.exists({str(flag)!r}):\n open({str(flag)!r}, 'w').close()\n"
        " link.tell(Notice(listening={'f': 'tcp'}))\n link.tell(Notice(failed='the disk is away'))\n sys.exit(1)\n"
    )
    start = _Starts(program + WORKS)
    async with start.running() as worker:
        await until(lambda: worker.lives == 2 and worker.listening is not None, 20)
        assert start.restarts == 1.0


async def test_stop_before_it_is_up() -> None:
    """A worker that is told to end while it starts is not started again."""
    start = _Starts(WORKS)
    async with asyncio.TaskGroup() as group:
        group.create_task(start.member.run())
        await asyncio.sleep(0)
        start.member.stop()
    assert start.member.lives <= 1
    assert start.member.pid is None


async def test_killed_at_its_start_it_is_tried_again(tmp_path: Path) -> None:
    """A signal says nothing against the configuration."""
    flag = tmp_path / "second"
    program = (
        f"if not os.path.exists({str(flag)!r}):\n open({str(flag)!r}, 'w').close()\n"
        " os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    start = _Starts(program + WORKS)
    async with start.running() as worker:
        await until(lambda: worker.lives == 2 and worker.listening is not None, 20)
