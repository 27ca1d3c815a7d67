"""Tests of the chunk's blob."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.engine.lines import iso
from mcp_ingest.errors import DecodeError
from mcp_ingest.spool.chunk import Stamp, chunk_name, decode, encode, stamped
from mcp_ingest.spool.model import NewChunk
from tests.spool.making import chunk

UUID = bytes(range(16))
STAMP = Stamp(UUID, 7, 1_700_000_000_000_000_000)


def blob(new: NewChunk) -> bytes:
    return encode(stamped(new, STAMP), UUID)


_names = st.sampled_from(["logs-1", "logs-2", "ünïcode", ""])
_events = st.lists(
    st.tuples(st.integers(0, 4 * 10**18), _names, st.integers(), st.none() | _names, st.none() | _names),
    max_size=40,
)


@given(events=_events, pipeline=st.text(alphabet="abcß", max_size=5), priority=st.sampled_from([0, 1]))
def test_any_chunk_comes_out_as_it_went_in(
    events: list[tuple[int, str, int, str, str]], pipeline: str, priority: int
) -> None:
    """Whatever the columns hold, decoding gives back what was encoded."""
    times, tags, values, first, second = (list(column) for column in zip(*events, strict=True)) if events else ([],) * 5
    ids = [f"{number:028d}" for number in range(len(events))]
    lines = [
        b'{"@timestamp":"%s","v":%d}' % (iso(time).encode(), value) for time, value in zip(times, values, strict=True)
    ]
    read = decode(blob(NewChunk.of(pipeline, priority, ids, tags, lines, {"a": first, "b": second})), 7, {UUID})
    assert (read.pipeline, read.priority) == (pipeline, priority)
    assert {name: [*column] for name, column in read.destinations.items()} == {"a": first, "b": second}
    assert [[*column] for column in (read.ids, read.times, read.tags, read.lines)] == [ids, times, tags, lines]
    assert read.line_bytes == sum(map(len, lines))
    assert (read.number, read.name, read.created) == (7, chunk_name(UUID, 7), STAMP.created)


@pytest.mark.parametrize("count", [2, 40], ids=["plain", "compressed"])
def test_cut_anywhere_is_told(count: int) -> None:
    """A blob that lost its end, wherever, is a DecodeError."""
    body = blob(chunk(count))
    for length in range(len(body)):
        with pytest.raises(DecodeError):
            decode(body[:length], 7, {UUID})


def test_longer_than_it_says_is_told() -> None:
    """A blob with something behind it is a DecodeError."""
    with pytest.raises(DecodeError):
        decode(blob(chunk(2)) + b"\0", 7, {UUID})


@pytest.mark.parametrize("count", [2, 40], ids=["plain", "compressed"])
def test_every_flipped_byte_is_told(count: int) -> None:
    """A blob in which any one byte changed is a DecodeError."""
    body = blob(chunk(count))
    for place in range(len(body)):
        damaged = bytearray(body)
        damaged[place] ^= 0x40
        with pytest.raises(DecodeError):
            decode(bytes(damaged), 7, {UUID})


def test_a_chunk_of_another_spool_is_told() -> None:
    """A blob that was made by a spool of another uuid is a DecodeError."""
    with pytest.raises(DecodeError, match="another's"):
        decode(blob(chunk(2)), 7, {bytes(16)})


def test_a_chunk_in_anothers_place_is_told() -> None:
    """A blob that stands under another number is a DecodeError."""
    with pytest.raises(DecodeError, match="another's"):
        decode(blob(chunk(2)), 8, {UUID})


def test_columns_of_different_length_are_refused() -> None:
    """A chunk whose columns do not fit together is not encoded."""
    with pytest.raises(ValueError, match="differ in length"):
        blob(dataclasses.replace(chunk(3), tags=["a"]))


def test_an_id_of_another_length_is_refused() -> None:
    """A chunk with an id that has not 28 characters is not encoded."""
    with pytest.raises(ValueError, match="28"):
        NewChunk.of("p", 0, ["short"], ["t"], [b"{}"], {})
