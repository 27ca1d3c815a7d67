"""Tests of the committed state in memory."""

from __future__ import annotations

from mcp_ingest.spool.truth import Changes, OutputState, Truth


def test_changes_are_added_up() -> None:
    """Positions are set and deleted, what is held goes up and down, an output not configured is a removed one."""
    truth = Truth()
    truth.ids = {"a": 1}
    truth.outputs = {1: OutputState(1, "a", "file", 0), 2: OutputState(2, "b", "file", 0)}
    changes = Changes(positions={"x": b"1"}, oldest={1: 5, 2: 6})
    changes.held.update({1: 10, 2: 3})
    truth.apply(changes)
    changes = Changes(positions={"x": None}, marks={1: 4})
    changes.held.update({1: -10})
    truth.apply(changes)
    assert truth.positions == {}
    assert (truth.output("a").events, truth.output("a").mark) == (0, 4)
    assert truth.removed()["b (file)"].events == 3
