"""Ends of values: as msgpack finds them, at any depth, in any pieces."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.messagepack import Extent, Walk, unpack, value_ends, value_lengths
from mcp_ingest.errors import DecodeError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=40)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)  # fmt: skip
LARGE: list[Any] = ["x" * 70_000, b"x" * 70_000, "x" * 300, list(range(70_000)), dict.fromkeys(map(str, range(70_000)))]
LARGE += [msgpack.ExtType(1, b"x" * 70_000), msgpack.ExtType(1, b"x" * 300), 2.5]
DEEP = b"\x91" * 5000 + b"\x81\xa1k\x05"


@pytest.mark.parametrize("finder", [Walk, Extent])
@given(st.lists(VALUES, min_size=1, max_size=5), st.binary(max_size=5))
def test_the_end_is_found(finder: Any, values: list[Any], behind: bytes) -> None:
    """The offset behind the values is theirs, whatever stands behind them."""
    packed = b"".join(map(msgpack.packb, values))
    assert finder(0, len(values)).find(packed + behind) == len(packed)
    assert finder(2, len(values)).find(b"\xc1\xc1" + packed + behind) == 2 + len(packed)


@pytest.mark.parametrize("finder", [Walk, Extent])
@pytest.mark.parametrize("value", LARGE, ids=lambda value: type(value).__name__)
def test_wide_length_fields_are_read(finder: Any, value: Any) -> None:
    """Lengths of 8, 16 and 32 bits are known in every family of types."""
    packed = msgpack.packb(value)
    assert finder(0, 1).find(packed + b"\x01") == len(packed)
    assert finder(0, 1).find(packed[:-1]) is None


@pytest.mark.parametrize("finder", [Walk, Extent])
@given(VALUES)
def test_bytes_may_come_one_by_one(finder: Any, value: Any) -> None:
    """The end is told with the last byte and not before."""
    packed = msgpack.packb([value, value])
    found, buffer = finder(0, 1), bytearray()
    for number, byte in enumerate(packed, 1):
        buffer.append(byte)
        assert found.find(buffer) == (len(packed) if number == len(packed) else None)


def test_depth_is_no_limit() -> None:
    """Where C gives up at 1024 levels the end is found all the same, whole and in pieces."""
    assert Extent(0, 1).find(DEEP + b"rest") == len(DEEP)
    found, buffer = Extent(0, 1), bytearray()
    for at in range(0, len(DEEP), 100):
        assert found.find(buffer) is None
        buffer += DEEP[at : at + 100]
    assert found.find(buffer) == len(DEEP)
    assert value_ends(b"\x01" + DEEP + b"\x02") == ([1, 1 + len(DEEP), 2 + len(DEEP)], False)


def test_values_are_cut_apart() -> None:
    """All complete values are found, an unfinished one is not, and what is no value is said."""
    packed = b"".join(map(msgpack.packb, [1, "two", [3], {"four": 4}]))
    assert value_ends(packed) == ([1, 5, 7, 14], False)
    assert value_ends(packed[:-1]) == ([1, 5, 7], False)
    assert value_ends(packed + b"\xc1") == ([1, 5, 7, 14], True)
    assert value_ends(DEEP + b"\xc1") == ([len(DEEP)], True)
    assert value_ends(b"") == ([], False)
    assert list(value_lengths(packed + DEEP)) == [1, 4, 2, 7]


@pytest.mark.parametrize("finder", [Walk, Extent])
def test_what_is_no_value_is_refused(finder: Any) -> None:
    """The one byte that nothing begins with raises DecodeError, within values too."""
    for data in (b"\xc1", b"\x92\x01\xc1", b"\x91" * 3000 + b"\xc1"):
        with pytest.raises(DecodeError):
            finder(0, 1).find(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\x91" * 5000 + b"\x01", b"\x81\x90\x01",
                                  b"\xdd\xff\xff\xff\xff", b"\xd7\xff" + b"\xff" * 8, b"\xc7\x03\xff123"])  # fmt: skip
def test_unpacking_refuses_with_one_error(data: bytes) -> None:
    """Whatever is wrong (cut, too much, too deep, a key that is an array, a bomb, a false timestamp): DecodeError."""
    with pytest.raises(DecodeError):
        unpack(data)


def test_unpacking_keeps_bytes() -> None:
    """Bytes of a str that are not UTF-8 come back, and keys may be of any kind."""
    assert unpack(b"\xa2\xff\xfe").encode("utf-8", "surrogateescape") == b"\xff\xfe"
    assert unpack(b"\x82\x01\x02\xc4\x01k\x03") == {1: 2, b"k": 3}
