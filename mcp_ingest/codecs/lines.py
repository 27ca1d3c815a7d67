"""Bytes of a text file to its lines, each with the place where it begins: columns, no object for each line.

A line ends with a line feed; a carriage return before it belongs to the end. Other line ends that Unicode knows
are text. Empty lines are no lines. Text that its encoding cannot read is kept with U+FFFD in the place of what is
wrong, line by line, so that one bad line does not harm its neighbours.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import accumulate, compress
from operator import add
from typing import NamedTuple

#: Bytes that are kept of a line that is too long.
HEAD_BYTES = 256
_ASCII_IS_ITSELF = ("utf-8", "ascii", "latin-1", "cp1252")


class LongLine(NamedTuple):
    """A line over the limit: where it begins, how many bytes it has, and the first few of them."""

    position: int
    length: int
    head: bytes


class Lines(NamedTuple):
    """What a block held: `texts` and `positions` side by side, and what was not as it should be.

    `positions` are byte offsets of the lines' first bytes, `replaced` counts lines with U+FFFD put in.
    """

    texts: list[str]
    positions: list[int]
    replaced: int = 0
    long: Sequence[LongLine] = ()


NOTHING = Lines([], [])


def is_line_encoding(name: str) -> bool:
    """Whether Python knows the encoding and it writes a line feed as the one byte that ASCII has for it."""
    try:
        return codecs.lookup(name).encode("\n")[0] == b"\n"
    except (LookupError, TypeError, UnicodeError):
        return False


def split_lines(data: bytes, start: int = 0, limit: int = 2**20, encoding: str = "utf-8") -> Lines:
    """The lines of `data`, whose first byte has the offset `start`; the last one may lack its line end.

    Lines of more than `limit` bytes (line end apart) are in `long` only. Raises nothing.
    """
    texts, lengths, replaced = _columns(data, encoding)
    positions = list(map(add, accumulate(lengths, initial=start), range(len(lengths))))
    long = _long_lines(data, start, positions, lengths, limit)
    if long:
        mask = [length <= limit for length in lengths]
        texts, positions = list(compress(texts, mask)), list(compress(positions, mask))
    if b"\r" in data:
        texts = [text.removesuffix("\r") for text in texts]
    if not all(texts):
        texts, positions = list(filter(None, texts)), list(compress(positions, texts))
    return Lines(texts, positions, replaced, long)


def _columns(data: bytes, encoding: str) -> tuple[list[str], list[int], int]:
    """Texts of all lines, their lengths in bytes, and how many have U+FFFD put in.

    A block in ASCII is decoded at once, which spares 0.1 µs a line. In others each line by itself: one letter beyond
    ASCII makes decoding and splitting the whole block cost 0.5 µs a line more, and an encoding with a state (which
    begins anew in each line) is only right so.
    """
    if encoding in _ASCII_IS_ITSELF and data.isascii():
        texts = data.decode("ascii").split("\n")
        if not texts[-1]:
            texts.pop()
        return texts, list(map(len, texts)), 0
    raw = data.split(b"\n")
    if not raw[-1]:
        raw.pop()
    replaced = 0
    try:
        texts = [line.decode(encoding) for line in raw]
    except UnicodeDecodeError:
        texts, replaced = _decode_each(raw, encoding)
    return texts, list(map(len, raw)), replaced


def _decode_each(raw: list[bytes], encoding: str) -> tuple[list[str], int]:
    texts, replaced = [], 0
    for line in raw:
        try:
            texts.append(line.decode(encoding))
        except UnicodeDecodeError:
            texts.append(line.decode(encoding, "replace"))
            replaced += 1
    return texts, replaced


def _long_lines(data: bytes, start: int, positions: list[int], lengths: list[int], limit: int) -> Sequence[LongLine]:
    if max(lengths, default=0) <= limit:
        return ()
    return [
        LongLine(position, length, data[position - start : position - start + min(length, HEAD_BYTES)])
        for position, length in zip(positions, lengths, strict=True)
        if length > limit
    ]
