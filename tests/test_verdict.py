"""What an output is asked."""

from __future__ import annotations

from mcp_ingest.verdict import Part, Request


def test_a_request_knows_its_size() -> None:
    """Events and bytes count over all parts."""
    parts = [
        Part("c-1", ["a", "b"], [1, 2], ["t"] * 2, ["i"] * 2, [b"12", b"345"]),
        Part("c-2", ["c"], [3], ["t"], ["i"], [b"6"]),
    ]
    assert (Request(parts).count, Request(parts).size) == (3, 6)
