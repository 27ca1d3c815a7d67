"""Segments: compressed once, put together to one gzip body."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.segments import PLAIN_BELOW, Segment, crc32_combine, gzip_body, inflate, segment
from mcp_ingest.errors import DecodeError

LONG = b'{"message":"some line"}\n' * 1000
_DATA = st.binary(max_size=300) | st.integers(1, 400).map(lambda count: b"0123456789abcdef\n" * count)


@given(st.lists(_DATA, max_size=6))
def test_segments_put_together_are_their_data_one_behind_the_other(pieces: list[bytes]) -> None:
    """Short and long pieces in any order make one gzip member, which every gzip reader takes."""
    body = gzip_body([segment(piece) for piece in pieces])
    assert gzip.decompress(body) == b"".join(pieces)
    reader = zlib.decompressobj(31)
    assert reader.decompress(body) == b"".join(pieces)
    assert reader.eof
    assert not reader.unused_data  # a single member


@given(_DATA)
def test_a_segment_gives_its_data_back(data: bytes) -> None:
    """`inflate` undoes `segment`; only what is long is compressed."""
    made = segment(data)
    assert inflate(made) == data
    assert made.compressed == (len(data) >= PLAIN_BELOW)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_checksums_combine(first: bytes, second: bytes) -> None:
    """The combined checksum is that of the data put together, as zlib reckons it."""
    combined = crc32_combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


@pytest.mark.parametrize("place", [0, 10, -6])
def test_damage_is_noticed(place: int) -> None:
    """A changed byte, a wrong length and cut data are a DecodeError, whatever deflate makes of them."""
    good = segment(LONG)
    changed = bytearray(good.data)
    changed[place] ^= 0x55
    for bad in (good._replace(data=bytes(changed)), good._replace(length=len(LONG) - 1), good._replace(data=b"")):
        with pytest.raises(DecodeError, match="damaged"):
            inflate(bad)
    with pytest.raises(DecodeError, match="checksum"):
        inflate(Segment(b"other", good.crc, 5, False))
