"""The floor is a number that a process prints."""

from __future__ import annotations

import subprocess
import sys


def test_floor_is_printed() -> None:
    """A process of its own prints some tenths of a microsecond to some tens of them."""
    done = subprocess.run([sys.executable, "-m", "perf.floor"], capture_output=True, text=True, check=True)
    assert 0.2 < float(done.stdout) < 50
