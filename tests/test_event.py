"""Batches and ids."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.errors import StageError
from mcp_ingest.event import (
    Batch,
    Origin,
    Rejected,
    Term,
    describe,
    hashed_prefix,
    id_prefix,
    id_suffixes,
    new_uid,
    uid_prefix,
)


def _batch(counts: list[int]) -> Batch:
    """A batch with runs of these lengths; run n comes from input `n`."""
    total = sum(counts)
    origins = [Origin(str(number), chr(65 + number) * 20, 1) for number in range(len(counts))]
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    return Batch(["t"] * total, [0] * total, [{"n": n} for n in range(total)], list(range(total)), origins, ends)


@given(st.lists(st.integers(0, 2**48 - 1), max_size=20))
def test_suffixes_are_eight_characters_that_say_the_position(positions: list[int]) -> None:
    """The last 8 characters of an id are the position, big-endian in 6 bytes."""
    for position, suffix in zip(positions, id_suffixes(positions), strict=True):
        assert len(suffix) == 8
        assert int.from_bytes(base64.urlsafe_b64decode(suffix), "big") == position


def test_an_id_has_28_characters() -> None:
    """A prefix of 15 bytes makes 20 characters, in all three ways to make one."""
    uid = new_uid(1_763_823_600_000_000_000)
    for prefix in (id_prefix(bytes(15)), hashed_prefix(b"chunk", b"tag"), uid_prefix(uid, 2)):
        assert len(prefix) == 20
    batch = Batch.of(Origin("i", uid_prefix(uid), 1), "t", [0], [{}], [5])
    assert [len(event_id) for event_id in batch.ids()] == [28]
    with pytest.raises(ValueError, match="15 bytes"):
        id_prefix(b"short")


def test_hashed_prefixes_tell_parts_apart() -> None:
    """Where one part ends and the next begins makes a difference; the same parts make the same prefix."""
    assert hashed_prefix(b"ab", b"c") != hashed_prefix(b"a", b"bc")
    assert hashed_prefix(b"ab", b"c") == hashed_prefix(b"ab", b"c")


def test_uids_grow_with_time() -> None:
    """A later source's uid sorts behind an earlier one's."""
    assert new_uid(1_000_000_000_000_000) < new_uid(2_000_000_000_000_000)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5) | st.integers(1, 5).map(lambda runs: [1] * runs), st.data())
def test_keep_counts_what_it_takes_out(counts: list[int], data: st.DataObject) -> None:
    """After `keep` all columns agree, and what is gone is counted for the input it came from."""
    batch = _batch(counts)
    total = len(batch)
    mask = data.draw(st.lists(st.booleans(), min_size=total, max_size=total))
    expected_ids = [event_id for event_id, kept in zip(batch.ids(), mask, strict=True) if kept]
    batch.keep(mask, Term.FILTERED, "rule")
    assert batch.ids() == expected_ids
    assert {len(batch.tags), len(batch.times), len(batch.records)} == {len(expected_ids)}
    assert sum(batch.outcome.removed.values()) == total - len(expected_ids)
    for (name, term, reason), count in batch.outcome.removed.items():
        assert (term, reason) == (Term.FILTERED, "rule")
        assert 0 < count <= counts[int(name)]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=4))
def test_merge_keeps_order_and_origins(shapes: list[list[int]]) -> None:
    """Merged batches are their events in order, each with its own id."""
    batches = [_batch(shape) for shape in shapes]
    ids = [event_id for batch in batches for event_id in batch.ids()]
    assert Batch.merge(batches).ids() == ids


@given(st.lists(st.integers(0, 4), max_size=4), st.data())
def test_select_takes_the_events_as_they_are(counts: list[int], data: st.DataObject) -> None:
    """Selected events keep record and id."""
    batch = _batch(counts)
    indices = data.draw(st.lists(st.sampled_from(range(len(batch))), unique=True)) if len(batch) else []
    chosen = batch.select(indices)
    assert chosen.ids() == [batch.ids()[index] for index in indices]
    assert chosen.records == [batch.records[index] for index in indices]
    assert sum(chosen.counts().values()) == len(indices)


def test_fail_makes_dead_letters() -> None:
    """Failed events leave the batch with their reason and their origin."""
    batch = _batch([2, 1])
    batch.fail({2: StageError("no good")}, "parse_json")
    assert len(batch) == 2
    (rejected,) = batch.outcome.rejected
    assert (rejected.reason, rejected.stage, rejected.origin.input) == ("no good", "parse_json", "1")


def test_an_event_is_a_view() -> None:
    """What is set on an event is set in its batch."""
    batch = _batch([1])
    (event,) = batch
    event.record = {"x": 1}
    event.time = 7
    assert (batch.records, batch.times, event.tag, event.origin.input) == ([{"x": 1}], [7], "t", "0")


def test_errors_are_one_line() -> None:
    """Our own sentences stand as they are, others with their type."""
    assert describe(StageError("a\nb")) == "a b"
    assert describe(ValueError("a\nb")) == "ValueError: a b"


def test_runs_are_taken_out_with_what_was_rejected_of_them() -> None:
    """Equal origins are told apart, empty runs go along, and the bytes are divided by the events."""
    batch = _batch([2, 0, 3, 1])
    batch.origins = [Origin("in", "p", number) for number in (1, 2, 1, 3)]
    batch.size = 60
    for number in range(4):
        batch.reject(Rejected("t", 0, number, 9, batch.origins[number], "why"))
    records = batch.records
    taken = batch.take_runs({1, 2})
    assert (taken.ends, batch.ends) == ([0, 3], [2, 3])
    assert (taken.records, batch.records) == (records[2:5], records[:2] + records[5:])
    assert [len(column) for column in (taken.tags, taken.times, taken.positions)] == [3, 3, 3]
    assert [[each.record for each in part.outcome.rejected] for part in (taken, batch)] == [[1, 2], [0, 3]]
    assert (taken.size, batch.size) == (30, 30)
    assert len(batch.take_runs({0, 1})) == 3
    assert len(batch) == batch.size == 0
