"""The daemon is stopped in its tracks (SIGSTOP) and let go on, as by a machine that is moved or swaps.

Of several processes all, or one of them.
"""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


async def _freeze(scene: Scene, rng: random.Random) -> None:
    thaw = scene.daemon.freeze(rng)
    try:
        await asyncio.sleep(scene.lasts(rng, 0.5, 8))
    finally:
        thaw()


FAULTS = (Fault("frozen", "SIGSTOP of the daemon or of one of its processes, then SIGCONT", _freeze),)
