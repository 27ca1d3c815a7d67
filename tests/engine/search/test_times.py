"""Times in searches."""

from __future__ import annotations

from datetime import datetime

import pytest

from mcp_ingest.engine.search.times import MAX_TIME, interval, moment
from mcp_ingest.errors import QueryError

NOW = 1_795_350_896_123_456_789  # 2026-11-22T12:34:56.123456789Z
SECOND = 10**9


def at(text: str) -> int:
    """Nanoseconds of an ISO time."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("text", "first", "behind"),
    [
        ("2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2026-02", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-11-22", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("2026-11-22T10", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"),
        ("2026-11-22T10:05", "2026-11-22T10:05:00Z", "2026-11-22T10:06:00Z"),
        ("2026-11-22 10:05:07", "2026-11-22T10:05:07Z", "2026-11-22T10:05:08Z"),
        ("2026-11-22T10:05:07+02:00", "2026-11-22T08:05:07Z", "2026-11-22T08:05:08Z"),
        ("now/d", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("now-1d/d", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
    ],
)
def test_intervals(text: str, first: str, behind: str) -> None:
    """A time that says no more than a day, an hour or a second means the whole of it."""
    assert interval(text, NOW) == (at(first), at(behind) - 1)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("now", NOW),
        ("now-1h", NOW - 3600 * SECOND),
        ("now-1d+12h", NOW - 43_200 * SECOND),
        ("now-2w", NOW - 1_209_600 * SECOND),
    ],
)
def test_relative(text: str, first: int) -> None:
    """`now` with steps is one moment."""
    assert interval(text, NOW) == (first, first)


def test_fractions_and_milliseconds() -> None:
    """Fractions of a second and epoch milliseconds are taken as exactly as they are said."""
    second = at("2026-11-22T10:05:07Z")
    assert interval("2026-11-22T10:05:07.5Z", NOW) == (second + 500_000_000, second + 599_999_999)
    assert interval("2026-11-22T10:05:07.123456789Z", NOW) == (second + 123_456_789, second + 123_456_789)
    assert interval("1700000000000", NOW) == (1_700_000_000_000_000_000, 1_700_000_000_000_999_999)


def test_options_of_the_command() -> None:
    """`--from` and `--to` take `-15m` too, and the end of a day is its last moment."""
    assert moment("-15m", NOW) == NOW - 900 * SECOND
    assert moment("2026-11-22", NOW, end=True) == at("2026-11-23T00:00:00Z") - 1


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "now-1y", "now-", "12", "2026-11-22T25"])
def test_no_times(text: str) -> None:
    """What is no time is refused with the accepted forms."""
    with pytest.raises(QueryError, match="is not a time"):
        interval(text, NOW)


def test_beyond_64_bits() -> None:
    """Times beyond what nanoseconds in 64 bits can say are cut to that."""
    assert interval("9999-01-01", NOW) == (MAX_TIME, MAX_TIME)
    assert interval("1900", NOW) == (0, 0)
    assert interval("now-999999d", NOW) == (0, 0)
