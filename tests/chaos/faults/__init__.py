"""What strikes. A file here that declares `FAULTS` is in, and nothing else has to be touched.

A fault begins, lasts and is over when its function returns; what it took away it has given back then, whatever happens.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from tests.chaos.scene import Scene

Strike = Callable[["Scene", random.Random], Awaitable[None]]


class Fault(NamedTuple):
    """`needs` is what the scene must have for it; `alone`: it ends the daemon's life, and nothing else may then."""

    name: str
    what: str
    strike: Strike
    needs: Literal["", "elasticsearch", "disk", "network", "workers"] = ""
    alone: bool = False


def faults() -> dict[str, Fault]:
    """All faults by name, in the order of their names."""
    declared: list[Fault] = []
    for found in pkgutil.iter_modules(__path__):
        declared += importlib.import_module(f"{__name__}.{found.name}").FAULTS
    return {fault.name: fault for fault in sorted(declared)}
