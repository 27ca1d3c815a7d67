"""The one serialisation."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.bulk import entry_ids, entry_lines
from mcp_ingest.engine.lines import finish, iso
from mcp_ingest.event import Batch, Origin
from tests.engine.parts import Unspeakable

RECEIVED = 1_763_823_600_000_000_000  # 2025-11-22T15:00:00Z


def _batch(*records: dict[Any, Any], time: int = 0, tag: str = "mcp.a") -> Batch:
    count = len(records)
    return Batch.of(Origin("i", "A" * 20, RECEIVED), tag, [time] * count, list(records), list(range(count)))


def _lines(batch: Batch) -> list[bytes]:
    entries = finish(batch).joined()
    assert not batch.outcome.rejected
    assert entry_ids(entries) == batch.ids()
    return entry_lines(entries)


def _only(record: dict[Any, Any], time: int = 0) -> tuple[dict[str, Any], int]:
    batch = _batch(record, time=time)
    return orjson.loads(_lines(batch)[0]), batch.times[0]


def test_time_and_tag_come_first() -> None:
    """`@timestamp` and `tag` are the first keys, the rest follows in its order."""
    lines = _lines(_batch({"b": 1, "a": 2}, time=RECEIVED))
    assert lines[0] == b'{"@timestamp":"2025-11-22T15:00:00Z","tag":"mcp.a","b":1,"a":2}'


def test_an_empty_record_is_a_line_too() -> None:
    """An event without fields has its time and tag."""
    assert orjson.loads(_lines(_batch({}))[0]) == {"@timestamp": "2025-11-22T15:00:00Z", "tag": "mcp.a"}


@pytest.mark.parametrize(
    ("record", "time", "expected"),
    [
        ({"timestamp": "2026-01-02T03:04:05.123456789Z"}, 1, "2026-01-02T03:04:05.123456789Z"),
        ({"timestamp": "2026-01-02T03:04:05Z", "@timestamp": "2020-01-01T00:00:00Z"}, 1, "2026-01-02T03:04:05Z"),
        ({"timestamp": "yesterday", "@timestamp": "2020-01-01T00:00:00Z"}, 1, "2020-01-01T00:00:00Z"),
        ({"timestamp": 17}, 1_500_000_000_000_000_001, "2017-07-14T02:40:00.000000001Z"),
        ({"timestamp": "2026-13-45T99:99:99Z"}, 0, "2025-11-22T15:00:00Z"),
        ({}, 0, "2025-11-22T15:00:00Z"),
    ],
)
def test_whose_time_it_is(record: dict[str, Any], time: int, expected: str) -> None:
    """A usable `timestamp`, else `@timestamp`, else the protocol's time, else the time of receipt."""
    line, settled = _only(record, time)
    assert line["@timestamp"] == expected
    assert iso(settled) == expected
    if "timestamp" in record:
        assert line["timestamp"] == record["timestamp"]


def test_a_tag_field_of_its_own_is_kept() -> None:
    """A record's own `tag` that says something else stays under `original_tag`."""
    line, _ = _only({"tag": "mine"})
    assert (line["tag"], line["original_tag"]) == ("mcp.a", "mine")


def test_what_json_cannot_hold_is_made_to_fit() -> None:
    """Bytes, odd keys and integers beyond 64 bits take the careful way; the neighbours do not notice."""
    lines = _lines(_batch({"a": b"\xff", 7: 2**70}, {"b": 1}))
    assert orjson.loads(lines[0])["7"] == str(2**70)
    assert orjson.loads(lines[1])["b"] == 1


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_iso_keeps_every_nanosecond(time: int) -> None:
    """A time written as ISO 8601 and read as an event's own time is the same."""
    _, settled = _only({"timestamp": iso(time)})
    assert settled == time


_STAMPS = st.sampled_from(
    [
        "2026-01-02T03:04:05.123456789Z",
        "2026-01-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T24:00:00Z",
        "",
        "x",
        7,
    ]
)
_RECORDS = st.fixed_dictionaries(
    {},
    optional={"timestamp": _STAMPS, "@timestamp": _STAMPS, "tag": st.just("mine"), "a": st.just(2**70), "m": st.text()},
)


@given(st.lists(_RECORDS, max_size=12))
def test_a_batch_becomes_what_each_event_alone_becomes(records: list[dict[str, Any]]) -> None:
    """What is done for the whole batch at once leaves every event as it would be alone."""
    whole = _batch(*[dict(record) for record in records])
    alone = [_only(dict(record)) for record in records]
    assert [orjson.loads(line) for line in _lines(whole)] == [line for line, _ in alone]
    assert [*whole.times] == [time for _, time in alone]


def test_what_was_serialised_is_not_serialised_again() -> None:
    """The JSON that a stage left in the batch is the line's; where it is empty, the record is serialised."""
    batch = _batch({"a": 1}, {"a": 2})
    batch.serialised = [b'{"a":"kept"}', b""]
    assert [orjson.loads(line)["a"] for line in _lines(batch)] == ["kept", 2]


def test_an_event_that_no_json_can_hold_is_a_dead_letter() -> None:
    """A value that has no text either: that event alone leaves the batch, its neighbours are lines."""
    batch = _batch({"n": 1}, {"n": Unspeakable()}, {"n": 3})
    lines = entry_lines(finish(batch).joined())
    assert [orjson.loads(line)["n"] for line in lines] == [1, 3]
    assert [rejected.stage for rejected in batch.outcome.rejected] == ["serialise"]
    assert len(batch) == len(batch.times) == 2
