"""The write-ahead log of an SQLite database, frame by frame, also behind a damaged one.

SQLite reads a log up to the first frame whose checksum is wrong and forgets the rest without a word. But each checksum
goes on from the one that stands in the frame before, so every frame behind the damage can be checked as well.

The format is that of https://www.sqlite.org/fileformat.html, section 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcp_ingest.errors import DecodeError

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
_LITTLE, _BIG = 0x377F0682, 0x377F0683

Checksum = tuple[int, int]


class LogHeader(NamedTuple):
    """What the first 32 bytes say; `whole` when their own checksum is right."""

    big: bool  # byte order of the checksums
    page_size: int
    salt: bytes
    checksum: Checksum
    whole: bool


class Frame(NamedTuple):
    """A page as a transaction wrote it. `size` is the database's in pages in the last frame of a commit, else 0."""

    page: int
    size: int
    salt: bytes
    checksum: Checksum


def log_header(data: bytes) -> LogHeader:
    """The log's header; DecodeError when there is none."""
    if len(data) < HEADER_BYTES:
        raise DecodeError("no write-ahead log")
    magic, _, size, _ = struct.unpack_from(">4I", data)
    if magic not in (_LITTLE, _BIG):
        raise DecodeError("no write-ahead log")
    big = magic == _BIG
    stored = struct.unpack_from(">2I", data, 24)
    return LogHeader(big, size, data[16:24], stored, checksum(data[:24], (0, 0), big=big) == stored)


def frame(header: bytes) -> Frame:
    """What the 24 bytes before a page say."""
    page, size = struct.unpack_from(">2I", header)
    return Frame(page, size, header[8:16], struct.unpack_from(">2I", header, 16))


def is_right(head: bytes, page: bytes, before: Checksum, *, big: bool) -> bool:
    """Whether a frame is what was written behind one that has this checksum."""
    return checksum(page, checksum(head[:8], before, big=big), big=big) == struct.unpack_from(">2I", head, 16)


def checksum(data: bytes, before: Checksum, *, big: bool) -> Checksum:
    """The log's running checksum over data of a multiple of eight bytes."""
    first, second = before
    words: Iterator[int] = iter(struct.unpack(f"{'>' if big else '<'}{len(data) // 4}I", data))
    for word in words:
        first = (first + word + second) & 0xFFFF_FFFF
        second = (second + next(words) + first) & 0xFFFF_FFFF
    return first, second
