"""Where MessagePack values end, found without making a Python object of them; and careful unpacking.

`msgpack.Unpacker.skip` finds 4 million ends a second and resumes where the bytes ran out, but gives up below
1024 levels; from there on the bytes are walked here, which knows no depth and holds two numbers.
Source: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from collections import deque
from operator import sub
from typing import Any

import msgpack

from mcp_ingest.errors import DecodeError

Buffer = bytes | bytearray | memoryview

HEADER_BYTES = 5  # of an array of up to 2**32 - 1
_FIRST_PIECE, _LARGEST_PIECE = 4096, 2**20

#: By first byte: (bytes of the length field, bytes besides header and length, values for each unit of length).
#: Without a length field the third says how many values follow. None: 0xc1, which nothing may begin with.
_FORMS: list[tuple[int, int, int] | None] = [
    *[(0, 0, 0)] * 0x80,  # positive fixint
    *[(0, 0, 2 * n) for n in range(16)],  # fixmap
    *[(0, 0, n) for n in range(16)],  # fixarray
    *[(0, n, 0) for n in range(32)],  # fixstr
    (0, 0, 0), None, (0, 0, 0), (0, 0, 0),  # nil, never used, false, true
    (1, 0, 0), (2, 0, 0), (4, 0, 0),  # bin
    (1, 1, 0), (2, 1, 0), (4, 1, 0),  # ext: the type's byte besides
    (0, 4, 0), (0, 8, 0),  # float
    *[(0, n, 0) for n in (1, 2, 4, 8) * 2],  # uint, int
    *[(0, n + 1, 0) for n in (1, 2, 4, 8, 16)],  # fixext
    (1, 0, 0), (2, 0, 0), (4, 0, 0),  # str
    (2, 0, 1), (4, 0, 1),  # array
    (2, 0, 2), (4, 0, 2),  # map
    *[(0, 0, 0)] * 0x20,  # negative fixint
]  # fmt: skip


class Walk:
    """Passes over `values` values from `offset` on, in a buffer that grows, at any depth."""

    __slots__ = ("offset", "values")

    def __init__(self, offset: int, values: int = 1) -> None:
        self.offset = offset
        self.values = values

    def find(self, buffer: Buffer) -> int | None:
        """The offset behind the last value; None until the buffer has it. DecodeError for what is no value."""
        offset, values, size = self.offset, self.values, len(buffer)
        while values and offset < size:
            form = _FORMS[buffer[offset]]
            if form is None:
                raise DecodeError("0xc1 is no MessagePack")
            width, besides, inner = form
            body = offset + 1 + width
            if body > size:
                break
            length = int.from_bytes(buffer[offset + 1 : body], "big") if width else 1
            offset = body + besides + (length if width and not inner else 0)
            values += inner * length - 1
        self.offset, self.values = offset, values
        return offset if not values and offset <= size else None


class Extent:
    """The same promise as `Walk`, at the speed of C while the nesting allows it."""

    __slots__ = ("_fed", "_left", "_piece", "_start", "_unpacker", "_values", "_walk")

    def __init__(self, start: int, values: int) -> None:
        self._start = start
        self._values = values
        self._left = values
        self._fed = start
        self._piece = _FIRST_PIECE
        self._unpacker = _unpacker()
        self._walk: Walk | None = None

    def find(self, buffer: Buffer) -> int | None:
        """The offset behind the last value; None until the buffer has it. DecodeError for what is no value."""
        if self._walk is None:
            try:
                return self._skip(buffer)
            except msgpack.StackError:
                self._walk = Walk(self._start, self._values)
            except ValueError:
                raise DecodeError("not MessagePack") from None
        return self._walk.find(buffer)

    def _skip(self, buffer: Buffer) -> int | None:
        unpacker = self._unpacker
        while self._left:
            try:
                unpacker.skip()
                self._left -= 1
            except msgpack.OutOfData:
                if self._fed == len(buffer):
                    return None
                with memoryview(buffer) as view:  # growing pieces: what follows a small frame is not copied
                    unpacker.feed(view[self._fed : self._fed + self._piece])
                self._fed = min(self._fed + self._piece, len(buffer))
                self._piece = min(2 * self._piece, _LARGEST_PIECE)
        return self._start + int(unpacker.tell())


def _unpacker() -> msgpack.Unpacker:
    return msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=0, read_size=_FIRST_PIECE)


def value_ends(data: Buffer) -> tuple[list[int], bool]:
    """The offset behind each complete value, and whether what follows the last of them is no MessagePack."""
    unpacker, ends = _unpacker(), list[int]()
    unpacker.feed(data)
    try:
        while True:
            unpacker.skip()
            ends.append(unpacker.tell())
    except msgpack.OutOfData:
        return ends, False
    except msgpack.StackError:
        return _walked_ends(data, ends)
    except ValueError:
        return ends, True


def array_header(count: int) -> bytes:
    """What makes so many values one behind the other an array; always five bytes (`HEADER_BYTES`)."""
    return b"\xdd" + count.to_bytes(HEADER_BYTES - 1, "big")


def value_lengths(data: Buffer) -> deque[int]:
    """The length of each complete value at the beginning of `data`, as far as the quick way finds them."""
    unpacker, ends = _unpacker(), list[int]()
    unpacker.feed(data)
    try:
        while True:
            unpacker.skip()
            ends.append(unpacker.tell())
    except (msgpack.OutOfData, msgpack.StackError, ValueError):
        return deque(map(sub, ends, [0, *ends]))


def _walked_ends(data: Buffer, ends: list[int]) -> tuple[list[int], bool]:
    try:
        while (end := Walk(ends[-1] if ends else 0).find(data)) is not None:
            ends.append(end)
    except DecodeError:
        return ends, True
    return ends, False


def unpack(data: Buffer) -> Any:
    """One value, of any kind that the format has; DecodeError if it is none.

    Bytes that are not UTF-8 in a str come back by `.encode("utf-8", "surrogateescape")`.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"not MessagePack: {error or type(error).__name__}") from None
