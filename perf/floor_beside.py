"""The floor while something else runs: the work of `floor.py` in small portions, a chunk each 20 ms.

    python -m perf.floor_beside     prints `ready`, and when its standard input ends the mean, in µs of CPU an event

What slows a run down (neighbours, the other thread of the same core, a throttled clock) slows these portions down as
much, and in the same seconds; the best of seven rounds before the run knows nothing of it. On two cores that others
kept busy, the cost of the same daemon in the floor before and after it varied by 116 % from run to run (S2, ten runs)
and by 55 % (S3), in this one by 22 and 27 %, and medians of three runs by 9 and 12 %. It is higher than the floor, and
so the ratios are lower: they compare with each other only.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import threading
import time
from types import TracebackType

from mcp_ingest.engine.tuning import tune_allocator, tune_collector
from perf.floor import EVENTS, prepared, seconds
from perf.processes import MeasureError, python
from perf.scenario import ROOT

_PAUSE_SECONDS = 0.02


class FloorBeside:
    """The floor of the time that a `with` block takes; `value` is known after it."""

    def __init__(self) -> None:
        self.value = 0.0

    def __enter__(self) -> FloorBeside:
        command = python("perf.floor_beside")
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii"
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shown, _ = self._process.communicate("")
        if kind is None and self._process.returncode:
            raise MeasureError(f"the floor ended with {self._process.returncode}")
        self.value = float(shown or 0)


def main() -> None:
    """Work until standard input ends, then print the mean."""
    tune_allocator()
    decoder, chunks = prepared()
    tune_collector()
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    print("ready", flush=True)
    taken = []
    for chunk in itertools.cycle(chunks):
        taken.append(seconds(decoder, [chunk]))
        if ended.is_set():
            break
        time.sleep(_PAUSE_SECONDS)
    print(f"{statistics.mean(taken) / EVENTS * 1e6:.4f}")


if __name__ == "__main__":
    main()
