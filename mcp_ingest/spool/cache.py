"""The chunks committed last, in memory, so that an output that keeps up reads nothing back from the disk.

They are held as they are stored, compressed. Whoever asks gets a chunk of his own, with the same bytes: the columns
that he looks at are not kept longer than he keeps the chunk.
"""

from __future__ import annotations

from dataclasses import replace

from mcp_ingest.spool.model import Chunk

MAX_BYTES = 16 * 2**20
_OVERHEAD = 2000  # of the objects of a chunk


class RecentChunks:
    """Every chunk numbered above `floor` that was not deleted; the oldest go first when it is too much."""

    def __init__(self, floor: int, max_bytes: int = MAX_BYTES) -> None:
        self.floor = floor
        self._last = floor
        self._max_bytes = max_bytes
        self._bytes = 0
        self._chunks: dict[int, Chunk] = {}

    def add(self, chunks: list[Chunk]) -> None:
        """These were committed, in the order of their numbers."""
        for chunk in chunks:
            self._chunks[chunk.number] = chunk
            self._bytes += _size(chunk)
            self._last = chunk.number
        while self._bytes > self._max_bytes:
            self.floor = next(iter(self._chunks))
            self._drop(self.floor)

    def drop(self, numbers: list[int]) -> None:
        """These were deleted."""
        for number in numbers:
            if number in self._chunks:
                self._drop(number)

    def forget(self, output: str, numbers: set[int]) -> None:
        """This output is not to be given these any more, though others owe them still."""
        for number in numbers & self._chunks.keys():
            chunk = self._chunks[number]
            rest = {name: column for name, column in chunk.destinations.items() if name != output}
            self._chunks[number] = replace(chunk, destinations=rest)

    def _drop(self, number: int) -> None:
        self._bytes -= _size(self._chunks.pop(number))

    def get(self, number: int) -> Chunk | None:
        """The chunk if it is here."""
        chunk = self._chunks.get(number)
        return replace(chunk) if chunk else None

    def fresh(self, output: str, after: int, max_bytes: int) -> list[Chunk]:
        """The chunks behind `after` (not less than `floor`) that name the output."""
        found: list[Chunk] = []
        size = 0
        few = self._last - after <= len(self._chunks)  # most numbers may be of chunks that are gone
        for number in range(after + 1, self._last + 1) if few else [n for n in self._chunks if n > after]:
            chunk = self._chunks.get(number)
            if chunk is None or output not in chunk.destinations:
                continue
            found.append(replace(chunk))
            size += chunk.line_bytes
            if size >= max_bytes:
                break
        return found


def _size(chunk: Chunk) -> int:
    """Bytes that it takes as it is stored."""
    return len(chunk.entries.data) + _OVERHEAD
