"""The one serialisation: each event to a line of JSON, the same for all outputs.

`@timestamp` and `tag` are the line's first keys. The event's time is a usable `timestamp`, else `@timestamp`, else
the protocol's time, else the time of receipt; `timestamp` itself stays as it is.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

import orjson

from mcp_ingest.codecs.values import clean
from mcp_ingest.event import Batch, Record

_START, _REST = b'{"@timestamp":"', (b"", b",")
_SECOND = 1_000_000_000
#: Nanoseconds in the last digit of a fraction, by its number of digits.
_FRACTION: list[int] = [10**power for power in range(9, -1, -1)]


def finish(batch: Batch) -> tuple[list[bytes], dict[int, BaseException]]:
    """The batch's lines, and the errors of events that no JSON can hold (their lines are empty).

    `batch.times` become the events' own times: nanoseconds since 1970.
    """
    lines: list[bytes] = []
    errors: dict[int, BaseException] = {}
    times, tags, dumps = batch.times, batch.tags, orjson.dumps
    heads: dict[str, bytes] = {}
    for origin, start, end in batch.runs():
        for index, record in enumerate(batch.records[start:end], start):
            stamp: Any = record.get("timestamp")
            time = _parsed(stamp) if stamp.__class__ is str else None
            if time is None:
                stamp, time = _time(record, times[index], origin.received)
            times[index] = time
            tag = tags[index]
            head = heads.get(tag) or heads.setdefault(tag, b'","tag":' + dumps(tag))
            if "@timestamp" in record or "tag" in record:
                record = batch.records[index] = _without_ours(record, tag)
            try:
                body = dumps(record)
            except TypeError:
                body = _carefully(record, index, errors)
            lines.append(b"".join((_START, stamp.encode(), head, _REST[len(body) > 2], body[1:])))
    return lines, errors


def _carefully(record: Record, index: int, errors: dict[int, BaseException]) -> bytes:
    try:
        return orjson.dumps(clean(record)[0])
    except Exception as error:  # a value that even cleaning leaves unserialisable is this event's own fault
        errors[index] = error
        return b"{}"


def _without_ours(record: Record, tag: str) -> Record:
    """The record without the two keys that the line begins with; a `tag` that says something else is kept."""
    rest = {key: value for key, value in record.items() if key not in ("@timestamp", "tag")}
    if record.get("tag", tag) != tag:
        rest.setdefault("original_tag", record["tag"])
    return rest


def _time(record: Record, time: int, received: int) -> tuple[str, int]:
    """The time of an event without a usable `timestamp`."""
    value = record.get("@timestamp")
    if isinstance(value, str) and (found := _parsed(value)) is not None:
        return value, found
    time = time or received
    return iso(time), time


def _parsed(value: str) -> int | None:
    """Nanoseconds of a time as `normalize` writes it (`2026-11-22T15:00:00.123456789Z`); None for other forms."""
    length = len(value)
    if not 20 <= length <= 30 or value[-1] != "Z":
        return None
    seconds = _second(value[:19])
    if seconds is None or length == 20:
        return seconds
    fraction = value[20:-1]
    if value[19] != "." or not (fraction.isascii() and fraction.isdigit()):
        return None
    return seconds + int(fraction) * _FRACTION[length - 21]


@functools.lru_cache(4096)
def _second(text: str) -> int | None:
    """Nanoseconds of a whole second: one after the other, so that the cache answers nearly all."""
    try:
        moment = datetime.strptime(text + "+0000", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
    return int(moment.timestamp()) * _SECOND


def iso(time: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, without zeros at the end of the fraction."""
    seconds, nanoseconds = divmod(time, _SECOND)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return _text(seconds) + fraction + "Z"


@functools.lru_cache(4096)
def _text(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00"
