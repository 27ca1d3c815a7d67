"""The daemon's processes, as the driver finds, stops and kills them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from tests.chaos.control import Control
from tests.chaos.process import DaemonProcess
from tests.integration.daemon import wait_until
from tests.integration.servers import free_port


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """One of two workers that is not started yet."""
    port = free_port()
    config = {
        "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
        "inputs": {"forward": {"port": free_port()}},
        "outputs": {"blackhole": None},
        "spool": {"directory": str(tmp_path / "spool")},
        "http": {"port": port, "token": "chaos"},
    }
    made = DaemonProcess(tmp_path, config, ("127.0.0.1", port), Control(tmp_path / "control"), [], repeat(2))
    yield made
    made.kill()


async def test_each_process_can_be_killed_alone(daemon: DaemonProcess) -> None:
    """A worker comes back by itself; workers without a supervisor end by themselves; `kill` leaves nobody."""
    daemon.spawn()
    await daemon.until_ready(30)
    before = daemon.workers()
    assert len(before) == 2
    daemon.kill_worker(random.Random(1))
    wait_until(lambda: len(set(daemon.workers()) - set(before)) == 1)
    daemon.kill_supervisor()
    assert daemon.is_down
    assert len(daemon.left()) == 2
    daemon.spawn()  # it waits for them
    await daemon.until_ready(30)
    assert daemon.left() == []
    workers = daemon.workers()
    daemon.kill_supervisor()
    daemon.kill()
    assert daemon.left() == []
    assert not any(map(_state, workers))


async def test_what_was_stopped_goes_on(daemon: DaemonProcess) -> None:
    """All processes or one of them are stopped, and let go on; the daemon is ready then as before."""
    daemon.spawn()
    await daemon.until_ready(30)
    assert daemon._process is not None
    everybody, rng, counts = [daemon._process.pid, *daemon.workers()], random.Random(1), set()
    for _ in range(8):
        thaw = daemon.freeze(rng)
        wait_until(lambda: "T" in map(_state, everybody))
        await asyncio.sleep(0.02)  # until all of them have noticed
        counts.add([*map(_state, everybody)].count("T"))
        thaw()
        wait_until(lambda: "T" not in map(_state, everybody))
    assert counts == {1, 3}
    await daemon.until_ready(30)


def _state(process: int) -> str:
    """Its letter in /proc, nothing if it has ended."""
    try:
        letter = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if letter in "ZX" else letter


def test_its_configuration_keeps_the_number_of_workers(daemon: DaemonProcess) -> None:
    """What a reload would refuse is not asked for, whatever configuration is given back after a start between."""
    before = daemon.configuration()
    daemon.spawn()
    daemon.configure({**before, "log": {"level": "error"}})
    assert daemon.configuration() == {**before, "log": {"level": "error"}, "workers": 2}
