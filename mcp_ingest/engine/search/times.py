"""Times as a search writes them: ISO 8601 (also just a day or an hour), epoch milliseconds, `now`, `now-1h`, `now/d`.

A time that says no more than a day means the whole day, as in Elasticsearch: `@timestamp:2026-01-02`, and
`<=2026-01-02` takes in its last moment. So every text is an interval.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from mcp_ingest.errors import QueryError

SECOND = 1_000_000_000
#: The last moment that 64 bits of nanoseconds can say, in the year 2262; the first is 1970, as for `date_nanos`.
MAX_TIME = 2**63 - 1
_UNITS = {"s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "H": 3600 * SECOND, "d": 86400 * SECOND}
_WEEK = 7 * 86400 * SECOND

_ISO = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?)?)?"
)
_NOW = re.compile(r"now((?:[+-]\d+[smhHdw])*)(?:/([smhHd]))?")


class Interval(NamedTuple):
    """The first and the last nanosecond (since 1970) that a text means."""

    first: int
    last: int


def interval(text: str, now: int) -> Interval:
    """What the text means; `now` is nanoseconds since 1970. `QueryError` names the accepted forms."""
    if match := _NOW.fullmatch(text):
        found = _relative(match, now)
    elif match := _ISO.fullmatch(text):
        found = _absolute(match, text)
    elif re.fullmatch(r"\d{5,15}", text):
        found = Interval(int(text) * 1_000_000, int(text) * 1_000_000 + 999_999)
    else:
        raise _unknown(text)
    return Interval(*(max(0, min(time, MAX_TIME)) for time in found))


def _unknown(text: str) -> QueryError:
    return QueryError(f"`{text}` is not a time: write 2026-01-31, 2026-01-31T10:00:00Z, now, now-15m or now-1d/d")


def moment(text: str, now: int, *, end: bool = False) -> int:
    """A single time for `--from` and `--to`: as `interval`, and `-15m` for `now-15m`."""
    found = interval(f"now{text}" if re.match(r"[+-]\d", text) else text, now)
    return found.last if end else found.first


def _relative(match: re.Match[str], now: int) -> Interval:
    for sign, count, unit in re.findall(r"([+-])(\d+)([smhHdw])", match[1]):
        step = int(count) * (_WEEK if unit == "w" else _UNITS[unit])
        now += step if sign == "+" else -step
    if not match[2]:
        return Interval(now, now)
    length = _UNITS[match[2]]
    first = now // length * length
    return Interval(first, first + length - 1)


def _absolute(match: re.Match[str], text: str) -> Interval:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    try:
        start = datetime.fromisoformat(
            f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone}"
        )
    except ValueError as error:
        raise QueryError(f"`{text}` is not a time: {error}") from error
    first = int(start.astimezone(UTC).timestamp()) * SECOND + int((fraction or "").ljust(9, "0"))
    if fraction:
        return Interval(first, first + 10 ** (9 - len(fraction)) - 1 if len(fraction) < 9 else first)
    if second:
        return Interval(first, first + SECOND - 1)
    if minute or hour:
        return Interval(first, first + (_UNITS["m"] if minute else _UNITS["h"]) - 1)
    if day:
        return Interval(first, first + _UNITS["d"] - 1)
    following = datetime(int(year) + (not month or month == "12"), int(month or 12) % 12 + 1, 1, tzinfo=UTC)
    return Interval(first, int(following.timestamp()) * SECOND - 1)
