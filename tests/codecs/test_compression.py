"""gzip and zstd: many members, damage with a name, bombs."""

from __future__ import annotations

import gzip
import random

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.compression import compress_gzip, compress_zstd, decompress, decompressed_pieces, sniff
from mcp_ingest.errors import DecodeError, TooLargeError

TEXT = b"".join(b"line %d of a log\n" % number for number in range(20_000))
NOISE = random.Random(3).randbytes(200_000)
LIMIT = 10**8


def _streamed_zstd(data: bytes) -> bytes:
    compressor = zstd.ZstdCompressor()
    return compressor.compress(data[:100], zstd.ZstdCompressor.FLUSH_BLOCK) + compressor.compress(
        data[100:], zstd.ZstdCompressor.FLUSH_FRAME
    )


PACKERS = [compress_gzip, gzip.compress, compress_zstd, _streamed_zstd]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, NOISE, TEXT + NOISE])
def test_what_was_compressed_comes_back(pack: object, data: bytes) -> None:
    """Whoever compressed it, with or without the length in its header, the data is the same."""
    assert decompress(pack(data), LIMIT) == data  # type: ignore[operator]


@pytest.mark.parametrize("pack", PACKERS)
def test_every_member_is_read(pack: object) -> None:
    """Concatenated members come out one behind the other, empty ones and small ones too."""
    members = [TEXT, b"", NOISE, *[b"small"] * 500, TEXT]
    joined = b"".join(pack(member) for member in members)  # type: ignore[operator]
    assert decompress(joined, LIMIT) == b"".join(members)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.sampled_from(PACKERS), st.integers(1, 100))
def test_pieces_are_bounded_and_complete(members: list[bytes], pack: object, piece: int) -> None:
    """No piece is empty or longer than asked for, and together they are everything."""
    joined = b"".join(pack(member) for member in members)  # type: ignore[operator]
    pieces = list(decompressed_pieces(joined, LIMIT, piece))
    assert b"".join(pieces) == b"".join(members)
    assert all(0 < len(part) <= piece for part in pieces)


@pytest.mark.parametrize("pack", [compress_gzip, compress_zstd])
def test_a_bomb_is_refused_before_it_is_held(pack: object) -> None:
    """Data above the limit raises TooLargeError, and no more than the limit was handed out before."""
    bomb = pack(bytes(50_000_000))  # type: ignore[operator]
    assert len(bomb) < 300_000
    pieces: list[bytes] = []
    with pytest.raises(TooLargeError, match="more than 1000000 bytes"):
        pieces.extend(decompressed_pieces(bomb, 1_000_000))
    assert sum(map(len, pieces)) <= 1_000_000
    assert len(decompress(bomb, 50_000_000)) == 50_000_000


@pytest.mark.parametrize("pack", [compress_gzip, compress_zstd])
def test_cut_data_is_damage(pack: object) -> None:
    """Data that ends before its end, wherever it was cut, raises DecodeError."""
    whole = pack(TEXT[:2000])  # type: ignore[operator]
    for cut in range(len(whole)):
        with pytest.raises(DecodeError):
            decompress(whole[:cut], LIMIT)


def test_a_wrong_checksum_is_damage() -> None:
    """A gzip member whose bytes were changed raises DecodeError."""
    whole = bytearray(compress_gzip(NOISE))
    whole[1000] ^= 1
    with pytest.raises(DecodeError, match="damaged gzip"):
        decompress(bytes(whole), LIMIT)


@pytest.mark.parametrize("data", [b"", b"\x1f", b"plain", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_is_neither_is_refused(data: bytes) -> None:
    """Plain text and zlib's own format are neither gzip nor zstd."""
    assert sniff(data) is None
    with pytest.raises(DecodeError, match="neither"):
        decompress(data, LIMIT)


def test_skippable_zstd_frames_are_skipped() -> None:
    """A skippable frame before the data is known by its magic and holds nothing."""
    skippable = b"\x55\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert sniff(skippable) == "zstd"
    assert decompress(skippable + compress_zstd(b"data"), LIMIT) == b"data"


def test_gzip_is_the_same_for_the_same_data() -> None:
    """No time and no name stand in the header, so a retry has the same bytes."""
    assert compress_gzip(TEXT) == compress_gzip(TEXT)
    assert compress_gzip(TEXT)[3:8] == b"\0\0\0\0\0"
