"""What is sent is what the docstrings say, and the same at every run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec
import orjson
import pytest

from perf.records import access_lines, json_lines, multi_line, records

COUNT = 5_000


def test_records_are_of_the_promised_size() -> None:
    """13 fields, 330 to 500 bytes as MessagePack, 430 on average."""
    made = list(records(COUNT))
    sizes = [len(msgspec.msgpack.encode(record)) for record in made]
    assert {len(record) for record in made} == {13}
    assert min(sizes) >= 330
    assert max(sizes) <= 500
    assert sum(sizes) / COUNT == pytest.approx(430, abs=8)


def test_a_tenth_is_debug() -> None:
    """10 % are DEBUG."""
    levels = Counter(record["log_level"] for record in records(COUNT))
    assert levels["DEBUG"] / COUNT == pytest.approx(0.10, abs=0.015)


def test_a_few_hold_a_secret() -> None:
    """1 % each hold an e-mail address, a card number, a bearer token, a password."""
    messages = [record["message"] for record in records(4 * COUNT)]
    for pattern in (r"@example\.com", r"card [\d -]{15,19} accepted", r"Bearer ", r"password="):
        found = sum(bool(re.search(pattern, message)) for message in messages)
        assert found / len(messages) == pytest.approx(0.01, abs=0.004), pattern


def test_about_twenty_templates() -> None:
    """Messages are of 24 kinds."""
    kinds = {re.sub(r"[0-9a-f]*\d[0-9a-f]*", "#", record["message"])[:12] for record in records(COUNT)}
    assert len(kinds) >= 24


@pytest.mark.parametrize("make", [records, json_lines, access_lines, multi_line])
def test_seeded(make: Callable[[int, int], Iterator[object]]) -> None:
    """The same seed makes the same, another seed something else."""
    assert list(make(100, 7)) == list(make(100, 7)) != list(make(100, 8))


def test_timestamps_go_on_from_where_it_began() -> None:
    """A thousand records a second by their own timestamps, which may begin anywhere."""
    stamps = [record["timestamp"] for record in islice(records(2_000, 1, 0), 999, 1_001)]
    assert stamps == ["1970-01-01T00:00:00.999Z", "1970-01-01T00:00:01.000Z"]


def test_json_lines_are_the_records() -> None:
    """A line for each record."""
    assert [orjson.loads(line) for line in json_lines(50, 3)] == list(records(50, 3))


def test_access_lines_are_in_the_combined_format() -> None:
    """Each fits the combined log format, in one line of 120 to 240 bytes."""
    combined = re.compile(rb'\S+ - \S+ \[[^]]{26}\] "(?:GET|POST) \S+ HTTP/1\.1" \d{3} \d+ "[^"]+" "[^"]+"')
    for line in access_lines(COUNT):
        assert combined.fullmatch(line), line
        assert 120 <= len(line) <= 240


def test_stack_traces_follow_their_line() -> None:
    """Every fourth event has more lines, and only an event's first begins with a date."""
    events = list(multi_line(COUNT))
    assert sum(b"\nTraceback" in event for event in events) / COUNT == pytest.approx(0.25, abs=0.03)
    assert max(event.count(b"\n") + 1 for event in events) == 19
    date = re.compile(rb"^\d{4}-\d\d-\d\d ", re.M)
    assert all(len(date.findall(event)) == 1 for event in events)
