"""Names of indices and data streams from a template such as `mcp-logs-{@timestamp:%Y.%m.%d}`, a batch at a time.

Elasticsearch's rules for a name ("Create index API", path parameters): lower case, none of `\\ / * ? " < > |`, space,
comma, `#`, `:`, not beginning with `-`, `_`, `+`, not `.` or `..`, at most 255 bytes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mcp_ingest.event import Batch, Record

UNKNOWN, UNDATED = "unknown", "undated"
_DAY = 86_400 * 10**9
#: An event whose time lies further from its receipt than this is undated: before, after.
_OLDEST, _NEWEST = 30 * _DAY, _DAY
_PLACEHOLDER = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")
_FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:\x00-\x1f\x7f]')
_SPANS = {"H": _DAY // 24, "I": _DAY // 24, "p": _DAY // 24}
_DATES = frozenset("YmdjyGVuUWaAbBw%")
_LONGEST_NAME, _LONGEST_VALUE = 255, 100
_MOST_NAMES = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Field(NamedTuple):
    name: str


class _Time(NamedTuple):
    format: str


_Piece = str | _Field | _Time


def template_problem(template: str) -> str | None:
    """What is wrong with a template, None if nothing is."""
    pieces = _parse(template)
    if not pieces or not isinstance(pieces[0], str):
        return "must begin with letters of its own, not with a field"
    literal = "".join(piece for piece in pieces if isinstance(piece, str))
    if "{" in literal or "}" in literal:
        return "has a brace that belongs to no {field}"
    if literal[0] in "-_+." or literal != literal.lower() or _FORBIDDEN.search(literal):
        return 'must be lower case, without any of \\ / * ? " < > | , # : or space, and not begin with - _ + .'
    for piece in pieces:
        if isinstance(piece, _Time) and not set(re.findall(r"%(.)", piece.format)) <= _DATES | _SPANS.keys():
            return "takes the date and the hour of @timestamp only, such as {@timestamp:%Y.%m.%d}"
        if isinstance(piece, _Field) and piece.name == "@timestamp":
            return "needs a format behind @timestamp, such as {@timestamp:%Y.%m.%d}"
    return None


def index_pattern(template: str) -> str:
    """The pattern that all names of this template fit: `mcp-logs-*`."""
    return re.sub(r"\*+", "*", _PLACEHOLDER.sub("*", template))


def _parse(template: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    end = 0
    for found in _PLACEHOLDER.finditer(template):
        pieces += [template[end : found.start()]] if found.start() > end else []
        dated = found[1] == "@timestamp" and found[2] is not None
        pieces.append(_Time(found[2]) if dated else _Field(found[0][1:-1]))
        end = found.end()
    return [*pieces, template[end:]] if end < len(template) else pieces


class Addresser:
    """Gives each event of a batch its name; a name is made once for a day (or hour) and its fields' values."""

    def __init__(self, template: str) -> None:
        self._pieces = _parse(template)
        self._fields = [piece.name for piece in self._pieces if isinstance(piece, _Field)]
        formats = "".join(piece.format for piece in self._pieces if isinstance(piece, _Time))
        self._dated = bool(formats)
        hours = not set(re.findall(r"%(.)", formats)).isdisjoint(_SPANS)
        self._span = _DAY // 24 if hours else _DAY
        self._names: dict[tuple[int | None, tuple[str, ...]], str] = {}

    def address(self, batch: Batch) -> list[str]:
        """The name for each event, in order."""
        if len(self._names) > _MOST_NAMES:
            self._names.clear()
        if not self._fields:
            return self._by_time(batch) if self._dated else [self._name(None, ())] * len(batch)
        columns = [_column(batch, field) for field in self._fields]
        values = list(zip(*columns, strict=True))
        spans = self._spans(batch) if self._dated else [None] * len(batch)
        return [self._name(span, value) for span, value in zip(spans, values, strict=True)]

    def _by_time(self, batch: Batch) -> list[str]:
        names: list[str] = []
        for origin, start, end in batch.runs():
            times = batch.times[start:end] if len(batch.origins) > 1 else batch.times
            if not times:
                continue
            first, last = min(times), max(times)
            near = origin.received - _OLDEST <= first and last <= origin.received + _NEWEST
            if near and first > 0 and first // self._span == last // self._span:
                names += [self._name(first // self._span, ())] * len(times)
            else:
                names += [self._name(span, ()) for span in _spans(times, origin.received, self._span)]
        return names

    def _spans(self, batch: Batch) -> list[int | None]:
        spans: list[int | None] = []
        for origin, start, end in batch.runs():
            spans += _spans(batch.times[start:end], origin.received, self._span)
        return spans

    def _name(self, span: int | None, values: tuple[str, ...]) -> str:
        name = self._names.get((span, values))
        if name is None:
            name = self._names[span, values] = self._made(span, values)
        return name

    def _made(self, span: int | None, values: tuple[str, ...]) -> str:
        left = iter(values)
        parts = []
        for piece in self._pieces:
            if isinstance(piece, str):
                parts.append(piece)
            elif isinstance(piece, _Field):
                parts.append(_safe_value(next(left)))
            elif span is None:
                parts.append(UNDATED)
            else:
                when = _EPOCH + timedelta(microseconds=span * self._span // 1000)
                parts.append(_FORBIDDEN.sub("_", when.strftime(piece.format)).lower())
        return _cut("".join(parts), _LONGEST_NAME)


def _spans(times: list[int], received: int, span: int) -> list[int | None]:
    earliest, latest = max(received - _OLDEST, 1), received + _NEWEST
    return [time // span if earliest <= time <= latest else None for time in times]


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


def _safe_value(value: str) -> str:
    safe = _FORBIDDEN.sub("_", value.strip().lower()).encode("utf-8", "replace").decode()
    return _cut(_FORBIDDEN.sub("_", safe), _LONGEST_VALUE) or UNKNOWN


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")
