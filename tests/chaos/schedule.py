"""From a seed to faults at random moments: the same ones, in the same order, for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.chaos.faults import Fault

_LONGEST_GAP = 2.0
_BESIDE, _LEFT_ALONE = 0.2, 0.75  # shares of the rounds


class Round(NamedTuple):
    """After `gap` seconds comes `fault`; `beside` strikes `later` seconds after it began, while it lasts.

    `recover`: the next round comes only when the daemon delivers again; else at once, into whatever there is.
    `seed` is for the faults' own dice.
    """

    gap: float
    fault: Fault
    beside: Fault | None
    later: float
    recover: bool
    seed: int


def rounds(seed: int, faults: Sequence[Fault]) -> Iterator[Round]:
    """Without end, if there are any; each fault comes once before any comes twice."""
    rng = random.Random(seed)
    enders = [fault for fault in faults if fault.alone]
    while faults:
        for fault in rng.sample(faults, len(faults)):
            gap, later, own = rng.uniform(0.05, _LONGEST_GAP), rng.uniform(0.1, 2.0), rng.getrandbits(32)
            beside = rng.choice(enders) if enders and not fault.alone and rng.random() < _BESIDE else None
            yield Round(gap, fault, beside, later, rng.random() < _LEFT_ALONE, own)
