"""Where something stands."""

from __future__ import annotations

from mcp_ingest.config.model import Place


def test_a_place_reads_as_editors_have_it() -> None:
    """File, line and column with colons, so that a terminal can jump there."""
    assert str(Place("a.yaml", 3, 7)) == "a.yaml:3:7"
