"""Keeping aside loses nothing and costs little, and what is learnt of shapes is bounded."""

from __future__ import annotations

import time
from typing import Any

from mcp_ingest.stages._record import Shapes, metadata_of, set_aside, warn


def test_what_is_kept_aside_takes_a_free_name() -> None:
    """A name that is taken by something else gets a number; the same thing is kept once."""
    metadata: dict[str, Any] = {"a": 1}
    for value in (1, 2, 3, 2):
        set_aside(metadata, "a", value)
    assert metadata == {"a": 1, "a_2": 2, "a_3": 3}


def test_a_thousand_of_one_name_are_quick() -> None:
    """An event with thousands of nameless fields holds nobody up."""
    metadata: dict[str, Any] = {}
    start = time.perf_counter()
    for number in range(20_000):
        set_aside(metadata, "unnamed", number)
    assert len(metadata) == 20_000
    assert time.perf_counter() - start < 2


def test_metadata_that_is_no_map_becomes_one() -> None:
    """What it was is its `value`."""
    record: dict[str, Any] = {"metadata": "text"}
    assert metadata_of(record) is record["metadata"]
    assert record == {"metadata": {"value": "text"}}


def test_a_warning_is_noted_once() -> None:
    """Applying a stage again does not repeat its warnings; a foreign value in the field stays."""
    record: dict[str, Any] = {"pipeline_warnings": "mine"}
    warn(record, "a")
    warn(record, "a")
    assert record == {"pipeline_warnings": ["mine", "a"]}


def test_shapes_are_judged_once_and_forgotten_in_time() -> None:
    """A shape is judged at its first record; however many shapes come, few are held, and no long ones."""
    judged: list[tuple[str, ...]] = []

    def judge(shape: tuple[str, ...]) -> bool:
        judged.append(shape)
        return False

    shapes = Shapes(judge)
    assert [shapes["a", "b"], shapes["a", "b"]] == [False, False]
    assert judged == [("a", "b")]
    for number in range(5000):
        assert shapes[f"key{number}",] is False
    assert shapes["x" * 10_000,] is False
    assert len(shapes) <= 1024
    assert ("x" * 10_000,) not in shapes
