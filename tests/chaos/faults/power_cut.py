"""The power fails: what was not synced to the disk of the spool (and the store) is lost, and the daemon with it.

A `kill -9` leaves the page cache behind, this does not: an acknowledgement before its fsync would show.
"""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


async def _cut(scene: Scene, rng: random.Random) -> None:
    scene.disk.cut_power()
    await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 0.5))))  # it goes on as long as it can, on a dead disk
    scene.daemon.kill()
    await asyncio.to_thread(scene.disk.unmount)
    scene.disk.mount()
    scene.daemon.spawn()


FAULTS = (Fault("power_cut", "a power cut: what was not synced is gone", _cut, "disk", alone=True),)
