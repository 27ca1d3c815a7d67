"""Trace and span are found wherever services put them, and nothing else is taken for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages._apply import batch, one, stage

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SHORT = "80f198ee56343ba8"
W3C = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "record",
    [
        {"traceparent": W3C},
        {"TRACEPARENT": W3C.upper()},
        {"http_traceparent": W3C},
        {"HTTP_TRACEPARENT": [W3C]},
        {"headers": {"Traceparent": W3C}},
        {"http_headers": {"traceparent": [W3C]}},
        {"http": {"request": {"headers": {"traceparent": W3C}}}},
        {"http.request.headers": {"traceparent": W3C}},
        {"metadata": {"traceparent": W3C}},
        {"metadata": {"headers": {"traceparent": W3C}}},
        {"traceparent": f"cc-{TRACE}-{SPAN}-01-what-comes"},
        {"b3": f"{TRACE}-{SPAN}"},
        {"b3": f"{TRACE}-{SPAN}-d-05e3ac9a4f6e3b90"},
        {"X-B3-TraceId": TRACE, "X-B3-SpanId": SPAN},
        {"x_b3_traceid": TRACE.upper(), "x_b3_spanid": SPAN},
        {"traceId": TRACE, "spanId": SPAN},
        {"trace.id": TRACE, "span.id": SPAN},
        {"trace": {"id": TRACE}, "span": {"id": SPAN}},
        {"otelTraceID": TRACE, "otelSpanID": SPAN},
        {"otel": {"trace_id": TRACE, "span_id": SPAN}},
        {"trace_id": TRACE.upper(), "span_id": SPAN.upper()},
        {"trace_id": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736", "span_id": SPAN},
        {"trace_id": "", "span_id": None, "traceparent": W3C},
        {"trace_id": "0" * 32, "traceparent": W3C},
        {"dd.trace_id": TRACE, "dd.span_id": str(int(SPAN, 16))},
    ],
)
def test_ids_are_found(record: dict[str, Any]) -> None:
    """Every place and form that the docstring names leads to the same two ids, and the sources stay."""
    got = one("correlate_trace", dict(record))
    assert (got["trace_id"], got["span_id"]) == (TRACE, SPAN)
    assert set(record) <= set(got)


@pytest.mark.parametrize(
    "record",
    [
        {"b3": f"{SHORT}-{SPAN}-1"},
        {"x-b3-traceid": SHORT, "x-b3-spanid": SPAN},
        {"trace_id": SHORT, "span_id": SPAN},
        {"dd": {"trace_id": str(int(SHORT, 16)), "span_id": int(SPAN, 16)}},
    ],
)
def test_64_bit_traces_are_padded(record: dict[str, Any]) -> None:
    """A trace id of 16 digits gets zeros on the left; Datadog's is decimal."""
    got = one("correlate_trace", record)
    assert (got["trace_id"], got["span_id"]) == ("0" * 16 + SHORT, SPAN)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"traceparent": "00-" + "0" * 32 + f"-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-" + "0" * 16 + "-01"},
        {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
        {"traceparent": f"zz-{TRACE}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}-{SPAN}-01-more"},
        {"traceparent": f"00-{TRACE[1:]}-{SPAN}-01"},
        {"traceparent": f"00-{TRACE}"},
        {"traceparent": {"a": 1}},
        {"traceparent": []},
        {"b3": "0"},
        {"b3": ""},
        {"traceId": 12},
        {"traceId": "x" * 32},
        {"traceId": "٣" * 32},
        {"traceId": "a" * 500},
        {"trace_id": "order-17"},
        {"trace_id": [17], "span_id": {"a": 1}},
        {"trace_id": "\ud800" * 32, "span_id": SPAN[:-1]},
        {"headers": "traceparent"},
    ],
)
def test_what_is_no_id_is_left(record: dict[str, Any]) -> None:
    """Invalid ids are neither taken nor an error."""
    assert one("correlate_trace", dict(record)) == record


def test_a_foreign_id_that_gives_way_is_kept() -> None:
    """An id of another kind moves to `metadata` when a valid one takes its place."""
    got = one("correlate_trace", {"trace_id": "order-17", "traceparent": W3C})
    assert got["trace_id"] == TRACE
    assert got["metadata"] == {"trace_id_original": "order-17"}


def test_the_span_of_another_trace_is_not_taken() -> None:
    """A header of another trace than the record's says nothing of its span."""
    assert "span_id" not in one("correlate_trace", {"trace_id": "a" * 32, "traceparent": W3C})
    assert one("correlate_trace", {"trace_id": TRACE, "traceparent": W3C})["span_id"] == SPAN


def test_good_records_are_left_alone() -> None:
    """A record with both ids comes out as the same object, unchanged."""
    record = {"trace_id": TRACE, "span_id": SPAN, "traceparent": f"00-{'a' * 32}-{SPAN}-01"}
    result = stage("correlate_trace").apply(batch([record]))
    assert result.records[0] is record
    assert record["trace_id"] == TRACE


FIELDS = st.sampled_from(["trace_id", "span_id", "traceparent", "b3", "headers", "trace", "metadata"])
LEAVES = st.none() | st.integers() | st.text(max_size=40) | st.floats()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@given(st.dictionaries(FIELDS, VALUES))
def test_no_record_is_too_strange(record: dict[str, Any]) -> None:
    """Whatever stands in those fields, the event goes on."""
    assert len(stage("correlate_trace").apply(batch([record]))) == 1
