"""The daemon ends, by `kill -9` or in good order, and is started again at once; or one of its processes alone."""

from __future__ import annotations

import asyncio
import random
import time

from tests.chaos.faults import Fault
from tests.chaos.process import DaemonError
from tests.chaos.scene import Scene

_ORPHAN_SECONDS = 25.0  # 15 are promised; a worker that was frozen notices late


async def _kill(scene: Scene, rng: random.Random) -> None:
    scene.daemon.kill()
    if rng.random() < 0.3:  # so long that files are rotated meanwhile
        await asyncio.sleep(rng.uniform(0.1, 1.5))
    scene.daemon.spawn()


async def _terminate(scene: Scene, rng: random.Random) -> None:
    await scene.daemon.until_ready(scene.patience)  # before, SIGTERM ends it without a word, as any program
    code = await scene.daemon.stop()
    if code != 0:
        raise DaemonError(f"the daemon ended with {code} on SIGTERM")
    await asyncio.sleep(rng.choice((0.0, rng.uniform(0.1, 1.5))))
    scene.daemon.spawn()


async def _kill_worker(scene: Scene, rng: random.Random) -> None:
    scene.daemon.kill_worker(rng)


async def _kill_supervisor(scene: Scene, rng: random.Random) -> None:
    scene.daemon.kill_supervisor()
    end = time.monotonic() + _ORPHAN_SECONDS
    await asyncio.sleep(rng.choice((0.0, rng.uniform(0.1, 1.5))))
    scene.daemon.spawn()
    while left := scene.daemon.left():
        if time.monotonic() > end:
            raise DaemonError(f"workers {left} live {_ORPHAN_SECONDS:.0f} s after their supervisor was killed")
        await asyncio.sleep(0.05)


FAULTS = (
    Fault("kill", "`kill -9` of the daemon, started again at once", _kill, alone=True),
    Fault("worker_killed", "`kill -9` of one worker, which its supervisor starts again", _kill_worker, "workers"),
    Fault(
        "supervisor_killed",
        "`kill -9` of the supervisor alone, started again while its workers still end",
        _kill_supervisor,
        "workers",
        alone=True,
    ),
    Fault("sigterm", "SIGTERM, and started again", _terminate, alone=True),
)
