"""The chunks committed last, in memory, so that an output that keeps up reads nothing back from the disk."""

from __future__ import annotations

from mcp_ingest.spool.model import Chunk
from mcp_ingest.spool.reader import line_bytes

MAX_BYTES = 32 * 2**20
_EVENT_OVERHEAD = 200  # an id, a time, two object headers, five places in lists


class RecentChunks:
    """Every chunk numbered above `floor` that was not deleted; the oldest go first when it is too much."""

    def __init__(self, floor: int, max_bytes: int = MAX_BYTES) -> None:
        self.floor = floor
        self._last = floor
        self._max_bytes = max_bytes
        self._bytes = 0
        self._chunks: dict[int, tuple[Chunk, int, int]] = {}  # with bytes of lines, bytes in all

    def add(self, chunks: list[Chunk]) -> None:
        """These were committed, in the order of their numbers."""
        for chunk in chunks:
            lines = line_bytes(chunk)
            whole = lines + _EVENT_OVERHEAD * len(chunk.lines)
            self._chunks[chunk.number] = (chunk, lines, whole)
            self._bytes += whole
            self._last = chunk.number
        while self._bytes > self._max_bytes:
            self.floor = next(iter(self._chunks))
            self._drop(self.floor)

    def drop(self, numbers: list[int]) -> None:
        """These were deleted."""
        for number in numbers:
            if number in self._chunks:
                self._drop(number)

    def _drop(self, number: int) -> None:
        self._bytes -= self._chunks.pop(number)[2]

    def get(self, number: int) -> Chunk | None:
        """The chunk if it is here."""
        entry = self._chunks.get(number)
        return entry[0] if entry else None

    def fresh(self, output: str, after: int, max_bytes: int) -> list[Chunk]:
        """The chunks behind `after` (not less than `floor`) that name the output."""
        found: list[Chunk] = []
        size = 0
        for number in range(after + 1, self._last + 1):
            entry = self._chunks.get(number)
            if entry is None or output not in entry[0].destinations:
                continue
            found.append(entry[0])
            size += entry[1]
            if size >= max_bytes:
                break
        return found
