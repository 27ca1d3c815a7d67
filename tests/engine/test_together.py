"""Answers of several spools or workers as one."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_ingest.engine.together import together, together_groups


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([3, 4], 7),
        ([1.5, None], 1.5),
        ([None, None], None),
        ([], None),
        ([True, False], False),
        (["up", "up"], "up"),
        (["tail 3 files", "tail 5 files"], "tail 3 files; tail 5 files"),
        ([["a"], ["b", "a"]], ["a", "b"]),
    ],
)
def test_by_its_shape(answers: list[Any], expected: Any) -> None:
    """Numbers are added, truths hold for all, texts stand side by side once each, what is missing is left out."""
    assert together(answers) == expected


def test_what_a_name_says() -> None:
    """Ages and uptimes are the greatest, a state is the worst, one that nobody knows is worse than all."""
    first = {"state": "up", "oldest_age_seconds": 3.0, "uptime_seconds": 9.0, "held": 2}
    second = {"state": "waiting", "oldest_age_seconds": 7.0, "uptime_seconds": 1.0, "held": 5, "why": "refused"}
    assert together([first, second]) == {
        "state": "waiting",
        "oldest_age_seconds": 7.0,
        "uptime_seconds": 9.0,
        "held": 7,
        "why": "refused",
    }
    assert together(["parked", "on fire", "up"], "state") == "on fire"


def test_rows_are_added_and_a_sum_is_closed_for_all() -> None:
    """Rows of the same words are one; a sum that is open at one worker is open, even where another makes up for it."""
    one = [{"sum": "way in: f", "left": 3, "right": 2, "closed": False}]
    two = [{"sum": "way in: f", "left": 2, "right": 3, "closed": False}, {"sum": "output: o", "left": 1, "right": 1}]
    assert together([one, two]) == [
        {"sum": "way in: f", "left": 5, "right": 5, "closed": False},
        {"sum": "output: o", "left": 1, "right": 1},
    ]


def test_events_of_why_are_never_added() -> None:
    """What was found of single events stands side by side, whatever their numbers."""
    held = {"held": [{"id": "a", "chunk": 1}], "searched": 4}
    assert together([held, {"held": [{"id": "a", "chunk": 9}], "searched": 5}]) == {
        "held": [{"id": "a", "chunk": 1}, {"id": "a", "chunk": 9}],
        "searched": 9,
    }


def test_answers_of_several_kinds() -> None:
    """A number and a text cannot be one answer, and which it was is said."""
    with pytest.raises(TypeError, match="left"):
        together([{"left": 1}, {"left": "one"}])


def test_groups_of_dead_letters() -> None:
    """A signature is one group, with the newest letter's reason; the largest comes first."""
    small = {"signature": "s", "letters": 1, "bytes": 10, "oldest": 5, "newest": 5, "reason": "line 5"}
    other = {"signature": "t", "letters": 3, "bytes": 30, "oldest": 1, "newest": 2, "reason": "other"}
    again = {"signature": "s", "letters": 4, "bytes": 40, "oldest": 2, "newest": 9, "reason": "line 9"}
    assert together_groups([[small, other], [again]]) == [
        {"signature": "s", "letters": 5, "bytes": 50, "oldest": 2, "newest": 9, "reason": "line 9"},
        other,
    ]
