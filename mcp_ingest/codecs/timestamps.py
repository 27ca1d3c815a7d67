"""Times as texts and numbers to nanoseconds since 1970, and back to ISO 8601 in UTC.

Understood: ISO 8601 and RFC 3339 with offset, space for `T`, comma for the point, up to nine digits of fraction, a
leap second; seconds, milliseconds, microseconds and nanoseconds since 1970 as numbers or digits; Python's `asctime`;
RFC 2822; the access log's `22/Nov/2026:15:00:00 +0000`; `2026/11/22 15:00:00`; C's `ctime`; `20261122150000`.
What lies before 1970 or behind April 2262 (64 bits of nanoseconds) is no time: nothing downstream could hold it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from functools import lru_cache

from ciso8601 import parse_datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_LAST_NS = 2**63 - 1
_MARKS = frozenset(("--T::.", "--T::Z"))
_PLACES = tuple(tuple(zip((0, 1, 4, 7, 10, 13, 16, 19), marks, strict=True)) for marks in ("20--T::.", "20--T::Z"))
_FIRST_TEXT, _END_TEXT = "1970-01-01", "2262-04-11"

# since 1970 until 2100; before 1973 a number of seconds is too small to be told from a duration
_EPOCHS = ((10**8, 4_102_444_800, 10**9), (10**11, 4_102_444_800_000, 10**6),
           (10**14, 4_102_444_800_000_000, 10**3), (10**17, 4_102_444_800_000_000_000, 1))  # fmt: skip

_NUMBER = re.compile(r"(\d{9,19})(?:\.(\d{1,9})\d*)?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", re.ASCII)
_ISO = re.compile(
    r"(\d{4}[-/]\d\d[-/]\d\d)[Tt ]+(\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)? ?(Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_DIGITS_PAST_MICROSECONDS = re.compile(r"[.,]\d{6}(\d{1,3})", re.ASCII)
_OTHERS = ("%d/%b/%Y:%H:%M:%S %z", "%d/%b/%Y:%H:%M:%S", "%a %b %d %H:%M:%S %Y")


def is_canonical(text: str) -> bool:
    """Whether this is a time in the form that `render` writes: `2026-11-22T15:00:00.123456Z`, 0 to 9 digits."""
    try:
        return (
            text[4:20:3] in _MARKS  # every third character from the first dash on
            and text[-1] == "Z"
            and len(text) <= 30
            and _FIRST_TEXT <= text < _END_TEXT
            and parse_datetime(text) is not None
        )
    except ValueError:
        return False


def are_canonical(texts: Sequence[str]) -> bool:
    """Whether all these times are canonical; it may say no where they are not of one length, or not of this century.

    It costs an event a third of what `is_canonical` does. Raises a TypeError where a text is none.
    """
    joined, count = "".join(texts), len(texts) or 1
    width = len(joined) // count
    try:
        return (
            20 <= width <= 30
            and set(map(len, texts)) == {width}
            and all(joined[place::width] == mark * count for place, mark in _PLACES[width == 20])
            and joined[-1::-width] == "Z" * count
            and all(map(parse_datetime, texts))  # a moment is never false
        )
    except ValueError:
        return False


def parse(value: object, zone: tzinfo = UTC) -> int | None:
    """Nanoseconds since 1970, or None if this is no time; one that names no zone is in `zone`."""
    if isinstance(value, str):
        return _of_text(value, zone) if len(value) <= 64 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    whole = int(value)
    # a float of seconds is good for microseconds, not more
    return _of_number(whole, round((value - whole) * 10**6) * 1000)


def render(nanoseconds: int) -> str:
    """ISO 8601 in UTC with 3, 6 or 9 digits of fraction, as few as hold it."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    if fraction % 10**6 == 0:
        return f"{_second_text(seconds)}.{fraction // 10**6:03d}Z"
    if fraction % 1000 == 0:
        return f"{_second_text(seconds)}.{fraction // 1000:06d}Z"
    return f"{_second_text(seconds)}.{fraction:09d}Z"


@lru_cache(maxsize=1024)
def _second_text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def _of_number(whole: int, fraction_ns: int) -> int | None:
    for first, end, unit in _EPOCHS:
        if first <= whole < end:
            return whole * unit + (fraction_ns * unit // 10**9)
    return None


@lru_cache(maxsize=4096)
def _of_text(text: str, zone: tzinfo) -> int | None:
    text = text.strip()
    if number := _NUMBER.fullmatch(text):
        found = _of_number(int(number[1]), int((number[2] or "").ljust(9, "0")))
        if found is not None:
            return found
    try:
        moment = parse_datetime(text)
    except ValueError:
        return _of_other_text(text, zone)
    past = _DIGITS_PAST_MICROSECONDS.search(text)
    return _nanoseconds(moment, zone, int(past[1].ljust(3, "0")) if past else 0)


def _of_other_text(text: str, zone: tzinfo) -> int | None:
    try:
        if iso := _ISO.fullmatch(text):
            date, minute, second, fraction, offset = iso.groups()
            leap = second == "60"
            plain = f"{date.replace('/', '-')}T{minute}:{'59' if leap else second or '00'}{_offset(offset)}"
            return _nanoseconds(parse_datetime(plain), zone, leap * 10**9 + int((fraction or "").ljust(9, "0")))
        if compact := _COMPACT.fullmatch(text):
            year, month, day, hour, minute_, second_ = map(int, compact.groups())
            return _nanoseconds(datetime(year, month, day, hour, minute_, second_), zone, 0)
        return _nanoseconds(_of_named_month(text), zone, 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _offset(text: str | None) -> str:
    return "Z" if text in ("Z", "z", "UTC", "GMT") else text or ""


def _of_named_month(text: str) -> datetime:
    for form in _OTHERS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return parsedate_to_datetime(text)


def _nanoseconds(moment: datetime, zone: tzinfo, more: int) -> int | None:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    try:
        since = moment - _EPOCH
    except OverflowError:
        return None
    result = (since // _SECOND) * 10**9 + since.microseconds * 1000 + more
    return result if 0 <= result <= _LAST_NS else None
