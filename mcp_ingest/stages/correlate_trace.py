"""Finds the trace that an event belongs to, as `trace_id` (32 lower-case hex digits) and `span_id` (16).

Looked at, the first that is valid wins: `trace_id` and `span_id` themselves (upper case, dashes and 16 digits are
put right), other names for them (`traceId`, `trace.id`, `otelTraceID`, Datadog's decimal `dd.trace_id`), W3C
`traceparent`, B3 as one header (`b3`) or several (`x-b3-traceid`, `x-b3-spanid`); each at the root, in `metadata`,
and in maps of headers (`headers`, `http_headers`, `http.request.headers` …). Case, `_` for `-` and a prefix `http_`
do not matter. 64-bit trace ids are padded with zeros on the left, as B3 says.
What is not valid (all zeros, a wrong length) is left as it is, and is no error; if a valid one takes its place, it
is kept in `metadata`. The fields that ids were found in stay.
Sources: W3C Trace Context level 1; openzipkin/b3-propagation.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

from mcp_ingest.component import Example, Stage, StageSettings, on_error
from mcp_ingest.context import Context
from mcp_ingest.event import Batch, Record
from mcp_ingest.stages._record import Shapes, metadata_of, set_aside

_HEX = b"0123456789abcdef"
_ZEROS = "0" * 32
_TRACE, _SPAN = itemgetter("trace_id"), itemgetter("span_id")
_MANY = 8  # records, from which on looking at columns is cheaper

_TRACE_NAMES = ("trace-id", "traceid", "trace.id", "oteltraceid", "otel-trace-id", "dd.trace-id", "dd-trace-id")
_SPAN_NAMES = ("span-id", "spanid", "span.id", "otelspanid", "otel-span-id", "dd.span-id", "dd-span-id")
_HEADERS = ("traceparent", "b3", "x-b3-traceid", "x-b3-spanid")
_CONTAINERS = frozenset(("trace", "span", "otel", "dd", "http", "request"))
_NAMES = frozenset((*_TRACE_NAMES, *_SPAN_NAMES, *_HEADERS))


class Ids(NamedTuple):
    """A trace and a span in it; empty where unknown."""

    trace: str
    span: str


class CorrelateTraceConfig(StageSettings):
    """Settings of `correlate_trace`: there is nothing to set."""


class CorrelateTrace(Stage):
    """See the module."""

    Config = CorrelateTraceConfig
    keeps_serialised = True
    EXAMPLES = (
        Example(
            "W3C",
            {},
            given={"headers": {"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
            expected={
                "headers": {"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "span_id": "00f067aa0ba902b7",
            },
        ),
        Example(
            "B3, 64 bits",
            {},
            given={"b3": "80f198ee56343ba8-e457b5a2e4d86bd1-1"},
            expected={
                "b3": "80f198ee56343ba8-e457b5a2e4d86bd1-1",
                "trace_id": "000000000000000080f198ee56343ba8",
                "span_id": "e457b5a2e4d86bd1",
            },
        ),
        Example(
            "Other names, and what is no trace",
            {},
            given=[{"traceId": "4BF92F3577B34DA6A3CE929D0E0E4736"}, {"traceId": "00000000000000000000000000000000"}],
            expected=[
                {"traceId": "4BF92F3577B34DA6A3CE929D0E0E4736", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"},
                {"traceId": "00000000000000000000000000000000"},
            ],
        ),
    )

    def __init__(self, config: CorrelateTraceConfig, context: Context) -> None:
        super().__init__(config, context)
        self._shapes = Shapes(_judge)

    def apply(self, batch: Batch) -> Batch:
        """Leave records alone that have both ids, or nothing to find them in; search the others."""
        if len(batch) >= _MANY and _all_there(batch.records):
            return batch
        errors: dict[int, BaseException] = {}
        shapes = self._shapes
        for index, record in enumerate(batch.records):
            if _are_there(record):
                continue
            try:
                metadata = record.get("metadata")
                if shapes[tuple(record)] or (metadata.__class__ is dict and shapes[tuple(metadata)]):
                    if batch.serialised is not None:
                        batch.serialised[index] = b""
                    _correlate(record)
            except Exception as error:  # whatever the event brought it to, its neighbours go on
                errors[index] = error
        return on_error(self, batch, errors)


def _all_there(records: list[Record]) -> bool:
    """Whether all have both ids, by columns: half of what a look at each costs. No means that one may not."""
    try:
        for column, zeros in ((_TRACE, _ZEROS), (_SPAN, _ZEROS[:16])):
            ids = list(map(column, records))
            text = "".join(ids)
            if set(map(len, ids)) != {len(zeros)} or text.encode().translate(None, _HEX) or zeros in text:
                return False
    except (KeyError, TypeError, UnicodeError):  # one is missing, or no text
        return False
    return True


def _are_there(record: Record) -> bool:
    try:
        trace, span = record["trace_id"], record["span_id"]
        return (
            len(trace) == 32
            and len(span) == 16
            and not (trace + span).encode().translate(None, _HEX)
            and trace != _ZEROS
            and span != _ZEROS[:16]
        )
    except (KeyError, TypeError, AttributeError, UnicodeError):
        return False  # one is missing, or no text


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("http-") if len(name) < 40 else ""


def _judge(shape: tuple[str, ...]) -> bool:
    """Whether a map with these keys can hold ids that are not where they should be."""
    return any((name := _canonical(key)) in _NAMES or _holds_ids(name) for key in shape)


def _holds_ids(name: str) -> bool:
    return name in _CONTAINERS or name.endswith("headers")


def _correlate(record: Record) -> None:
    found = _candidates(record)
    if not found:
        return
    named = Ids(_first(found, _TRACE_NAMES, _trace_id), _first(found, _SPAN_NAMES, _span_id))
    header = _of_headers(found)
    trace = named.trace or header.trace
    span = named.span or (header.span if header.trace == trace else "")
    _assign(record, "trace_id", trace, _trace_id)
    _assign(record, "span_id", span, _span_id)


def _assign(record: Record, field: str, found: str, read: Callable[[object], str]) -> None:
    before = record.get(field)
    if not found or before == found:
        return
    if before and not read(before):
        set_aside(metadata_of(record), f"{field}_original", before)
    record[field] = found


def _candidates(record: Record) -> dict[str, Any]:
    """Values that may hold ids, by canonical name: those at the root come before those in maps."""
    found: dict[str, Any] = {}
    maps: list[tuple[str, dict[str, Any]]] = [("", record)]
    for prefix, mapping in maps:  # grows while it is walked
        for key, value in mapping.items():
            name = _canonical(key)
            if isinstance(value, dict):
                if len(maps) < 16 and (_holds_ids(name) or name == "metadata"):
                    maps.append((name + "." if name in ("trace", "span", "dd") else "", value))
            elif prefix + name in _NAMES or name in _NAMES:
                found.setdefault(prefix + name if prefix + name in _NAMES else name, value)
    return found


def _first(found: dict[str, Any], names: tuple[str, ...], read: Any) -> str:
    for name in names:
        if name in found and (value := read(found[name], decimal=name.startswith("dd"))):
            return str(value)
    return ""


def _of_headers(found: dict[str, Any]) -> Ids:
    for ids in (_traceparent(found.get("traceparent")), _b3(found.get("b3"))):
        if ids.trace:
            return ids
    return Ids(_trace_id(found.get("x-b3-traceid")), _span_id(found.get("x-b3-spanid")))


def _traceparent(value: object) -> Ids:
    """`00-TRACE-SPAN-FLAGS`; a later version may have more behind, `ff` is none."""
    parts = _text(value).strip().lower().split("-")
    version = parts[0]
    if (
        len(parts) < 4
        or version.strip("0123456789abcdef")
        or len(version) != 2
        or version == "ff"
        or (version == "00" and len(parts) != 4)
    ):
        return Ids("", "")
    ids = Ids(_digits(parts[1], 32), _digits(parts[2], 16))
    return ids if ids.trace and ids.span else Ids("", "")


def _b3(value: object) -> Ids:
    """`TRACE-SPAN[-SAMPLED[-PARENT]]`; a sampling state alone (`0`) names no trace."""
    parts = _text(value).strip().split("-")
    return Ids(_trace_id(parts[0]), _span_id(parts[1])) if len(parts) >= 2 else Ids("", "")


def _trace_id(value: object, decimal: bool = False) -> str:
    text = _text(value).strip().lower().replace("-", "")
    if decimal and text.isascii() and text.isdigit() and len(text) < 32:
        return _digits(f"{int(text):032x}"[-32:], 32)
    return _digits(text.rjust(32, "0") if len(text) == 16 else text, 32)


def _span_id(value: object, decimal: bool = False) -> str:
    text = _text(value).strip().lower()
    if decimal and text.isascii() and text.isdigit():
        return _digits(f"{int(text[:20]):016x}", 16)
    return _digits(text, 16)


def _digits(text: str, length: int) -> str:
    """The text if it is that many hex digits and not all zeros, else nothing."""
    raw = text.encode("utf-8", "replace")
    return text if len(text) == length and not raw.translate(None, _HEX) and raw.strip(b"0") else ""


def _text(value: object) -> str:
    """A header's value; of a list (Go's and Node's headers) the first; numbers are Datadog's."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return ""
    text = str(value)
    return text if len(text) <= 128 else ""
