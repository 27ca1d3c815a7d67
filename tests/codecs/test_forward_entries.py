"""Entries of a frame: fast and careful ways agree, bad ones do not harm their neighbours, slices are bounded."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs import forward_entries
from mcp_ingest.codecs.compression import compress_gzip, compress_zstd
from mcp_ingest.codecs.forward import NO_OPTION, Decoder, Frame, Mode, Option, encode_packed, event_time, pack_entries
from mcp_ingest.codecs.forward_entries import Entries, decode_entries, times_of
from mcp_ingest.errors import DecodeError, TooLargeError
from tests.codecs.test_forward import BYTES, TIME, feed

GOOD = pack_entries([(TIME, {"message": "hi"})])
GROUP = bytes.fromhex(
    "93a776315f6c6f6773c4949292d700ffffffff0000000083a6736368656d61a46f746c70ab7265736f757263655f696400a873636f70655f"
    "69640081a87265736f7572636581aa6174747269627574657381ac736572766963652e6e616d65a1739292d7006553f100075bcd1581a46f"
    "746c7081af73657665726974795f6e756d6265720981a76d657373616765a268699292d700fffffffe00000000808082a473697a6503ad66"
    "6c75656e745f7369676e616c00"
)
TWO_MEMBERS = bytes.fromhex(
    "93a56170702e78db000000561f8b08000000000002039b749d2135f823037bf459d1c6e5b9a9c5c589e9a98b323201757d7095170000001f"
    "8b08000000000002039b749d2135f823037bf459d1c6e5b9a9c5c589e9a98b323201757d70951700000082a473697a6502aa636f6d707265"
    "73736564a4677a6970"
)


def packed(payload: bytes, **option: Any) -> Frame:
    return Frame("app.x", Mode.PACKED, payload, Option(**option), None, len(payload))


def decode(frame: Frame, **limits: int) -> Entries:
    """All slices as one, after looking at what joins them."""
    slices = list(decode_entries(frame, **limits))
    assert [part.last for part in slices] == [False] * (len(slices) - 1) + [True]
    whole = Entries(0, 0, 0, True)
    whole.indices = []
    for part in slices:
        assert part.start == whole.count
        assert len(part.indices) == len(part.times) == len(part.records)
        whole.count += part.count
        whole.size += part.size
        whole.changed += part.changed
        whole.times += part.times
        whole.records += part.records
        whole.invalid += part.invalid
        whole.indices = [*whole.indices, *part.indices]
    orjson.dumps(whole.records)
    return whole


def entry(when: Any, record: Any) -> bytes:
    return bytes(msgpack.packb([when, record]))


@pytest.mark.parametrize("data", [*BYTES, TWO_MEMBERS, GROUP], ids=lambda data: data[:12].hex())
def test_every_vector(data: bytes) -> None:
    """The protocol page's vectors yield their events and nothing else."""
    (frame,) = feed([data])
    entries = decode(frame)
    seconds = {TIME // 10**9, TIME // 10**9 + 1}
    assert {record["message"] for record in entries.records} == {"hi"}
    assert {time_ns // 10**9 for time_ns in entries.times} <= seconds
    assert len(entries.records) == (1 if data == GROUP else 2 if data == TWO_MEMBERS else frame.count or 1)
    assert entries.invalid == []
    assert entries.changed == 0


def test_a_group_gives_its_attributes_and_no_events() -> None:
    """The records between a group's markers get its resource's attributes and their own metadata."""
    (frame,) = feed([GROUP])
    entries = decode(frame)
    assert entries.records == [{"message": "hi", "service.name": "s", "metadata": {"otlp": {"severity_number": 9}}}]
    assert entries.indices == [1]
    assert entries.count == 3


def _marker(seconds: int, metadata: Any, record: Any) -> bytes:
    return entry([msgpack.ExtType(0, seconds.to_bytes(4, "big") + bytes(4)), metadata], record)


def test_a_group_ends_with_its_marker_or_the_frame() -> None:
    """What follows the closing marker is outside; an open group goes on over slices and ends with its frame."""
    opened = _marker(0xFFFFFFFF, {"schema": "otlp"}, {
        "resource": {"attributes": {"service.name": "s", "host.name": "h"}}, "scope": {"name": "lib"},
    })  # fmt: skip
    closed = _marker(0xFFFFFFFE, {}, {})
    own = entry(1, {"service.name": "mine", "metadata": {"region": "eu"}})
    entries = decode(packed(opened + own + closed + GOOD + opened + GOOD), slice_events=1)
    assert entries.records == [
        {"service.name": "mine", "host.name": "h", "metadata": {"scope": {"name": "lib"}, "region": "eu"}},
        {"message": "hi"},
        {"message": "hi", "service.name": "s", "host.name": "h", "metadata": {"scope": {"name": "lib"}}},
    ]
    assert entries.indices == [1, 3, 5]
    assert decode(packed(GOOD)).records == [{"message": "hi"}]


def test_metadata_never_replaces_what_the_record_has() -> None:
    """Where the record's own `metadata` is no map, the entry's goes under `otel_metadata`."""
    payload = entry([1, {"a": 1}], {"metadata": "text"}) + entry([1, {"a": 1}], {"metadata": {"a": 2}})
    assert decode(packed(payload)).records == [
        {"metadata": "text", "otel_metadata": {"a": 1}},
        {"metadata": {"a": 2}},
    ]
    message = Frame("t", Mode.MESSAGE, GOOD, Option(metadata={"b": 1}), 1, 9)
    assert decode(message).records == [{"message": "hi", "metadata": {"b": 1}}]


TIMES: list[tuple[Any, int]] = [
    (0, 0),
    (None, 0),
    (1, 10**9),
    (2**32 - 1, (2**32 - 1) * 10**9),
    (2**33, 2**33 * 10**9),
    (1_700_000_000_000, 0),
    (2**64 - 1, 0),
    (-5, 0),
    (1.5, 1_500_000_000),
    (float("nan"), 0),
    (float("inf"), 0),
    (msgpack.ExtType(0, bytes(8)), 0),
    (msgpack.ExtType(0, b"\xff\xff\xff\xff\x00\x00\x00\x01"), (2**32 - 1) * 10**9 + 1),
    ([7, {}], 7 * 10**9),
]


@pytest.mark.parametrize(("when", "expected"), TIMES, ids=repr)
def test_times(when: Any, expected: int) -> None:
    """Each kind of time is nanoseconds since 1970; nil, nothing and what 64 bits cannot hold are 0."""
    for payload in (entry(when, {"n": 1}), GOOD + entry(when, {"n": 1})):
        assert decode(packed(payload)).times[-1] == expected


EIGHT = st.sampled_from([bytes.fromhex("6553f100075bcd15"), bytes(8), b"\xff" * 8, bytes.fromhex("6553f1003b9aca00")])
FORMS = st.sampled_from([(b"\xd7\x00", b""), (b"\xc7\x08\x00", b""), (b"\x92\xd7\x00", b"\x80"), (b"\xd7\x05", b"")])
PACKED_TIMES = st.one_of(
    st.builds(lambda form, eight: form[0] + eight + form[1], FORMS, EIGHT),
    st.sampled_from([b"\x05", b"\xce\x65\x53\xf1\x00", b"\xcf" + b"\x01" * 8, b"\xff", b"\xa1\xff", b"\xc0"]),
)


@given(
    st.one_of(
        st.lists(PACKED_TIMES, max_size=6),
        st.tuples(FORMS, st.lists(EIGHT, max_size=6)).map(
            lambda drawn: [drawn[0][0] + eight + drawn[0][1] for eight in drawn[1]]
        ),
    )
)
def test_times_together_are_what_they_are_alone(times: list[bytes]) -> None:
    """Whatever forms they are of, in whatever mixture: the same times, and the same entries are no events."""
    entries = [b"\x92" + when + b"\x81\xa1n\x01" for when in times]
    alone = [decode(packed(each)) for each in entries]
    together = decode(packed(b"".join(entries), size=len(entries)))
    assert together.times == [when for each in alone for when in each.times]
    assert [bad.index for bad in together.invalid] == [n for n, each in enumerate(alone) if each.invalid]
    assert together.count == len(times)


@pytest.mark.parametrize(
    "form", [(b"\xd7\x00", b""), (b"\xc7\x08\x00", b""), (b"\x92\xd7\x00", b"\x80"), (b"\xce", b"")], ids=repr
)
def test_times_of_one_form_are_a_column(form: tuple[bytes, bytes]) -> None:
    """EventTime in both forms, Fluent Bit's with empty metadata, and seconds need no look at each."""
    head, tail = form
    rest = 4 if head == b"\xce" else 8
    times = [msgspec.Raw(head + number.to_bytes(4, "big") + bytes(rest - 4) + tail) for number in (1, 2, 3)]
    assert times_of(times) == [10**9, 2 * 10**9, 3 * 10**9]
    assert times_of([*times, msgspec.Raw(b"\xc0")]) is None


BAD_TIMES = [
    msgpack.ExtType(0, b"\0\0\0\1\x3b\x9a\xca\x00"),
    msgpack.ExtType(0, b"short"),
    msgpack.ExtType(5, bytes(8)),
    "now",
    {},
]


@pytest.mark.parametrize("when", BAD_TIMES, ids=repr)
def test_bad_times_are_bad_events(when: Any) -> None:
    """A time that is none (nanoseconds of a second and more, too) makes the event invalid, with its record kept."""
    entries = decode(packed(GOOD + entry(when, {"n": 1}) + GOOD))
    assert entries.records == [{"message": "hi"}] * 2
    assert [(bad.index, bad.record) for bad in entries.invalid] == [(1, {"n": 1})]


DEEP = b"\x92\x01\x81\xa1k" + b"\x91" * 2000 + b"\x01"
#: An entry, and its record (None: it is no event)
ENTRIES: list[tuple[bytes, dict[str, Any] | None]] = [
    (entry(1, "plain text"), {"message": "plain text"}),
    (b"\x92\x01\xa3te\xff", {"message": "te\ufffd"}),
    (entry(1, b"bin text"), {"message": "bin text"}),
    (entry(1, {1: "int key"}), {"1": "int key"}),
    (entry(1, {b"bin": "key"}), {"bin": "key"}),
    (entry(1, {"bin": b"caf\xc3\xa9"}), {"bin": "café"}),
    (b"\x92\x01\x81\xa1k\xa2\xff\xfe", {"k": "\ufffd\ufffd"}),
    (b"\x92\x01\x81\xa2\xffk\x01", {"\ufffdk": 1}),
    (b"\x92\x01\x82\xa1k\x01\xa1k\x02", {"k": 2}),
    (entry(1, {"big": 2**64 - 1}), {"big": 2**64 - 1}),
    (entry(1, {"f": float("nan"), "g": [float("-inf")]}), {"f": "NaN", "g": ["-Infinity"]}),
    (b"\x92\x01\x81\xa1f\xca\x7f\xc0\x00\x00", {"f": "NaN"}),
    (entry(1, {"e": msgpack.ExtType(5, b"\x01")}), {"e": "01"}),
    (entry(1, {"t": msgpack.Timestamp(1700000000, 5)}), {"t": "2023-11-14T22:13:20.000000005Z"}),
    (entry(1, {"a": [[[[[[[[[[1]]]]]]]]]]}), {"a": [[[[[[[[[[1]]]]]]]]]]}),
    (b"\x93\x01\x80\x05", {}),
    (entry(1, None), None),
    (entry(1, 5), None),
    (entry(1, [{"metric": 1}]), None),
    (entry(1, [1, 2]), None),
    (msgpack.packb("no entry"), None),
    (msgpack.packb([]), None),
    (msgpack.packb([1]), None),
    (b"\x92\x01\x81\x90\x01", None),
    (DEEP, None),
]


@pytest.mark.parametrize(("raw", "record"), ENTRIES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("hint", [0, 1, 3, 10])
def test_an_odd_entry_does_not_harm_its_neighbours(raw: bytes, record: dict[str, Any] | None, hint: int) -> None:
    """What JSON cannot hold is changed, what is no event is handed in as such, and the entries around it arrive."""
    entries = decode(packed(GOOD + raw + GOOD, size=hint))
    assert entries.records == [{"message": "hi"}, *([] if record is None else [record]), {"message": "hi"}]
    assert entries.times[0] == entries.times[-1] == TIME
    assert [bad.index for bad in entries.invalid] == ([1] if record is None else [])
    assert entries.count == 3
    assert entries.indices == ([0, 2] if record is None else [0, 1, 2])


@pytest.mark.parametrize("broken", [b"\xc1 garbage", GOOD[:-1], b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff..."])
@pytest.mark.parametrize("hint", [0, 1, 2])
def test_what_cannot_be_cut_apart_is_one_bad_entry(broken: bytes, hint: int) -> None:
    """The entries before the damage arrive, and the rest is handed in as bytes, as one."""
    entries = decode(packed(GOOD + broken, size=hint))
    assert entries.records == [{"message": "hi"}]
    assert [(bad.index, bad.record) for bad in entries.invalid] == [(1, broken)]
    assert decode(packed(GOOD * 5 + broken), slice_bytes=30).invalid[0].index == 5


@pytest.mark.parametrize("hint", [-1, 0, 1, 4999, 5000, 5001, 10**12])
def test_size_is_a_hint(hint: int) -> None:
    """Whatever `size` says, all entries come, in order."""
    payload = pack_entries((TIME + n, {"n": n}) for n in range(5000))
    entries = decode(packed(payload, size=hint))
    assert [record["n"] for record in entries.records] == list(range(5000))
    assert entries.times == [TIME + n for n in range(5000)]
    assert entries.size == len(payload)


@pytest.mark.parametrize("pack", [None, compress_gzip, compress_zstd])
@pytest.mark.parametrize(("slice_bytes", "slice_events"), [(1, 10), (1000, 10**6), (10**9, 7), (100_000, 1000)])
def test_slices_are_bounded_and_complete(pack: Any, slice_bytes: int, slice_events: int) -> None:
    """No slice has more events or, above a single one, more bytes than asked for; together they are everything."""
    payload = pack_entries((TIME + n, {"n": n, "fill": "x" * (n % 100)}) for n in range(3000))
    frame = packed(pack(payload) if pack else payload)
    for part in decode_entries(frame, slice_bytes=slice_bytes, slice_events=slice_events):
        assert part.count <= slice_events
        assert part.size <= slice_bytes or part.count == 1
    entries = decode(frame, slice_bytes=slice_bytes, slice_events=slice_events)
    assert [record["n"] for record in entries.records] == list(range(3000))
    assert entries.indices == list(range(3000))


def test_an_entry_larger_than_many_slices_comes_whole() -> None:
    """Its neighbours come in slices of their own."""
    payload = GOOD + entry(1, {"big": "x" * 100_000}) + GOOD
    parts = [part.count for part in decode_entries(packed(payload), slice_bytes=100)]
    assert sum(parts) == 3
    assert decode(packed(payload), slice_bytes=100).records[1] == {"big": "x" * 100_000}


def test_an_entry_over_its_limit_is_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not decoded, and its beginning is what is kept of it."""
    monkeypatch.setattr(forward_entries, "MAX_ENTRY_BYTES", 1000)
    monkeypatch.setattr(forward_entries, "KEPT_BYTES", 10)
    entries = decode(packed(GOOD + entry(1, {"big": "x" * 2000}) + GOOD), slice_bytes=1500)
    assert entries.records == [{"message": "hi"}] * 2
    assert [(bad.index, len(bad.record)) for bad in entries.invalid] == [(1, 10)]


@pytest.mark.parametrize("declared", ["text", "gzip", "zstd", "unheard-of"])
@pytest.mark.parametrize("pack", [compress_gzip, compress_zstd])
def test_magic_is_trusted_over_the_option(pack: Any, declared: str) -> None:
    """Compressed bytes are decompressed, whatever the option calls them."""
    frame = packed(pack(GOOD) + pack(GOOD), compressed=declared, size=2)
    assert decode(frame).records == [{"message": "hi"}] * 2


@pytest.mark.parametrize(
    ("declared", "said"), [("gzip", "gzip"), ("zstd", "zstd"), ("4111111111111111", "a text of 16 characters")]
)
def test_undeclared_compression_is_refused(declared: str, said: str) -> None:
    """Bytes without a known magic that are said to be compressed raise DecodeError, which quotes no sender."""
    with pytest.raises(DecodeError, match=f"`compressed` says {said},"):
        decode(packed(b"\x04\x22\x4d\x18" + bytes(50), compressed=declared))


def test_a_bomb_is_refused_and_damage_is_found() -> None:
    """TooLargeError above the limit, DecodeError for a payload that was cut."""
    with pytest.raises(TooLargeError):
        decode(packed(compress_gzip(GOOD * 100_000)), max_bytes=1_000_000)
    with pytest.raises(DecodeError):
        decode(packed(compress_gzip(GOOD * 10)[:-3]))


@pytest.mark.parametrize("frame", [packed(b""), packed(b"", compressed="gzip"), packed(compress_gzip(b""), size=3),
                                   Frame("t", Mode.FORWARD, b"", NO_OPTION, 0, 4)])  # fmt: skip
def test_an_empty_frame_is_one_empty_slice(frame: Frame) -> None:
    """Nothing comes of it, but that it is over."""
    (part,) = decode_entries(frame)
    assert (part.count, list(part.indices), part.records, part.invalid, part.last) == (0, [], [], [], True)


@given(st.binary(max_size=300), st.integers(-1, 50), st.integers(1, 60), st.integers(1, 5))
def test_any_bytes_are_entries_or_bad_ones(payload: bytes, hint: int, slice_bytes: int, slice_events: int) -> None:
    """Of a payload without compression everything comes out, as an event or as a bad entry."""
    entries = decode(packed(b"\x91" + payload, size=hint), slice_bytes=slice_bytes, slice_events=slice_events)
    assert entries.size == len(payload) + 1
    assert sorted([*entries.indices, *(bad.index for bad in entries.invalid)]) <= list(range(entries.count))


_KEYS = st.text(max_size=5)
_RECORDS = st.dictionaries(
    _KEYS,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 2**32 * 10**9 - 3 * 10**9), _RECORDS), max_size=8),
    st.sampled_from(["text", "gzip"]),
)
def test_what_was_packed_comes_back(events: list[tuple[int, dict[str, Any]]], compressed: Any) -> None:
    """Times and records are the same behind the whole way of a frame, fast or careful."""
    decoder = Decoder()
    decoder.feed(encode_packed("t", pack_entries(events), compressed=compressed, size=len(events)))
    (frame,) = decoder
    entries = decode(frame)
    assert list(zip(entries.times, entries.records, strict=True)) == events
    spoiled = decode(packed(pack_entries(events) + entry(event_time_ext(), {"x": b"bin"})))
    assert list(zip(spoiled.times, spoiled.records, strict=True))[: len(events)] == events


def event_time_ext() -> msgpack.ExtType:
    return msgpack.ExtType(0, event_time(TIME).data)
