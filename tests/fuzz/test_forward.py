"""Decodes or raises DecodeError, never anything else, never holds more than the limit."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import msgpack
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.codecs.compression import compress_gzip, compress_zstd
from mcp_ingest.codecs.forward import Decoder, decode_ack
from mcp_ingest.codecs.forward_entries import decode_entries
from mcp_ingest.errors import DecodeError
from tests.codecs.test_forward import BYTES
from tests.codecs.test_forward_entries import GROUP, TWO_MEMBERS

LIMIT = 400
SEEDS = [
    *BYTES,
    GROUP,
    TWO_MEMBERS,
    b"\xc0",
    b"\x92\xa0\x90",
    b'["t", 1, {"a": "b"}]',
    b'["t", [[1, {}]], {"chunk": "c"}]',
]
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=16)),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.binary() | st.integers(0, 9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
_ALMOST = st.builds(
    lambda tag, second, rest: bytes(msgpack.packb([tag, second, *rest])),
    st.text() | st.binary() | _ANY,
    _ANY | st.binary().map(compress_gzip) | _ANY.map(lambda value: compress_zstd(msgpack.packb(value))),
    st.lists(
        _ANY | st.fixed_dictionaries({"chunk": _ANY, "size": _ANY, "compressed": _ANY, "fluent_signal": _ANY}),
        max_size=3,
    ),
)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 4))
        data[at : at + length] = draw(st.binary(max_size=4))
    return bytes(data)


@settings(max_examples=400)
@given(st.binary(max_size=600) | _ALMOST | _mutated(), st.lists(st.integers(0, 600), max_size=6))
def test_any_bytes_decode_or_raise_decode_error(data: bytes, cuts: list[int]) -> None:
    """Whatever arrives: frames and serialisable records, or DecodeError; never more held than limit and one read."""
    decoder = Decoder(LIMIT)
    with suppress(DecodeError):
        for start, end in pairwise([0, *sorted(cuts), len(data)]):
            piece = data[start:end]
            decoder.feed(piece)
            for frame in decoder:
                assert frame.length <= LIMIT
                for entries in decode_entries(frame, slice_bytes=64, slice_events=3, max_bytes=LIMIT):
                    assert len(entries.indices) == len(entries.times) == len(entries.records)
                    assert len(entries.records) + len(entries.invalid) <= entries.count
                    orjson.dumps(entries.records)
                    orjson.dumps([bad.record for bad in entries.invalid if not isinstance(bad.record, bytes)])
                    assert all(0 <= time_ns < 2**63 for time_ns in entries.times)
            assert decoder.buffered <= LIMIT
            assert decoder.needed <= LIMIT


@given(st.binary(max_size=60) | _ANY.map(msgpack.packb))
def test_any_answer_is_an_ack_or_raises_decode_error(answer: bytes) -> None:
    """Whatever a receiver answers: a chunk id, not complete yet, or DecodeError."""
    with suppress(DecodeError):
        assert isinstance(decode_ack(answer), bytes | None)
