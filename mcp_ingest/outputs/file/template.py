"""Paths from a template such as `/var/log/archive/{tag}/{@timestamp:%Y-%m-%d}.ndjson.gz`, a batch at a time.

What an event says can never choose the folder: in a field's value `/` and control characters become `_`, dots at its
start too, and what is missing is `unknown`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mcp_ingest.event import Batch, Record

UNKNOWN, UNDATED = "unknown", "undated"
_HOUR = 3600 * 10**9
_DAY = 24 * _HOUR
#: An event whose time lies further from its receipt than this is undated: before, after.
_OLDEST, _NEWEST = 30 * _DAY, _DAY
_PLACEHOLDER = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]")
_FORMATS = frozenset("YmdHjyGVuUWaAbB%")
_LONGEST_VALUE = 100
_MOST_PATHS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Field(NamedTuple):
    name: str


class _Time(NamedTuple):
    format: str


def template_problem(template: str) -> str | None:
    """What is wrong with a template, None if nothing is."""
    if not template or template.endswith("/"):
        return "must be the path of a file"
    pieces = _parse(template)
    if any("{" in piece or "}" in piece for piece in pieces if isinstance(piece, str)):
        return "has a brace that belongs to no {field}"
    for piece in pieces:
        if isinstance(piece, _Field) and piece.name == "@timestamp":
            return "needs a format behind @timestamp, such as {@timestamp:%Y-%m-%d}"
        if isinstance(piece, _Time) and not set(re.findall(r"%(.?)", piece.format)) <= _FORMATS:
            return "takes the date and the hour of @timestamp only, such as {@timestamp:%Y-%m-%d}"
    return None


def folder(template: str) -> str:
    """The folder that all paths of this template lie under; "." for the current one."""
    return template.partition("{")[0].rpartition("/")[0] or ("/" if template.startswith("/") else ".")


def _parse(template: str) -> list[str | _Field | _Time]:
    pieces: list[str | _Field | _Time] = []
    end = 0
    for found in _PLACEHOLDER.finditer(template):
        pieces.append(template[end : found.start()])
        dated = found[1] == "@timestamp" and found[2] is not None
        pieces.append(_Time(found[2]) if dated else _Field(found[0][1:-1]))
        end = found.end()
    return [*pieces, template[end:]]


class Paths:
    """Gives each event of a batch its path; a path is made once for an hour and its fields' values."""

    def __init__(self, template: str) -> None:
        self._pieces = _parse(template)
        self._fields = [piece.name for piece in self._pieces if isinstance(piece, _Field)]
        self._dated = any(isinstance(piece, _Time) for piece in self._pieces)
        self._made: dict[tuple[int | None, tuple[str, ...]], str] = {}

    def address(self, batch: Batch) -> list[str]:
        """The path for each event, in order."""
        if len(self._made) > _MOST_PATHS:
            self._made.clear()
        hours = self._hours(batch) if self._dated else [None] * len(batch)
        columns = [_column(batch, field) for field in self._fields]
        values = list(zip(*columns, strict=True)) if columns else [()] * len(batch)
        return [
            self._made.get((hour, value)) or self._make(hour, value) for hour, value in zip(hours, values, strict=True)
        ]

    def _hours(self, batch: Batch) -> list[int | None]:
        hours: list[int | None] = []
        for origin, start, end in batch.runs():
            earliest, latest = max(origin.received - _OLDEST, 1), origin.received + _NEWEST
            hours += [time // _HOUR if earliest <= time <= latest else None for time in batch.times[start:end]]
        return hours

    def _make(self, hour: int | None, values: tuple[str, ...]) -> str:
        left = iter(values)
        parts = []
        for piece in self._pieces:
            if isinstance(piece, str):
                parts.append(piece)
            elif isinstance(piece, _Field):
                parts.append(_safe(next(left)))
            else:
                parts.append(UNDATED if hour is None else _formatted(hour, piece.format))
        path = self._made[hour, values] = "".join(parts)
        return path


def _formatted(hour: int, style: str) -> str:
    return (_EPOCH + timedelta(hours=hour)).strftime(style)


def _column(batch: Batch, field: str) -> list[str]:
    if field == "tag":
        return batch.tags
    return [_value(record, field) for record in batch.records]


def _value(record: Record, field: str) -> str:
    value: Any = record.get(field)
    if value is None and "." in field:
        value = record
        for key in field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else ""


def _safe(value: str) -> str:
    safe = _UNSAFE.sub("_", value.strip().encode("utf-8", "replace").decode())
    safe = re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), safe)
    return safe.encode()[:_LONGEST_VALUE].decode("utf-8", "ignore") or UNKNOWN
