"""gzip and zstd, both ways: every member and frame of concatenated data, with a limit kept while decompressing.

Fluentd appends compressed pieces to a chunk, so a payload holds many gzip members or zstd frames; decompressors
that stop after the first lose the rest without a word. What the bytes are is told by their magic, which Fluent Bit
trusts over any declaration, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, cast

from isal import igzip_lib

from mcp_ingest.errors import DecodeError, TooLargeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Kind = Literal["gzip", "zstd"]

#: isal's stub declares its exception as an instance.
_DAMAGE = (cast(type[Exception], igzip_lib.IsalError), zstd.ZstdError, ValueError, EOFError)
_WINDOW = 64 * 1024  # input at a time: a decompressor copies what stands behind the end of its member
_PIECE = 1024 * 1024


class _Decompressor(Protocol):
    """What the decompressors of the standard library, isal and zstd have in common."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
        """At most `max_length` bytes more."""
        ...


def _gzip() -> _Decompressor:
    return cast(_Decompressor, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))


def _zstd() -> _Decompressor:
    return cast(_Decompressor, zstd.ZstdDecompressor())


_MAKERS: dict[Kind, Callable[[], _Decompressor]] = {"gzip": _gzip, "zstd": _zstd}


def sniff(data: bytes | memoryview) -> Kind | None:
    """What the first bytes say: RFC 1952's gzip, RFC 8878's zstd frame or skippable frame, or neither."""
    head = bytes(data[:4])
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head == b"\x28\xb5\x2f\xfd" or (head[1:] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return None


def decompress(data: bytes | memoryview, limit: int) -> bytes:
    """All of it; DecodeError if it is neither gzip nor zstd or is damaged, TooLargeError above `limit` bytes."""
    return b"".join(decompressed_pieces(data, limit))


def decompressed_pieces(data: bytes | memoryview, limit: int, piece: int = _PIECE) -> Iterator[bytes]:
    """The same in pieces of at most `piece` bytes, none of them empty: what is not asked for is not held."""
    kind = sniff(data)
    if kind is None:
        raise DecodeError("neither gzip nor zstd")
    view, offset, total = memoryview(data), 0, 0
    while offset < len(view):
        member = _Member(kind, view, offset)
        for out in member.pieces(piece):
            total += len(out)
            if total > limit:
                raise TooLargeError(f"{kind} data of {len(view)} bytes holds more than {limit} bytes")
            yield out
        offset = member.end


class _Member:
    """One gzip member or zstd frame; `end` is the offset behind it once its pieces are read."""

    def __init__(self, kind: Kind, view: memoryview, offset: int) -> None:
        self._kind = kind
        self._view = view
        self.end = offset

    def pieces(self, piece: int) -> Iterator[bytes]:
        decompressor = _MAKERS[self._kind]()
        while not decompressor.eof:
            window = self._view[self.end : self.end + _WINDOW] if decompressor.needs_input else self._view[:0]
            if decompressor.needs_input and not window:
                raise DecodeError(f"{self._kind} data ends in the middle")
            self.end += len(window)
            try:
                out = decompressor.decompress(window, piece)
            except _DAMAGE as error:
                raise DecodeError(f"damaged {self._kind} data: {error}") from None
            if out:
                yield out
        self.end -= len(decompressor.unused_data)


def compress_gzip(data: bytes) -> bytes:
    """One gzip member at level 1, the same bytes for the same data (no time, no name in its header)."""
    return bytes(igzip_lib.compress(data, 1, flag=igzip_lib.COMP_GZIP))


def compress_zstd(data: bytes) -> bytes:
    """One zstd frame at level 1."""
    return zstd.compress(data, 1)
