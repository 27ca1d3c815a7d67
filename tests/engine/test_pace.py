"""What an output's answers teach about how much to send."""

from __future__ import annotations

import pytest

from mcp_ingest.engine.pace import SMALLER_FROM, Pace
from mcp_ingest.verdict import (
    DELIVERED,
    AllDelivered,
    Each,
    Malformed,
    Park,
    ParkAll,
    Retry,
    TooLarge,
    Unknown,
    Verdicts,
)
from tests.engine.parts import Scripted

MOST = Scripted.max_request_bytes


def learned(verdicts: Verdicts, failures: int = 0) -> tuple[int, int]:
    pace = Pace(Scripted())
    pace.learn(verdicts, pace.begun(4), 0.1, 1_000_000, failures)
    return pace.requests, pace.bytes


@pytest.mark.parametrize(
    ("verdicts", "requests", "size"),
    [
        (AllDelivered(), 4, MOST),
        (Unknown("429", overloaded=True), 2, MOST),
        (Unknown("429 memory", overloaded=True, smaller=True), 2, 500_000),
        (Unknown("reset"), 4, MOST),
        (ParkAll("401"), 4, MOST),
        (TooLarge("413"), 4, 500_000),
        (Malformed("400"), 4, MOST),
        (Each([DELIVERED, Retry("429", overloaded=True)]), 2, MOST),
        (Each([DELIVERED, Retry("429 memory", overloaded=True, smaller=True)]), 2, 500_000),
        (Each([DELIVERED, Retry("500")]), 4, MOST),
        (Each([DELIVERED, Park("closed")]), 4, MOST),
    ],
)
def test_an_answer_teaches(verdicts: Verdicts, requests: int, size: int) -> None:
    """Busy: fewer at once; no room for so much: smaller; anything else says nothing of either."""
    assert learned(verdicts) == (requests, size)


def test_what_fails_again_and_again_becomes_smaller() -> None:
    """One reset is an accident; the third in a row may come of what the request carries."""
    assert learned(Unknown("reset"), failures=SMALLER_FROM - 2) == (4, MOST)
    assert learned(Unknown("reset"), failures=SMALLER_FROM - 1) == (4, MOST // 2)


def test_it_says_when_the_limit_has_changed() -> None:
    """For the metric."""
    pace = Pace(Scripted())
    assert not pace.learn(AllDelivered(), pace.begun(1), 0.1, 1000, 0)
    assert pace.learn(Unknown("429", overloaded=True), pace.begun(1), 0.1, 1000, 0)


@pytest.mark.parametrize(
    ("events", "in_flight", "seconds"),
    [(0, 0, 0.0), (1, 0, 20e-6), (1, 1, 0.01), (1000, 0, 0.02), (1000, 3, 0.02), (10_000, 0, 0.03)],
)
def test_what_is_small_waits_as_long_as_much_came_before(events: int, in_flight: int, seconds: float) -> None:
    """20 µs for each event of the last request, 30 ms at the most, and 10 ms for an answer under way."""
    pace = Pace(Scripted())
    assert pace.small_waits_until(in_flight) <= 0.01
    pace.sent(100.0, events)
    assert pace.small_waits_until(in_flight) == pytest.approx(100 + seconds, abs=1e-9)


def test_small_is_less_than_a_quarter_of_the_most() -> None:
    """Of what the peer is known to take now."""
    pace = Pace(Scripted())
    assert pace.is_small(MOST // 4 - 1)
    assert not pace.is_small(MOST // 4)
    pace.learn(TooLarge("413"), pace.begun(1), 0.1, 1000, 0)
    assert not pace.is_small(125)
