"""Frames of the forward protocol: every case fed whole, byte by byte, cut in two everywhere, with a stranger behind."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.forward import (
    MAX_OPTION_BYTES,
    Decoder,
    Frame,
    Mode,
    Option,
    decode_ack,
    encode_ack,
    encode_acks,
    encode_forward,
    encode_message,
    encode_packed,
    event_time,
    pack_entries,
)
from mcp_ingest.errors import DecodeError, TooLargeError

TIME = 1_700_000_000_123_456_789
ENTRY = "92d7006553f100075bcd1581a76d657373616765a26869"  # [TIME, {"message": "hi"}]
CHUNK = b"AAECAwQFBgcICQoLDA0ODw==\n"

#: From the protocol page's vectors: (bytes, tag, mode, payload, option, count)
VECTORS: dict[str, tuple[str, Mode, str, Option, int | None]] = {
    "93a56170702e78ce6553f10081a76d657373616765a26869": (
        "app.x", Mode.MESSAGE, "92ce6553f10081a76d657373616765a26869", Option(), 1,
    ),
    "94a56170702e78d7006553f100075bcd1581a76d657373616765a2686981a56368756e6bb9"
    "414145434177514642676349" "43516f4c4441304f44773d3d0a": (
        "app.x", Mode.MESSAGE, ENTRY, Option(chunk=CHUNK), 1,
    ),
    "94a56170702e78ce6553f10081a76d657373616765a26869c0": (
        "app.x", Mode.MESSAGE, "92ce6553f10081a76d657373616765a26869", Option(), 1,
    ),
    f"92a56170702e7892{ENTRY}92ce6553f10181a76d657373616765a26869": (
        "app.x", Mode.FORWARD, f"{ENTRY}92ce6553f10181a76d657373616765a26869", Option(), 2,
    ),
    "93a56170702e78919292d7006553f100075bcd158081a76d657373616765a26869"
    "82ad666c75656e745f7369676e616c00a473697a6501": (
        "app.x", Mode.FORWARD, "9292d7006553f100075bcd158081a76d657373616765a26869", Option(size=1), 1,
    ),
    f"93a56170702e78db00000017{ENTRY}82a473697a6501aa636f6d70726573736564a474657874": (
        "app.x", Mode.PACKED, ENTRY, Option(size=1), None,
    ),
    f"93a56170702e78c417{ENTRY}81a473697a6501": ("app.x", Mode.PACKED, ENTRY, Option(size=1), None),
}  # fmt: skip
BYTES = {bytes.fromhex(text): expected for text, expected in VECTORS.items()}
HEARTBEATS = [b"\xc0", b"\x92\xa0\x90"]
JSON_FRAMES: list[tuple[Any, Mode, int]] = [
    (["app.x", 1700000000, {"message": "hi"}], Mode.MESSAGE, 1),
    (["app.x", 1700000000.5, {"message": 'a "]}" \\', "n": [[], {}]}, {"chunk": "x"}], Mode.MESSAGE, 1),
    (
        ["app.x", [[1700000000, {"message": "hi"}], [1700000001, {"m": "é"}]], {"chunk": "x", "size": 2}],
        Mode.FORWARD,
        2,
    ),
]


def feed(pieces: Iterable[bytes], limit: int = 10**6) -> list[Frame]:
    decoder = Decoder(limit)
    frames: list[Frame] = []
    for piece in pieces:
        decoder.feed(piece)
        frames += decoder
    assert decoder.buffered == 0
    assert decoder.needed == 0
    return frames


def every_way(data: bytes, behind: bytes, check: Callable[[list[Frame]], object]) -> None:
    """Whole, byte by byte, cut in two everywhere; then again three times with `behind` behind."""
    for times, whole in ((1, data), (3, (data + behind) * 3)):
        ways = [[whole], [whole[at : at + 1] for at in range(len(whole))]]
        ways += [[whole[:cut], whole[cut:]] for cut in range(1, len(whole))]
        for pieces in ways:
            frames = feed(pieces)
            assert len(frames) % times == 0
            for at in range(0, len(frames), len(frames) // times or 1):
                check(frames[at : at + 1])


@pytest.mark.parametrize("data", BYTES, ids=lambda data: data[:12].hex())
@pytest.mark.parametrize("behind", [b"", *HEARTBEATS], ids=["alone", "nil", "empty"])
def test_every_vector_every_way(data: bytes, behind: bytes) -> None:
    """A frame is the same however its bytes come, and heartbeats behind it are passed over."""
    tag, mode, payload, option, count = BYTES[data]
    frame = Frame(tag, mode, bytes.fromhex(payload), option, count, len(data))
    every_way(data, behind, lambda frames: _same(frames, [frame]))


def _same(frames: list[Frame], expected: list[Frame]) -> None:
    assert frames == expected


@given(st.permutations(list(BYTES) + HEARTBEATS), st.data())
def test_random_cuts(order: list[bytes], data: st.DataObject) -> None:
    """All frames come out in order wherever the stream is cut."""
    stream = b"".join(order)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    frames = feed(stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True))
    assert [(f.tag, f.mode, bytes(f.payload).hex(), f.option, f.count) for f in frames] == [
        BYTES[part] for part in order if part in BYTES
    ]


@pytest.mark.parametrize(("value", "mode", "count"), JSON_FRAMES)
@pytest.mark.parametrize("space", [b"", b"\n", b" \r\n\t"])
def test_json_every_way(value: Any, mode: Mode, count: int, space: bytes) -> None:
    """A stream that begins with JSON stays JSON, and its entries become MessagePack."""

    def check(frames: list[Frame]) -> None:
        (frame,) = frames
        assert (frame.tag, frame.mode, frame.count) == ("app.x", mode, count)
        unpacker = msgpack.Unpacker()
        unpacker.feed(frame.payload)
        entries = [value[1:3]] if mode is Mode.MESSAGE else value[1]
        assert list(unpacker) == entries
        assert frame.option.chunk == (b"x" if isinstance(value[-1], dict) and "chunk" in value[-1] else None)

    text = orjson.dumps(value)
    every_way(text, space, check)
    decoder = Decoder()
    decoder.feed(text)
    assert len(list(decoder)) == 1
    assert decoder.is_json


@pytest.mark.parametrize("text", [b"{}", b"[1]", b'["a"]', b'["a",1]', b'["a","b"]', b'["a",1,{}]x', b"[NaN,1,2]",
                                  b'[1,2,{}]', b"[" * 3000 + b"]" * 3000, b'["\\ud800",1,{}]'])  # fmt: skip
def test_bad_json_is_refused(text: bytes) -> None:
    """JSON that is no frame, or ends in what is no JSON, raises DecodeError."""
    with pytest.raises(DecodeError):
        feed([text])


def test_json_heartbeat_is_passed_over() -> None:
    """The old heartbeat in JSON yields nothing."""
    assert feed([b'["",[]] ["",[]]\n']) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"\xff\xfe garbage", "0xff"),
        (b"\x81\xa1a\x01", "0x81"),
        (b"\x00", "0x00"),
        (b"\xc1", "0xc1"),
        (b"\x91\xa1a", "array of 1"),
        (b"\x95\xa1a\x01\x80\x80\x80", "array of 5"),
        (b"\x92\xa1a\x01", "message mode"),
        (b"\x94\xa1a\x90\x80\x80", "forward mode"),
        (b"\x94\xa1a\xc4\x00\x80\x80", "packed mode"),
        (b"\x93\x01\x01\x80", "the tag"),
        (b"\x93\xc0\x01\x80", "the tag"),
        (b"\x93\xdb\x7f\xff\xff\xff", "a tag of"),
        (b"\x93\xa1a\x01\xc1", "not MessagePack"),
        (b"\x92\xa1a\x91\xc1", "not MessagePack"),
        (b"\x93\xa1a\xc4\x00\xc1", "MessagePack"),
        (b"\x93\xa1a\xc4\x00\x81\x90\x01", "MessagePack"),
    ],
    ids=repr,
)
def test_garbage_is_refused(data: bytes, said: str) -> None:
    """What is no frame raises DecodeError that says what it is, whole or byte by byte, also behind a good frame."""
    good = next(iter(BYTES))
    for prefix in (b"", good):
        for pieces in ([prefix + data], [bytes([byte]) for byte in prefix + data]):
            decoder, frames = Decoder(), list[Frame]()
            with pytest.raises(DecodeError, match=said):
                _feed_into(decoder, pieces, frames)
            assert len(frames) == bool(prefix)


def _feed_into(decoder: Decoder, pieces: Iterable[bytes], frames: list[Frame]) -> None:
    for piece in pieces:
        decoder.feed(piece)
        frames.extend(decoder)


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\xa1a\xdb\x7f\xff\xff\xff",
        b"\x93\xa1a\xc6\xff\xff\xff\xff",
        b"\x92\xa1a\xdd\xff\xff\xff\xff" + b"\x92\x01\x80" * 5000,
        b"\x93\xa1a\x01\xdb\x7f\xff\xff\xff" + bytes(12_000),
        b"\x93\xa1a\x01" + b"\x91" * 12_000,
        b'["a",1,"' + b"x" * 12_000,
    ],
    ids=["str32", "bin32", "array32", "record str32", "deep", "JSON"],
)
def test_a_frame_over_the_limit_is_refused(data: bytes) -> None:
    """A declared length over the limit is refused at once, an undeclared one as soon as more than that is there."""
    decoder, frames = Decoder(10_000), list[Frame]()
    with pytest.raises(TooLargeError, match="10000"):
        _feed_into(decoder, [data[at : at + 500] for at in range(0, len(data), 500)], frames)
    assert decoder.buffered <= 10_500
    assert frames == []


def test_an_option_over_its_limit_is_refused() -> None:
    """An option is decoded at once, so it has a limit of its own."""
    frame = b"\x93\xa1a\xc4\x00" + msgpack.packb({"x": bytes(MAX_OPTION_BYTES)})
    with pytest.raises(DecodeError, match="option"):
        feed([frame], 10**8)
    with pytest.raises(DecodeError, match="option"):
        feed([frame[at : at + 65536] for at in range(0, len(frame), 65536)], 10**8)


def test_needed_is_known_before_the_body() -> None:
    """As soon as a packed frame's head is there, its length is told, so that memory can be reserved."""
    frame = encode_packed("app.x", bytes(50_000), chunk=CHUNK, size=1)
    body_end = frame.index(b"\x83\xa4size")
    decoder = Decoder()
    seen = []
    for byte in frame[:20]:
        decoder.feed(bytes([byte]))
        assert list(decoder) == []
        seen.append(decoder.needed)
    assert seen == [0] * 9 + [body_end] * 11
    decoder.feed(frame[20:-1])
    assert list(decoder) == []
    assert decoder.buffered == len(frame) - 1
    decoder.feed(frame[-1:])
    assert [f.length for f in decoder] == [len(frame)]


def test_large_frames_come_whole() -> None:
    """Frames whose bytes are handed over instead of copied are the same, with others before and behind."""
    small = next(iter(BYTES))
    packed = pack_entries((TIME, {"message": "x" * 1000, "n": n}) for n in range(3000))
    large = encode_packed("big", packed, chunk=CHUNK, size=3000)
    forward = encode_forward("big", [(TIME, {"message": "x" * 1000, "n": n}) for n in range(3000)])
    stream = (small + large + small + forward) * 2
    for step in (65_536, len(stream), 1_000_003):
        frames = feed((stream[at : at + step] for at in range(0, len(stream), step)), 10**7)
        assert [f.tag for f in frames] == ["app.x", "big", "app.x", "big"] * 2
        assert all(bytes(f.payload) == packed for f in frames if f.tag == "big")


@pytest.mark.parametrize("option", [True, False])
@pytest.mark.parametrize("step", [7_001, 65_536, 10**7])
def test_a_large_body_is_read_to_its_place(option: bool, step: int) -> None:
    """What says how long it is gets a place of its own; the frame, those around it and the limit are as ever."""
    packed = pack_entries((TIME, {"message": "x" * 100, "n": n}) for n in range(1000))
    small = next(iter(BYTES))
    large = encode_packed("big", packed, chunk=CHUNK, size=1000) if option else _without_option(packed)
    stream = (small + large + b"\xc0" + large + small) * 2
    decoder, frames, at, placed = Decoder(), list[Frame](), 0, 0
    while at < len(stream):
        place = decoder.place()
        if place is None:
            decoder.feed(stream[at : at + step])
            at += step
        else:
            piece = stream[at : at + min(step, len(place))]
            place[: len(piece)] = piece
            decoder.filled(len(piece))
            at, placed = at + len(piece), placed + len(piece)
        frames += decoder
        assert decoder.buffered <= 2 * len(large) or step == 10**7
    assert decoder.buffered == decoder.needed == 0
    assert [frame.tag for frame in frames] == ["app.x", "big", "big", "app.x"] * 2
    big = [frame for frame in frames if frame.tag == "big"]
    assert all(bytes(frame.payload) == packed and frame.length == len(large) for frame in big)
    assert {frame.option for frame in big} == {Option(CHUNK, 1000) if option else Option()}
    roomy = [frame.roomy for frame in big if frame.roomy is not None]
    assert all(bytes(room[5:]) == packed for room in roomy)
    assert bool(roomy) == bool(placed) == (step < 10**7)


def _without_option(packed: bytes) -> bytes:
    return b"\x92\xa3big\xc6" + len(packed).to_bytes(4, "big") + packed


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_huge_frame_takes_its_memory_as_it_comes() -> None:
    """What a peer only announces takes none, and what it sent is given back with the frame."""
    decoder = Decoder(2**30)
    decoder.feed(b"\x93\xa1a\xc6\x10\x00\x00\x00" + bytes(100))
    assert list(decoder) == []
    assert decoder.needed > 2**28
    before = _anonymous()
    place = decoder.place()
    assert place is not None
    assert len(place) == decoder.needed - 108
    assert _anonymous() < before + 2**20
    place[: 2**24] = bytes(2**24)
    assert _anonymous() > before + 2**24 - 2**20
    del place, decoder
    assert _anonymous() < before + 2**20


def _anonymous() -> int:
    """Bytes of anonymous memory that this process has."""
    text = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", text)[0]) * 1024


def test_deep_nesting_ends_where_it_ends() -> None:
    """A record of 2000 levels, more than C can pass over, does not hide the frame behind it."""
    deep = b"\x93\xa1a\x01\x81\xa1k" + b"\x91" * 2000 + b"\x01"
    packed = b"\x92\xa1a\x92\x92\x01" + deep[4:] + b"\x92\x01\x80"
    small = next(iter(BYTES))
    for pieces in ([deep + packed + small], [bytes([b]) for b in deep + packed + small]):
        assert [frame.count for frame in feed(pieces)] == [1, 2, 1]


def test_byte_by_byte_is_not_quadratic() -> None:
    """A slow sender's megabyte, one byte at a time, is looked at once."""
    frame = encode_forward("a", [(TIME, {"message": "x" * 50, "n": n}) for n in range(4000)])
    started = time.process_time()
    assert len(feed([frame[at : at + 1] for at in range(len(frame))])) == 1
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        ({"chunk": "é\n"}, Option(chunk="é\n".encode())),
        ({"chunk": b"\xff\xfe"}, Option(chunk=b"\xff\xfe")),
        ({"chunk": 5, "size": "x", "compressed": 1, "fluent_signal": None, "metadata": []}, Option()),
        ({"unknown": [1, {"deep": b"x"}], 7: 8, "size": True}, Option()),
        ({"fluent_signal": 1, "size": 0}, Option(signal=1)),
        ({"compressed": "zstd", "size": -1}, Option(compressed="zstd", size=-1)),
        ({"metadata": {"a": b"b", 1: float("nan")}}, Option(metadata={"a": "b", "1": "NaN"})),
        (None, Option()),
        ([1, 2], Option()),
        ("text", Option()),
        (7, Option()),
    ],
    ids=repr,
)
def test_options_are_read_as_far_as_they_make_sense(packed: Any, expected: Option) -> None:
    """Unknown keys, wrong types and options that are no map at all are passed over."""
    (frame,) = feed([b"\x93\xa1a\xc4\x00" + msgpack.packb(packed)])
    assert frame.option == expected


def test_tags_may_be_bin_or_broken() -> None:
    """A tag in bin is a tag, and what is not UTF-8 in it becomes U+FFFD."""
    assert feed([b"\x92\xc4\x02ab\x91\x92\x01\x80"])[0].tag == "ab"
    assert feed([b"\x92\xa2a\xff\x91\x92\x01\x80"])[0].tag == "a\ufffd"
    assert feed([b"\x92\xa0\x91\x92\x01\x80"])[0].tag == ""


# --- the other direction -----------------------------------------------------------------------------------


def test_encoders_make_what_the_vectors_hold() -> None:
    """A message with a chunk id, and the ack of it, are the protocol page's bytes."""
    assert encode_message("app.x", TIME, {"message": "hi"}, CHUNK) == list(BYTES)[1]
    assert encode_ack(CHUNK).hex() == "81a361636bb941414543417751464267634943516f4c4441304f44773d3d0a"
    assert pack_entries([(TIME, {"message": "hi"})]).hex() == ENTRY


@given(st.binary(max_size=70_000), st.integers(0, 3), st.sampled_from(["text", "gzip", "zstd"]))
def test_what_is_encoded_is_decoded(chunk: bytes, count: int, compressed: Any) -> None:
    """Each mode's frame comes back with its tag, its chunk id in the same bytes and its count."""
    entries = [(TIME + n, {"message": "m", "n": n}) for n in range(count)]
    packed = pack_entries(entries)
    frames = feed(
        [
            encode_message("a", TIME, {"n": 1}, chunk),
            encode_forward("é" * 40, entries, chunk),
            encode_packed("c", packed, compressed=compressed, chunk=chunk, size=count),
            encode_packed("c", packed),
        ]
    )
    assert [frame.option.chunk for frame in frames] == [chunk, chunk, chunk, None]
    assert [frame.tag for frame in frames] == ["a", "é" * 40, "c", "c"]
    assert frames[1].count == frames[2].option.size == count
    assert frames[2].option.compressed == compressed
    assert frames[3].payload == packed


@given(st.lists(st.binary(max_size=40), max_size=9), st.integers(0, 9))
def test_many_acks_are_each_one_behind_the_other(chunks: list[bytes], same: int) -> None:
    """Whatever their lengths are."""
    for each in (chunks, chunks[:1] * same):
        assert encode_acks(each) == b"".join(map(encode_ack, each))


@given(st.binary(max_size=300))
def test_acks_come_back_byte_for_byte(chunk: bytes) -> None:
    """An ack is a str of the chunk id's very bytes, and is not complete before its last byte."""
    ack = encode_ack(chunk)
    assert decode_ack(ack) == chunk
    assert all(decode_ack(ack[:cut]) is None for cut in range(len(ack)))
    assert isinstance(msgpack.unpackb(ack, unicode_errors="surrogateescape")["ack"], str)


def test_json_is_acknowledged_in_json() -> None:
    """The ack is in the serialisation of the request."""
    assert orjson.loads(encode_ack(CHUNK, as_json=True)) == {"ack": CHUNK.decode()}


@pytest.mark.parametrize("answer", [b"\xc0", b"\x80", b"\x81\xa3ack\x01", b"\xc1", b"HTTP/1.1 400"])
def test_other_answers_are_no_acks(answer: bytes) -> None:
    """An answer without an `ack`, or that is no MessagePack, raises DecodeError."""
    with pytest.raises(DecodeError):
        decode_ack(answer)


@pytest.mark.parametrize("time_ns", [-1, 2**32 * 10**9])
def test_times_that_an_event_time_cannot_say(time_ns: int) -> None:
    """Before 1970 and after 2106 there is no EventTime."""
    with pytest.raises(ValueError, match="no time"):
        event_time(time_ns)
