"""How many bytes a request may have."""

from __future__ import annotations

from mcp_ingest.engine.request_size import LEAST, PATIENCE, RequestSize


def test_what_was_refused_is_halved_and_stays() -> None:
    """A limit of the peer is learned once, not met again with every request."""
    size = RequestSize(5_000_000)
    size.refused(4_000_000)
    assert size.bytes == 2_000_000
    for _ in range(PATIENCE - 1):
        size.answered()
    assert size.bytes == 2_000_000


def test_it_is_tried_again_in_the_end() -> None:
    """A limit may be raised: after many answers a quarter more is tried, up to the setting."""
    size = RequestSize(1_000_000)
    size.refused(1_000_000)
    for _ in range(PATIENCE):
        size.answered()
    assert size.bytes == 625_000
    for _ in range(PATIENCE * 5):
        size.answered()
    assert size.bytes == 1_000_000


def test_failures_make_it_small_for_as_long_as_they_last() -> None:
    """A peer that is away for a night costs some small requests in the morning, and no more."""
    size = RequestSize(5_000_000)
    for _ in range(100):
        size.failed()
    assert size.bytes == LEAST
    for _ in range(7):
        size.answered()
    assert size.bytes == 5_000_000


def test_after_failures_it_grows_to_what_is_known_to_be_taken() -> None:
    """A size that was refused is not tried again because something else failed meanwhile."""
    size = RequestSize(5_000_000)
    size.refused(2_000_000)
    size.failed()
    for _ in range(20):
        size.answered()
    assert size.bytes == 1_000_000


def test_it_never_becomes_nothing() -> None:
    """A single event is refused, too: the bound stays above nought, and a failure never makes it larger."""
    size = RequestSize(1000)
    size.refused(1)
    assert size.bytes == 1
    size.failed()
    assert size.bytes == 1
