"""Digests of the forward chunk ids that were committed: has this one been here?

The newest million, as sorted blocks of 65,536 digests: a bisection of each block is 0.4 microseconds, all sixteen
7, once for a forward chunk; the memory is 16 bytes a digest, where a set of a million takes 100 MB. What is
newer than the last full block is a plain set. A block goes when the sixteen behind it are full, or when its
newest digest is 72 hours old.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

DIGEST_BYTES = 16
BLOCK = 65_536
BLOCKS = 15  # besides the set: together a million
KEEP_NS = 72 * 3600 * 10**9


class _Block(NamedTuple):
    high: array[int]
    low: array[int]
    newest: int


class Seen:
    """The digests in memory; what the database has of them is the writer's work."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._newest = 0
        self._blocks: deque[_Block] = deque(maxlen=BLOCKS)

    def __contains__(self, digest: bytes) -> bool:
        if digest in self._recent:
            return True
        high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
        return any(_find(block, high, low) for block in self._blocks)

    def __len__(self) -> int:
        return len(self._recent) + sum(len(block.high) for block in self._blocks)

    def add(self, digests: Iterable[bytes], time_ns: int) -> None:
        """These were committed at that time."""
        self._recent.update(digests)
        self._newest = max(self._newest, time_ns)
        if len(self._recent) >= BLOCK:
            self._blocks.append(_block(b"".join(sorted(self._recent)), self._newest))
            self._recent = set()
        self._expire(time_ns)

    def add_block(self, joined: bytes, time_ns: int) -> None:
        """A whole block, sorted already, newer than all before."""
        self._blocks.append(_block(joined, time_ns))
        self._expire(time_ns)

    def _expire(self, time_ns: int) -> None:
        while self._blocks and self._blocks[0].newest < time_ns - KEEP_NS:
            self._blocks.popleft()


def split(joined: bytes) -> list[bytes]:
    """The digests of a row."""
    return [joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)]


def _block(joined: bytes, newest: int) -> _Block:
    words = array("Q")
    words.frombytes(joined)
    if sys.byteorder == "little":
        words.byteswap()
    return _Block(words[0::2], words[1::2], newest)


def _find(block: _Block, high: int, low: int) -> bool:
    place = bisect_left(block.high, high)
    while place < len(block.high) and block.high[place] == high:
        if block.low[place] == low:
            return True
        place += 1
    return False
