"""Elasticsearch is killed and started again on its folder, or stopped in its tracks (SIGSTOP) and let go on."""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


async def _killed(scene: Scene, rng: random.Random) -> None:
    server = scene.elasticsearch
    try:
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(scene.lasts(rng, 0.5, 5))
    finally:
        await asyncio.to_thread(server.start)


async def _paused(scene: Scene, rng: random.Random) -> None:
    server = scene.elasticsearch
    server.pause()
    try:
        await asyncio.sleep(scene.lasts(rng, 0.5, 8))
    finally:
        server.resume()


FAULTS = (
    Fault("elasticsearch_killed", "`kill -9` of Elasticsearch, started again", _killed, "elasticsearch"),
    Fault("elasticsearch_paused", "SIGSTOP of Elasticsearch, then SIGCONT", _paused, "elasticsearch"),
)
