"""The one repair of a refused event."""

from __future__ import annotations

import orjson
import pytest

from mcp_ingest.engine.repair import move_aside


@pytest.mark.parametrize(
    ("record", "field", "expected"),
    [
        ({"a": 1, "b": 2}, "a", {"b": 2, "conflict.a": "1"}),
        ({"a": "text"}, "a", {"conflict.a": "text"}),
        ({"a": {"b": [1, {"c": 2}]}, "d": 1}, "a.b", {"a": {}, "d": 1, "conflict.a.b": '[1,{"c":2}]'}),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", {"a": {"b": 2}, "conflict.a.b": "1"}),
        ({"a.b": {"c": 3}}, "a.b.c", {"a.b": {}, "conflict.a.b.c": "3"}),
        ({"a": "text"}, "a.b", {"conflict.a.b": "text"}),
    ],
)
def test_the_field_moves_to_conflict(record: object, field: str, expected: object) -> None:
    """The named field, flat or nested, moves aside as text; all else stays."""
    moved = move_aside(orjson.dumps(record), field)
    assert moved is not None
    assert orjson.loads(moved) == expected


def test_a_field_that_is_not_there_cannot_be_moved() -> None:
    """Without the field there is no repair, so the event becomes a dead letter."""
    assert move_aside(b'{"a":1}', "b.c") is None
