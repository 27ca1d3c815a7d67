"""Works of one output that wait in memory to be sent; synchronous, without I/O."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection

from mcp_ingest.engine.account import Work

#: Bytes of chunks that may wait in memory for the retry of some of their events; more of the backlog stays on disk.
DELAYED_BYTES = 32 * 2**20


class Waiting:
    """`whole` are requests that are to be sent as they are, `ready` works of which requests are made."""

    def __init__(self) -> None:
        self.whole: deque[list[Work]] = deque()
        self.ready: deque[Work] = deque()
        self._delayed: list[tuple[float, int, Work]] = []  # a heap, by monotonic time
        self._delayed_bytes = 0  # of the chunks that these hold in memory
        self._order = itertools.count()

    def clear(self) -> None:
        """Forget all of it."""
        self.whole.clear()
        self.ready.clear()
        self._delayed.clear()
        self._delayed_bytes = 0

    def put_back(self, works: list[Work]) -> None:
        """They come first when the next request is made."""
        self.ready.extendleft(reversed(works))

    def delay(self, work: Work, moment: float) -> None:
        """It is ready again at this monotonic time."""
        heapq.heappush(self._delayed, (moment, next(self._order), work))
        self._delayed_bytes += work.chunk.line_bytes

    def due(self, now: float) -> None:
        """Those whose time has come are ready."""
        while self._delayed and self._delayed[0][0] <= now:
            work = heapq.heappop(self._delayed)[2]
            self._delayed_bytes -= work.chunk.line_bytes
            self.ready.append(work)

    def next_due(self) -> float | None:
        """When the next one is ready; None if none is delayed."""
        return self._delayed[0][0] if self._delayed else None

    def holds_enough(self) -> bool:
        """Whether what waits for its retry is so much that no more of the backlog may come into memory."""
        return self._delayed_bytes > DELAYED_BYTES

    def works(self) -> list[Work]:
        """All of them."""
        return [*itertools.chain(*self.whole), *self.ready, *(work for _, _, work in self._delayed)]

    def take_out(self, numbers: Collection[int]) -> list[Work]:
        """Remove those of the chunks with these numbers."""
        gone = [work for work in self.works() if work.chunk.number in numbers]
        kept = ([work for work in group if work.chunk.number not in numbers] for group in self.whole)
        self.whole = deque(group for group in kept if group)
        self.ready = deque(work for work in self.ready if work.chunk.number not in numbers)
        self._delayed = [each for each in self._delayed if each[2].chunk.number not in numbers]
        heapq.heapify(self._delayed)
        self._delayed_bytes = sum(work.chunk.line_bytes for _, _, work in self._delayed)
        return gone
