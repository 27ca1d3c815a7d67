"""What the process is set to before it works: the allocator's thresholds and the garbage collector's.

glibc gives memory back to the system after each batch and takes it again for the next, page fault by page fault: with
the thresholds set, the whole daemon (`make perf ONLY=S3W`) went from 27.0 and 28.6 µs of CPU an event to 23.7 and
25.2. Each thread with a heap of its own keeps what it once had, so there are two heaps for all: into the store
(`ONLY=STORE`) there were 225 MB of anonymous memory for 200,000 events before, and 179 for 300,000 since (with smaller
requests, too). The floor of `perf` is taken with the same settings.
"""

from __future__ import annotations

import ctypes
import gc
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # malloc.h


def tune_allocator() -> bool:
    """Keep freed memory for the next batch; false where the C library is not glibc and nothing was set."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    set_all = [
        mallopt(_M_MMAP_THRESHOLD, 256 * 2**20),
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20),
        mallopt(_M_TOP_PAD, 16 * 2**20),
        mallopt(_M_ARENA_MAX, 2),
    ]
    return all(set_all)


def collect_replaced() -> None:
    """Let go of what a reload replaced: parts refer to each other, and frozen ones would never be looked at again."""
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()


def tune_collector() -> None:
    """Call it once everything is built: what is there lives for ever, and records are trees without cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
