"""The wall clock jumps, by a second or by days, forth or back, and stays there until it jumps again."""

from __future__ import annotations

import asyncio
import random

from tests.chaos.faults import Fault
from tests.chaos.scene import Scene

_NS = 10**9
#: Beyond 72 hours the spool may forget the ids of chunks, and a resend be stored again: docs/delivery.md.
_FARTHEST = 60 * 3600


async def _jump(scene: Scene, rng: random.Random) -> None:
    seconds = rng.choice(
        (0.0, *(sign * reach * rng.random() for sign in (-1, 1) for reach in (2, 4000, _FARTHEST / 2)))
    )
    scene.control.clock_offset = int(seconds * _NS)
    await asyncio.sleep(scene.lasts(rng, 0.5, 2))


FAULTS = (Fault("clock", "the clock set forth or back, by up to 30 hours", _jump),)
