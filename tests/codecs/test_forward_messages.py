"""Small frames decoded in one go: the same as one by one, or None."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.forward import Decoder, Mode, encode_forward, encode_message, encode_packed, pack_entries
from mcp_ingest.codecs.forward_entries import decode_entries
from mcp_ingest.codecs.forward_messages import Messages, decode_messages
from tests.codecs.test_forward import BYTES, TIME, feed

Event = tuple[str, bytes | None, int, dict[str, Any]]


def together(data: bytes) -> Messages | None:
    """What the bytes are, if they are whole small frames of the common kind."""
    decoder = Decoder()
    decoder.feed(data)
    found = decoder.complete()
    if found is None:
        return None
    mode, count, length = found
    messages = decode_messages(mode, decoder.peek(length), count)
    decoder.drop(length)
    assert decoder.buffered == len(data) - length
    return messages


def events(messages: Messages) -> list[Event]:
    found, at = list[Event](), 0
    chunks: Sequence[bytes | None] = messages.chunks or [None] * len(messages.tags)
    for tag, chunk, count in zip(messages.tags, chunks, messages.counts, strict=True):
        for place in range(at, at + count):
            found.append((tag, chunk, messages.times[place], messages.records[place]))
        at += count
    assert at == len(messages.times) == len(messages.records)
    return found


def alone(data: bytes) -> list[Event]:
    """The same, frame by frame."""
    return [
        (frame.tag, frame.option.chunk, when, record)
        for frame in feed([data])
        for part in decode_entries(frame)
        for when, record in zip(part.times, part.records, strict=True)
    ]


def _frame(mode: str, chunk: bytes | None, tag: str, count: int) -> bytes:
    entries = [(TIME + n, {"message": "m", "n": n, "list": [1, {"é": None}]}) for n in range(count)]
    if mode == "message":
        return encode_message(tag, *entries[0], chunk)
    if mode == "forward":
        return encode_forward(tag, entries, chunk)
    return encode_packed(tag, pack_entries(entries), chunk=chunk, size=count)


@given(
    st.sampled_from(["message", "forward", "packed"]),
    st.booleans(),
    st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40), st.integers(1, 20)), min_size=1, max_size=30),
    st.integers(0, 40),
)
def test_together_they_are_what_they_are_alone(
    mode: str, named: bool, frames: list[tuple[str, str, int]], cut: int
) -> None:
    """Tags, chunk ids, times and records are those of the careful way; a frame that has only begun stays."""
    made = [_frame(mode, chunk.encode() if named else None, tag, count) for chunk, tag, count in frames]
    messages = together(b"".join(made) + made[0][: min(cut, len(made[0]) - 1)])
    assert messages is not None
    assert events(messages) == alone(b"".join(made))
    assert len(messages.tags) == len(made)
    assert messages.size == sum(map(len, made)) + 5


GOOD = _frame("message", b"c", "t", 1)
PACKED = _frame("packed", b"c", "t", 1)
ENTRY = pack_entries([(TIME, {"n": 1})])


@pytest.mark.parametrize(
    "data",
    [
        GOOD + PACKED,
        GOOD + _frame("message", None, "t", 1),
        GOOD + b"\xc0",
        b"\xc0" + GOOD,
        GOOD + b"\x01",
        b'["a",1,{}]',
        b"\x92\xa0\x90",
        _frame("forward", b"c", "t", 1) + encode_forward("t", [], b"d"),
        encode_packed("t", ENTRY * 2, chunk=b"c", size=1),
        encode_packed("t", ENTRY, chunk=b"c", size=2),
        encode_packed("t", ENTRY, chunk=b"c", size=-1),
        encode_packed("t", ENTRY + b"\x92", chunk=b"c", size=1),
        encode_packed("t", ENTRY, chunk=b"c", size=1, compressed="gzip"),
        encode_packed("t", ENTRY, chunk=b"\xff", size=1),
        msgpack.packb(["t", ENTRY.decode("latin-1"), {"chunk": "c"}]),
        msgpack.packb(["t", 1, {"n": b"bytes"}, {"chunk": "c"}]),
        msgpack.packb(["t", 1, {"n": float("nan")}, {"chunk": "c"}]),
        msgpack.packb(["t", 1, "text", {"chunk": "c"}]),
        msgpack.packb(["t", 1.5, {"n": 1}, {"chunk": "c"}]),
        msgpack.packb(["t", True, {"n": 1}, {"chunk": "c"}]),
        msgpack.packb(["t", -1, {"n": 1}, {"chunk": "c"}]),
        msgpack.packb(["t", 1, {"n": 1}, {"chunk": b"c"}]),
        msgpack.packb(["t", 1, {"n": 1}, {"chunk": "c", "metadata": {"k": 1}}]),
        msgpack.packb(["t", 1, {"n": 1}, {"chunk": "c", "fluent_signal": 1}]),
        msgpack.packb(["t", 1, {"n": 1}, {"chunk": "c", "compressed": "gzip"}]),
        msgpack.packb(["t", 1, {"n": 1}, {}, 5]),
        msgpack.packb(["t", [[1, "text"]], {"chunk": "c"}]),
        msgpack.packb(["t", [[[1, {}], {"n": 1}]], {"chunk": "c"}]),
        msgpack.packb(["t" * 20_000, 1, {"n": 1}, {"chunk": "c"}]),
        encode_message("t", TIME, {"n": "x" * 40_000}, b"c"),
        *[data for data in BYTES if len(data) == 7],
        b"",
        GOOD[:-1],
        b"\x16\x03\x01",
    ],
    ids=repr,
)
def test_what_is_not_common_is_left_to_the_careful_way(data: bytes) -> None:
    """Other kinds, and what is no frame at all, are None."""
    assert together(data) is None


def test_options_that_say_nothing_are_common() -> None:
    """Nil, unknown keys and empty metadata are passed over, like a frame without an option."""
    frames = [["t", 5, {"n": 1}], ["t", 5, {"n": 1}, None], ["t", 5, {"n": 1}, {"x": [1], "metadata": {}}]]
    messages = together(b"".join(map(msgpack.packb, frames)))
    assert messages is not None
    assert events(messages) == [("t", None, 5 * 10**9, {"n": 1})] * 3


def test_too_many_are_not_taken_at_once() -> None:
    """No more than the events of a slice."""
    assert together(msgpack.packb(["t", 5, {}]) * 10_001) is None
    assert together(_frame("packed", b"c", "t", 101) * 100) is None


def test_modes_are_told_by_the_first() -> None:
    """Each decoder is for one mode."""
    for mode in Mode:
        decoder = Decoder()
        decoder.feed(_frame(mode.value, b"c", "t", 1))
        found = decoder.complete()
        assert found is not None
        assert found[0] is mode
