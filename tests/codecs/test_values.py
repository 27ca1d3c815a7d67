"""Any decoded value becomes one that JSON can hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from mcp_ingest.codecs.values import MAX_DEPTH, TOO_DEEP, clean, clean_value
from mcp_ingest.errors import DecodeError

CASES: list[tuple[Any, Any]] = [
    (b"text", "text"),
    (b"caf\xc3\xa9 \xff!", "café \ufffd!"),
    (bytearray(b"a"), "a"),
    ("lone \ud800 surrogate", "lone \ufffd surrogate"),
    ("escaped \udcff byte", "escaped \ufffd byte"),
    (2**64, "18446744073709551616"),
    (-(2**63) - 1, "-9223372036854775809"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    (Ext(5, b"\x01\xff"), "01ff"),
    (msgpack.ExtType(5, b"\x01\xff"), "01ff"),
    (Ext(0, bytes.fromhex("6553f100075bcd15")), "2023-11-14T22:13:20.123456789Z"),
    (Ext(0, b"\xff" * 8), "f" * 16),
    (Ext(0, b"short"), b"short".hex()),
    (msgpack.Timestamp(1700000000, 5), "2023-11-14T22:13:20.000000005Z"),
    (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), "2023-11-14T22:13:20+00:00"),
    ({1: 1}, {"1": 1}),
    ({b"key": 1}, {"key": 1}),
    ({None: 1, True: 2}, {"null": 1, "true": 2}),
    ({"a": {b"b": [b"c", {"d": float("nan")}]}}, {"a": {"b": ["c", {"d": "NaN"}]}}),
    ((1, 2, b"x"), [1, 2, "x"]),
    (complex(1, 2), "(1+2j)"),
]


@pytest.mark.parametrize(("given_value", "expected"), CASES, ids=[repr(case[0])[:40] for case in CASES])
def test_what_json_cannot_hold_is_changed(given_value: Any, expected: Any) -> None:
    """Each kind of value has its form in JSON, and is counted as changed."""
    value, changed = clean_value(given_value)
    assert value == expected
    assert changed > 0
    assert orjson.loads(orjson.dumps(value)) == expected


@pytest.mark.parametrize("value", [None, True, 0, -(2**63), 2**64 - 1, 1.5, "é", [], {}, {"a": [1, {"b": None}]}])
def test_what_json_holds_stays(value: Any) -> None:
    """A value without fault comes back as it is, with nothing counted."""
    assert clean_value(value) == (value, 0)


def test_deep_nesting_is_cut() -> None:
    """Below the limit of levels stands a sentence in place of what was there."""
    value: Any = "bottom"
    for _ in range(900):
        value = {"deeper": [value]}
    cleaned, changed = clean({"root": value})
    assert changed == 1
    assert orjson.dumps(cleaned).count(TOO_DEEP.encode()) == 1
    levels = 0
    while not isinstance(cleaned, str):
        cleaned, levels = next(iter(cleaned.values())) if isinstance(cleaned, dict) else cleaned[0], levels + 1
    assert levels == MAX_DEPTH


def test_a_string_becomes_a_message() -> None:
    """A string in the place of the record is the record's message."""
    assert clean("text") == ({"message": "text"}, 0)
    assert clean(b"te\xff") == ({"message": "te\ufffd"}, 1)


@pytest.mark.parametrize("record", [None, 1, 1.5, True, [], [{}], float("nan"), Ext(1, b"")])
def test_other_records_are_no_events(record: Any) -> None:
    """What is neither a map nor a string raises DecodeError."""
    with pytest.raises(DecodeError, match="not a map"):
        clean(record)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.builds(Ext, st.integers(-128, 127), st.binary()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary() | st.integers() | st.none(), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text() | st.binary() | st.floats(), _VALUES))
def test_every_record_can_be_serialised_afterwards(record: dict[Any, Any]) -> None:
    """Whatever was in it, orjson takes the cleaned record, and cleaning it again changes nothing."""
    cleaned, _ = clean(record)
    orjson.dumps(cleaned)
    assert clean(cleaned) == (cleaned, 0)
