"""The network between the daemon and everybody else is cut: senders and Elasticsearch at once, and nobody is told."""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


async def _cut(scene: Scene, rng: random.Random) -> None:
    scene.network.cut()
    try:
        await asyncio.sleep(scene.lasts(rng, 0.5, 8))
    finally:
        scene.network.mend()


FAULTS = (Fault("network", "the network cut", _cut, "network"),)
