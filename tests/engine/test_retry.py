"""When to try again."""

from __future__ import annotations

from mcp_ingest.engine.retry import FIRST, LONGEST, pause


def test_pauses_grow_to_a_bound() -> None:
    """The first pause is short, later ones grow, none is over the longest but for its jitter."""
    assert FIRST * 0.75 <= pause(1) <= FIRST * 1.25
    assert pause(4) > pause(1)
    assert pause(1000) <= LONGEST * 1.25


def test_what_the_peer_asks_for_is_kept() -> None:
    """A pause is never shorter than the peer's Retry-After."""
    assert pause(1, asked=120) == 120
