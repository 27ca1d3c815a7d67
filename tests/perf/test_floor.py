"""The floor is a number that a process prints."""

from __future__ import annotations

import gc
import subprocess
import sys

from perf.floor import floor


def test_floor_is_printed() -> None:
    """A process of its own prints some tenths of a microsecond to some tens of them."""
    done = subprocess.run([sys.executable, "-m", "perf.floor"], capture_output=True, text=True, check=True)
    assert 0.2 < float(done.stdout) < 50


def test_collector_goes_on_afterwards() -> None:
    """Measuring in this process leaves the garbage collector enabled."""
    assert floor() > 0
    assert gc.isenabled()
    gc.unfreeze()
