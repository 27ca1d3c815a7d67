"""Commits fail with an I/O error for a moment: nothing of them is there, and nobody is told otherwise."""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene


async def _fail(scene: Scene, rng: random.Random) -> None:
    scene.control.failing_commits = True
    try:
        await asyncio.sleep(scene.lasts(rng, 0.05, 2))
    finally:
        scene.control.failing_commits = False


FAULTS = (Fault("commits_fail", "commits that fail with an I/O error", _fail),)
