"""The running whole, in this process: real inputs, a real spool, a real output."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_ingest.component import Emit
from mcp_ingest.config.load import load
from mcp_ingest.config.model import LogSettings
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.log import set_up
from mcp_ingest.errors import IngestError
from mcp_ingest.inputs.tail import Tail
from mcp_ingest.metrics import Metrics
from mcp_ingest.outputs.blackhole import Blackhole
from mcp_ingest.outputs.file import File
from tests.engine.parts import until
from tests.integration.servers import missing
from tests.spool.test_care import read_only, remount


def _config(directory: Path, **changes: Any) -> dict[str, Any]:
    return {
        "inputs": {"files": {"type": "tail", "paths": [str(directory / "*.log")], "start_at": "head"}},
        "pipelines": {"p": {"match": "**", "stages": [{"redact": {}}]}},
        "outputs": {"archive": {"type": "file", "path": str(directory / "out" / "all.ndjson")}},
        "spool": {"directory": str(directory / "spool")},
        **changes,
    }


def _daemon(directory: Path, config: dict[str, Any]) -> Daemon:
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return Daemon(load(str(path)), Metrics(), logging.getLogger("test"))


@contextlib.asynccontextmanager
async def _running(daemon: Daemon) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(daemon.run())
        await asyncio.wait_for(daemon.graph.listens.wait(), 10)
        try:
            yield
        finally:
            daemon.stop()


def _has_delivered(daemon: Daemon, count: int) -> bool:
    return bool(daemon.status()["outputs"]["archive"]["delivered"] == count)


async def test_a_line_goes_all_the_way(tmp_path: Path) -> None:
    """From a file to a file: delivered, accounted for, and ready was called once everything listened."""
    (tmp_path / "a.log").write_text("one\ntwo\n")
    daemon = _daemon(tmp_path, _config(tmp_path))
    async with _running(daemon):
        assert daemon.ready() is None
        await until(partial(_has_delivered, daemon, 2))
        status = daemon.status()
        assert all(row["closed"] for row in status["sums"])
        assert status["inputs"]["files"]["received"] == 2
        assert status["outputs"]["archive"]["held"] == 0
    assert daemon.ready() == "shutting down"
    assert (tmp_path / "out" / "all.ndjson").read_text().count("\n") == 2


async def test_outputs_start_when_the_inputs_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to load holds up no sender; an input that takes long itself is not waited for."""
    listening: list[bool] = []

    async def start(self: File) -> None:
        listening.append(daemon.graph.listens.is_set())

    monkeypatch.setattr(File, "start", start)
    daemon = _daemon(tmp_path, _config(tmp_path))
    async with _running(daemon):
        await until(lambda: listening == [True])
    monkeypatch.setattr("mcp_ingest.engine.graph.INPUTS_FIRST", 0.0)
    daemon = _daemon(tmp_path, _config(tmp_path))
    daemon.graph.heard = lambda: None  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        group.create_task(daemon.run())
        await until(lambda: listening == [True, False])
        daemon.stop()


async def test_the_ledger_survives_a_restart(tmp_path: Path) -> None:
    """Counters go on where they were, and no line is read twice."""
    (tmp_path / "a.log").write_text("one\n")
    for expected in (1, 2):
        daemon = _daemon(tmp_path, _config(tmp_path))
        async with _running(daemon):
            await until(partial(_has_delivered, daemon, expected))
            assert daemon.status()["inputs"]["files"]["received"] == expected
        with (tmp_path / "a.log").open("a") as log:
            log.write("more\n")


async def test_an_input_that_cannot_start_ends_it_with_its_reason(tmp_path: Path) -> None:
    """A port that is taken is one sentence, not a traceback or a daemon that does nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = _config(tmp_path, inputs={"forward": {"host": "127.0.0.1", "port": port}})
        with pytest.raises(IngestError, match=str(port)):
            await asyncio.wait_for(_daemon(tmp_path, config).run(), 20)


async def test_two_daemons_on_one_spool(tmp_path: Path) -> None:
    """The second one says who has the spool."""
    first, second = (_daemon(tmp_path, _config(tmp_path)) for _ in range(2))
    async with _running(first):
        with pytest.raises(IngestError, match="spool"):
            await second.run()


async def test_its_own_log_is_never_its_input(tmp_path: Path) -> None:
    """A glob that takes in the daemon's own log file does not feed it to itself."""
    (tmp_path / "a.log").write_text("one\n")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(_config(tmp_path)))
    metrics = Metrics()
    logger = set_up(LogSettings(level="debug", file=str(tmp_path / "own.log")), metrics)
    daemon = Daemon(load(str(path)), metrics, logger)
    async with _running(daemon):
        logger.info("a line of our own")
        await until(partial(_has_delivered, daemon, 1))
        await asyncio.sleep(0.3)
        assert daemon.status()["inputs"]["files"]["received"] == 1


async def test_an_output_that_cannot_close_keeps_nobody_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that raises and one that hangs at the stop: the others and the spool are closed all the same."""
    closed: list[str] = []

    async def raising(self: File) -> None:
        closed.append("file")
        raise OSError("no")

    async def hanging(self: Blackhole) -> None:
        closed.append("blackhole")
        await asyncio.Event().wait()

    monkeypatch.setattr(File, "close", raising)
    monkeypatch.setattr(Blackhole, "close", hanging)
    monkeypatch.setattr("mcp_ingest.engine.graph.GRACE", 0.2)
    outputs = {"archive": {"type": "file", "path": str(tmp_path / "out")}, "blackhole": {}}
    daemon = _daemon(tmp_path, _config(tmp_path, outputs=outputs))
    async with _running(daemon):
        pass
    assert sorted(closed) == ["blackhole", "file"]
    async with _running(_daemon(tmp_path, _config(tmp_path))):
        pass


async def test_an_input_that_failed_is_not_ready_until_it_listens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure after the start makes the daemon unready, not dead, and it comes back by itself."""
    real, broken = Tail.run, asyncio.Event()

    async def failing(self: Tail, emit: Emit) -> None:
        if broken.is_set():
            raise RuntimeError("still no")
        self.context.ready("for a moment")
        await asyncio.sleep(0.05)
        broken.set()
        raise RuntimeError("no password=hunter22")

    monkeypatch.setattr(Tail, "run", failing)
    monkeypatch.setattr("mcp_ingest.engine.running.pause", lambda attempt: 0.05)
    daemon = _daemon(tmp_path, _config(tmp_path))
    async with _running(daemon):
        await broken.wait()
        await until(lambda: daemon.ready() is not None)
        await asyncio.sleep(0.2)
        monkeypatch.setattr(Tail, "run", real)
        await until(lambda: daemon.ready() is None)


async def test_a_removed_output_s_backlog_closes_its_sum(tmp_path: Path) -> None:
    """After a restart without an output that owed something, every sum still closes."""
    (tmp_path / "a.log").write_text("one\ntwo\n")
    blocked = {"old": {"type": "file", "path": "/proc/nowhere/x"}, "archive": {"type": "blackhole"}}
    first = _daemon(tmp_path, _config(tmp_path, outputs=blocked))
    async with _running(first):
        await until(partial(_has_delivered, first, 2))
    second = _daemon(tmp_path, _config(tmp_path, outputs={"archive": {"type": "blackhole"}}))
    async with _running(second):
        status = second.status()
        assert status["removed_outputs"]["old (file)"]["events"] == 2
        assert all(row["closed"] for row in status["sums"]), status["sums"]


async def test_a_disk_that_refuses_at_the_start_is_waited_for(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon lives, says why it is not ready, goes on when the disk is back, and can be stopped meanwhile."""
    monkeypatch.setattr("mcp_ingest.spool.spool.DISK_SECONDS", 0.05)
    config = _config(tmp_path, spool={"directory": str(small_disk / "spool"), "ballast_bytes": "1MiB"})
    remount(small_disk, "ro")
    if not read_only(small_disk):
        missing("this file system cannot be made read-only")
    daemon = _daemon(tmp_path, config)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(daemon.run())
        await until(lambda: "Read-only file system" in (daemon.ready() or ""))
        assert "Read-only" in daemon.status()["spool"]["trouble"]
        remount(small_disk, "rw")
        await until(lambda: daemon.ready() is None)
        assert daemon.status()["spool"]["trouble"] is None
        daemon.stop()
        await running
    remount(small_disk, "ro")
    daemon = _daemon(tmp_path, config)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(daemon.run())
        await until(lambda: daemon.ready() != "not listening yet: files")
        daemon.stop()
        await asyncio.wait_for(running, 10)
    remount(small_disk, "rw")


async def test_damage_is_in_the_status(tmp_path: Path) -> None:
    """After a salvage the status names the folder and what each output lost, and says that sums close."""
    (tmp_path / "a.log").write_text('{"message":"x"}\n' * 5)
    daemon = _daemon(tmp_path, _config(tmp_path))
    async with _running(daemon):
        await until(lambda: _has_delivered(daemon, 5))
    (tmp_path / "spool" / "spool.db").write_bytes(b"damaged")
    daemon = _daemon(tmp_path, _config(tmp_path))
    async with _running(daemon):
        status = daemon.status()
        (damage,) = status["spool"]["damage"]
        assert (damage["kind"], damage["lost"], damage["positions_lost"]) == ("database", {}, True)
        await until(lambda: all(each["closed"] for each in daemon.status()["sums"]))
