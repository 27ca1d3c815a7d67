"""The disk of the spool is filled to the last block, and freed again."""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


async def _full(scene: Scene, rng: random.Random) -> None:
    await asyncio.to_thread(scene.disk.fill)
    try:
        await asyncio.sleep(scene.lasts(rng, 0.5, 5))
    finally:
        scene.disk.free()


FAULTS = (Fault("disk_full", "the disk full, and free again", _full, "disk"),)
