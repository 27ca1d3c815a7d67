"""Where events go by a template such as `mcp-logs-{@timestamp:%Y.%m.%d}` or `{tag}/{service_name}.ndjson`.

An event whose time lies more than 30 days before its receipt or more than a day after it, or is missing, is
`undated`; a field that is missing or no text or number is what the output makes of an empty value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from mcp_ingest.codecs.columns import Stamps
from mcp_ingest.event import Batch, Record

UNKNOWN, UNDATED = "unknown", "undated"
HOUR = 3600 * 10**9
DAY = 24 * HOUR
PLACEHOLDER = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")
_OLDEST, _NEWEST = 30 * DAY, DAY
_HOURS, _DATES = frozenset("HIp"), frozenset("YmdjyGVuUWaAbBw%")
_MOST_NAMES = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Field(NamedTuple):
    """A piece that is a field's value; `tag` is the event's."""

    name: str


class Time(NamedTuple):
    """A piece that is the event's time, by strftime's format."""

    format: str


Piece = str | Field | Time


def parse(template: str) -> list[Piece]:
    """The template's pieces; literal ones are not empty."""
    pieces: list[Piece] = []
    end = 0
    for found in PLACEHOLDER.finditer(template):
        pieces.append(template[end : found.start()])
        dated = found[1] == "@timestamp" and found[2] is not None
        pieces.append(Time(found[2]) if dated else Field(found[0][1:-1]))
        end = found.end()
    return [piece for piece in (*pieces, template[end:]) if piece]


def problem(pieces: list[Piece]) -> str | None:
    """What is wrong with the placeholders, None if nothing is."""
    if any("{" in piece or "}" in piece for piece in pieces if isinstance(piece, str)):
        return "has a brace that belongs to no {field}"
    for piece in pieces:
        if isinstance(piece, Field) and piece.name == "@timestamp":
            return "needs a format behind @timestamp, such as {@timestamp:%Y.%m.%d}"
        if isinstance(piece, Time) and not set(re.findall(r"%(.?)", piece.format)) <= _DATES | _HOURS:
            return "takes the date and the hour of @timestamp only, such as {@timestamp:%Y.%m.%d}"
    return None


def in_time(times: list[int], received: int, span: int) -> list[int | None]:
    """Each time in spans (nanoseconds) since 1970; None for an undated one. `received` is the events' receipt."""
    earliest, latest = max(received - _OLDEST, 1), received + _NEWEST
    return [time // span if earliest <= time <= latest else None for time in times]


class Template:
    """Gives each event of a batch its place; a place is made once for a day (or hour) and its fields' values.

    `value` makes a field's value safe ("" where there is none), `dated` what strftime gave, `whole` the result.
    """

    def __init__(
        self,
        template: str,
        value: Callable[[str], str],
        dated: Callable[[str], str] = str,
        whole: Callable[[str], str] = str,
    ) -> None:
        self._pieces = parse(template)
        self._value, self._safe_date, self._whole = value, dated, whole
        self._fields = [piece.name for piece in self._pieces if isinstance(piece, Field)]
        formats = "".join(piece.format for piece in self._pieces if isinstance(piece, Time))
        self._dated = bool(formats)
        self._span = DAY if _HOURS.isdisjoint(re.findall(r"%(.)", formats)) else HOUR
        self._names: dict[tuple[int | None, tuple[str, ...]], str] = {}

    def address(self, batch: Batch) -> list[str]:
        """The place of each event, in order."""
        if len(self._names) > _MOST_NAMES:
            self._names.clear()
        if not self._fields:
            return self._by_time(batch) if self._dated else [self._name(None, ())] * len(batch)
        values = list(zip(*[_column(batch, field) for field in self._fields], strict=True))
        spans: list[int | None] = [None] * len(batch)
        if self._dated:
            runs = batch.runs()
            spans = [span for o, a, b in runs for span in in_time(batch.times[a:b], o.received, self._span)]
        return [self._name(span, value) for span, value in zip(spans, values, strict=True)]

    def _by_time(self, batch: Batch) -> list[str]:
        """One look at the earliest and the latest is enough where all lie within one span."""
        times = batch.times
        if not times:
            return []
        ends = times.span() if isinstance(times, Stamps) else (min(times), max(times))
        receipts = set(map(attrgetter("received"), batch.origins))
        spans = {span for received in (min(receipts), max(receipts)) for span in in_time([*ends], received, self._span)}
        if len(spans) == 1 and None not in spans:
            return [self._name(spans.pop(), ())] * len(times)
        runs = batch.runs()
        return [self._name(span, ()) for o, a, b in runs for span in in_time(times[a:b], o.received, self._span)]

    def _name(self, span: int | None, values: tuple[str, ...]) -> str:
        name = self._names.get((span, values))
        if name is None:
            name = self._names[span, values] = self._make(span, values)
        return name

    def _make(self, span: int | None, values: tuple[str, ...]) -> str:
        left = iter(values)
        parts = []
        for piece in self._pieces:
            if isinstance(piece, str):
                parts.append(piece)
            elif isinstance(piece, Field):
                parts.append(self._value(next(left)))
            elif span is None:
                parts.append(UNDATED)
            else:
                when = _EPOCH + timedelta(microseconds=span * self._span // 1000)
                parts.append(self._safe_date(when.strftime(piece.format)))
        return self._whole("".join(parts))


def cut(text: str, size: int) -> str:
    """At most so many bytes of UTF-8."""
    return text.encode()[:size].decode("utf-8", "ignore")


def _column(batch: Batch, field: str) -> list[str]:
    if field == "tag":
        return batch.tags
    return [_text(record, field) for record in batch.records]


def _text(record: Record, field: str) -> str:
    value: Any = record.get(field)
    if value is None and "." in field:
        value = record
        for key in field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else ""
