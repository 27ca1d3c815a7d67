"""Digests of the forward chunk ids that were committed: have these been here?

The newest million, as sorted blocks of 65,536 digests; the memory is 18 bytes a digest, where a set of a million
takes 100 MB. What is newer than the last full block is a plain set. A block goes when the fifteen behind it are full,
or when its newest digest is 72 hours old.

Messages of one event come with a chunk id each, so the question must be cheap: eight blocks share a field of bits, of
which each digest sets one, and only a digest whose bit is set (at most one in 33 that was never here) is looked for, by
a bisection of each block (0.4 microseconds a block). With 300,000 digests the bisections alone were a fifth of all
CPU before.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

DIGEST_BYTES = 16
BLOCK = 65_536
BLOCKS = 15  # besides the set: together a million
KEEP_NS = 72 * 3600 * 10**9
_SHARED = 8  # blocks to a field of bits
_BITS = 24  # 2 to this power are in it: two megabytes


class _Block(NamedTuple):
    high: array[int]
    low: array[int]
    newest: int


class _Group:
    """Blocks that share a field of bits."""

    def __init__(self) -> None:
        self.blocks: deque[_Block] = deque()
        self._bits = bytearray(2**_BITS // 8)
        self._full = 0

    @property
    def is_full(self) -> bool:
        """Whether as many blocks came as share one; some may be gone again."""
        return self._full == _SHARED

    def add(self, block: _Block) -> None:
        """One more block."""
        self.blocks.append(block)
        self._full += 1
        bits = self._bits
        for high in block.high:
            bits[high >> 67 - _BITS] |= 1 << (high >> 64 - _BITS & 7)

    def doubtful(self, highs: Sequence[int]) -> list[int]:
        """The places of those whose bit is set."""
        bits = self._bits
        return [place for place, high in enumerate(highs) if bits[high >> 67 - _BITS] >> (high >> 64 - _BITS & 7) & 1]


class Seen:
    """The digests in memory; what the database has of them is the writer's work."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._groups: deque[_Group] = deque()

    @property
    def loose(self) -> Collection[bytes]:
        """Those that are in no block yet: the database has them in rows of single commits."""
        return self._recent

    def among(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of these digests that are here."""
        found = self._recent.intersection(digests)
        if self._groups:
            some = list(digests)
            highs = _block(b"".join(some), 0).high
            for group in self._groups:
                found.update(some[n] for n in group.doubtful(highs) if _is_in(group.blocks, some[n]))
        return found

    def __len__(self) -> int:
        return len(self._recent) + sum(len(block.high) for group in self._groups for block in group.blocks)

    def add(self, digests: Iterable[bytes], time_ns: int) -> None:
        """These were committed at that time."""
        self._recent.update(digests)
        self._expire(time_ns)

    def packed(self, joined: bytes, time_ns: int) -> None:
        """All that was added since the last block is one now: joined in order, as the database has it."""
        self._recent = set()
        self.add_block(joined, time_ns)

    def add_block(self, joined: bytes, time_ns: int) -> None:
        """A whole block, sorted already, newer than all before."""
        if not self._groups or self._groups[-1].is_full:
            self._groups.append(_Group())
        self._groups[-1].add(_block(joined, time_ns))
        self._expire(time_ns)

    def _expire(self, time_ns: int) -> None:
        while self._groups:
            blocks = self._groups[0].blocks
            count = sum(len(group.blocks) for group in self._groups)
            while blocks and (count > BLOCKS or blocks[0].newest < time_ns - KEEP_NS):
                blocks.popleft()
                count -= 1
            if blocks or not self._groups[0].is_full:
                return
            self._groups.popleft()


def split(joined: bytes) -> list[bytes]:
    """The digests of a row."""
    return [joined[start : start + DIGEST_BYTES] for start in range(0, len(joined), DIGEST_BYTES)]


def _block(joined: bytes, newest: int) -> _Block:
    words = array("Q")
    words.frombytes(joined)
    if sys.byteorder == "little":
        words.byteswap()
    return _Block(words[0::2], words[1::2], newest)


def _is_in(blocks: Iterable[_Block], digest: bytes) -> bool:
    high, low = struct.unpack(">QQ", digest)
    return any(_find(block, high, low) for block in blocks)


def _find(block: _Block, high: int, low: int) -> bool:
    place = bisect_left(block.high, high)
    while place < len(block.high) and block.high[place] == high:
        if block.low[place] == low:
            return True
        place += 1
    return False
