"""Times in every form that logs have them, to the nanosecond, and nothing else taken for a time."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.timestamps import are_canonical, is_canonical, parse, render

NOON = 1_795_359_600 * 10**9  # 2026-11-22T15:00:00Z


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("2026-11-22T15:00:00Z", 0),
        ("2026-11-22t15:00:00z", 0),
        (" 2026-11-22 15:00:00 ", 0),
        ("2026-11-22T15:00", 0),
        ("2026-11-22T15:00:00.5", 500_000_000),
        ("2026-11-22 15:00:00,123", 123_000_000),
        ("2026-11-22T15:00:00.123456789Z", 123_456_789),
        ("2026-11-22T15:00:00.1234567891234Z", 123_456_789),
        ("2026-11-22T15:00:00.12345678Z", 123_456_780),
        ("2026-11-22T17:00:00.123456789+02:00", 123_456_789),
        ("2026-11-22T17:00:00+0200", 0),
        ("2026-11-22T17:00:00.123 +02:00", 123_000_000),
        ("2026-11-22 10:00:00 -0500", 0),
        ("2026-11-22 15:00:00 UTC", 0),
        ("2026-11-22T14:59:60Z", 0),
        ("20261122T150000Z", 0),
        ("20261122150000", 0),
        ("2026/11/22 15:00:00", 0),
        ("22/Nov/2026:15:00:00 +0000", 0),
        ("22/Nov/2026:16:00:00 +0100", 0),
        ("22/Nov/2026:15:00:00", 0),
        ("Sun, 22 Nov 2026 16:00:00 +0100", 0),
        ("Sun Nov 22 15:00:00 2026", 0),
        (1_795_359_600, 0),
        (1_795_359_600.25, 250_000_000),
        (1_795_359_600_123, 123_000_000),
        (1_795_359_600_123_456, 123_456_000),
        (1_795_359_600_123_456_789, 123_456_789),
        ("1795359600", 0),
        ("1795359600.123456789", 123_456_789),
        ("1795359600123", 123_000_000),
        ("1795359600123.5", 123_500_000),
    ],
)
def test_forms_of_one_moment(value: object, more: int) -> None:
    """Each form is understood to its last digit."""
    assert parse(value) == NOON + more


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, 1, 12.5, -1, 10**30, float("nan"), float("inf"), [], {}, b"2026", "", " ", "hello", "12:00",
        "2026-13-01T00:00:00Z", "2026-11-22T25:00:00Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
        "2500-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "9999999999999999999", "20269922150000",
        "٢٠٢٦-11-22T15:00:00Z", "2026-11-22T15:00:00Z" * 5, "\ud800", "99/Foo/2026:15:00:00 +0000",
    ],
)  # fmt: skip
def test_what_is_no_time(value: object) -> None:
    """Durations, garbage and times that 64 bits of nanoseconds do not hold are none."""
    assert parse(value) is None


def test_a_time_without_a_zone_is_in_the_given_one() -> None:
    """Summer and winter time are told apart; a time with an offset does not care."""
    berlin = ZoneInfo("Europe/Berlin")
    assert parse("2026-11-22 16:00:00,123", berlin) == NOON + 123_000_000
    assert render(parse("2026-07-01 12:00:00", berlin) or 0) == "2026-07-01T10:00:00.000Z"
    assert parse("2026-11-22T15:00:00Z", berlin) == NOON


@pytest.mark.parametrize(
    ("fraction", "text"), [(0, "000"), (120_000_000, "120"), (123_456_000, "123456"), (7, "000000007")]
)
def test_as_few_digits_as_hold_it(fraction: int, text: str) -> None:
    """Three, six or nine digits of fraction."""
    assert render(NOON + fraction) == f"2026-11-22T15:00:00.{text}Z"


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_what_is_written_is_read_again(nanoseconds: int) -> None:
    """No nanosecond is lost on the way to text and back."""
    assert parse(render(nanoseconds)) == nanoseconds


@given(st.integers(min_value=0, max_value=9_223_286_399 * 10**9))
def test_what_is_written_is_canonical(nanoseconds: int) -> None:
    """A time that we wrote is left alone the next time."""
    assert is_canonical(render(nanoseconds))


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "2026-11-22", "2026-11-22T15:00:00", "2026-11-22 15:00:00Z", "2026-11-22T15:00:00,123Z",
        "2026-11-22T15:00:00+00:00", "2026-W47-7T15:00:00Z", "20261122T150000Z", "2026-11-22T15:00:00z",
        "2026-13-22T15:00:00Z", "2026-11-22T15:00:00.Z", "2026-11-22T15:00:00.1234567890Z", "0001-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_other_forms_are_not_canonical(text: str) -> None:
    """What is not exactly the form that Elasticsearch and we write is worked on."""
    assert not is_canonical(text)


@given(st.text(max_size=64) | st.from_regex(r"[0-9TZ:./ +-]{1,40}", fullmatch=True))
def test_any_text_is_a_time_or_none(text: str) -> None:
    """No text raises, and none leads out of the range."""
    found = parse(text)
    assert found is None or 0 <= found < 2**63


_SECOND = "2026-11-22T15:04:05"
_NEARLY = st.tuples(st.integers(0, 19), st.sampled_from("0123459-T:.Z \u0664")).map(
    lambda change: f"{_SECOND}.123Z"[: change[0]] + change[1] + f"{_SECOND}.123Z"[change[0] + 1 :]
)


@given(st.lists(st.sampled_from([f"{_SECOND}{end}" for end in ("Z", ".123Z", ".123456Z", ".123z", "")]) | _NEARLY))
def test_many_are_canonical_where_each_is(texts: list[str]) -> None:
    """What is said of many times at once is true of each; of one length and this century none is missed."""
    each = all(map(is_canonical, texts))
    assert each or not are_canonical(texts)
    if len(set(map(len, texts))) == 1 and {text[:2] for text in texts} == {"20"}:
        assert are_canonical(texts) == each


def test_what_is_no_text_among_many() -> None:
    """A time that is no text is an error, for the caller to take the way of each by itself."""
    with pytest.raises(TypeError):
        are_canonical([f"{_SECOND}Z", 1])  # type: ignore[list-item]
