"""Ends of JSON values in a stream, each byte looked at once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.forward_json import JsonFrames
from mcp_ingest.errors import DecodeError

_JSON = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


@given(st.lists(st.lists(_JSON), min_size=1, max_size=4), st.sampled_from([b"", b"\n", b"  "]), st.integers(1, 9))
def test_values_are_cut_apart(values: list[Any], space: bytes, step: int) -> None:
    """Whatever is in strings, and however the bytes come, each top-level value ends where it ends."""
    frames, buffer, found = JsonFrames(), bytearray(), []
    stream = b"".join(orjson.dumps(value) + space for value in values)
    for at in range(0, len(stream), step):
        buffer += stream[at : at + step]
        while (end := frames.find(buffer)) is not None:
            found.append(orjson.loads(buffer[:end]))
            del buffer[:end]
    assert found == values
    assert not buffer


@pytest.mark.parametrize("behind", [b"x", b"1", b'"', b"]"])
def test_only_arrays_and_objects_may_follow(behind: bytes) -> None:
    """Anything else at the top level raises DecodeError."""
    frames, buffer = JsonFrames(), bytearray(b"[]" + behind)
    assert frames.find(buffer) == 2
    del buffer[:2]
    with pytest.raises(DecodeError, match="JSON array"):
        frames.find(buffer)
