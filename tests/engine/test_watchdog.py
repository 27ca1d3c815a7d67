"""A delivery that makes no progress is noticed."""

from __future__ import annotations

from mcp_ingest.engine.watchdog import DEADLINES, Watchdog


def test_a_request_that_does_not_end_is_noticed() -> None:
    """Its deadline should have ended it; others that come and go hide nothing."""
    watchdog = Watchdog(10, now=0)
    number = watchdog.begun(5)
    for now in range(6, 34):
        watchdog.ended(watchdog.begun(now))
        watchdog.moved(now)
        assert watchdog.stalled(now) is None
    watchdog.moved(36)
    assert watchdog.stalled(36) == "a request has not ended for 31 s"
    watchdog.ended(number)
    assert watchdog.stalled(36) is None


def test_a_loop_that_sends_nothing_is_noticed() -> None:
    """Nothing is under way and nothing was settled for three deadlines."""
    watchdog = Watchdog(10, now=0)
    assert watchdog.patience == DEADLINES * 10
    assert watchdog.stalled(30) is None
    assert watchdog.stalled(31) == "nothing was sent for 31 s though events wait"
    watchdog.moved(31)
    assert watchdog.stalled(61) is None
