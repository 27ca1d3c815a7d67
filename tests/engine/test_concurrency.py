"""How many requests may be in flight."""

from __future__ import annotations

import random

import pytest

from mcp_ingest.engine.concurrency import Concurrency

SIZE = 1_000_000


def served(limit: Concurrency, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        limit.answered(limit.begun(limit.limit), seconds, SIZE)


def test_it_begins_with_the_most() -> None:
    """A peer in good health is used to the full from the first request on."""
    assert Concurrency(4).limit == 4


def test_a_refusal_halves_and_a_burst_of_them_halves_once() -> None:
    """Requests that began before the limit was halved say nothing new when they are refused, too."""
    limit = Concurrency(8)
    eras = [limit.begun(n) for n in range(1, 9)]
    for era in eras:
        limit.overloaded(era)
    assert limit.limit == 4
    limit.overloaded(limit.begun(4))
    assert limit.limit == 2


def test_it_is_never_less_than_one() -> None:
    """However often the peer refuses, one request at a time goes on."""
    limit = Concurrency(4)
    for _ in range(10):
        limit.overloaded(limit.begun(1))
    assert limit.limit == 1


def test_it_grows_by_one_while_latency_is_as_usual() -> None:
    """After a refusal the limit comes back step by step, and no further than the setting."""
    limit = Concurrency(4)
    limit.overloaded(limit.begun(4))
    seen = []
    for _ in range(40):
        served(limit, 0.2)
        seen.append(limit.limit)
    assert sorted(set(seen)) == [2, 3, 4]
    assert seen == sorted(seen)


def test_it_does_not_grow_while_fewer_are_wanted() -> None:
    """A limit that was never reached was not tried."""
    limit = Concurrency(4)
    limit.overloaded(limit.begun(4))
    for _ in range(40):
        limit.answered(limit.begun(1), 0.2, SIZE)
    assert limit.limit == 2


def test_latency_that_grows_halves() -> None:
    """Far above the running mean is too much at once; what stays so becomes the usual, and it grows again."""
    limit = Concurrency(8)
    served(limit, 0.2, 40)
    served(limit, 2.0, 16)
    assert limit.limit < 8
    served(limit, 2.0, 200)
    assert limit.limit == 8


def test_what_is_fast_is_not_judged() -> None:
    """From one millisecond to fifty is no sign of a busy peer."""
    limit = Concurrency(4)
    rng = random.Random(1)
    for _ in range(500):
        served(limit, rng.choice([0.001, 0.005, 0.05]))
        assert limit.limit == 4


def test_a_large_request_is_compared_with_large_ones() -> None:
    """Small ones of 20 ms among large ones of 2 s do not make the large ones look slow."""
    limit = Concurrency(4)
    for _ in range(50):
        limit.answered(limit.begun(4), 0.02, 1000)
        limit.answered(limit.begun(4), 2.0, 5_000_000)
        assert limit.limit == 4


def test_latency_says_nothing_where_the_output_says_so() -> None:
    """A request that waits for a commit it shares is slow for other reasons; a refusal still counts."""
    limit = Concurrency(4, by_latency=False)
    served(limit, 0.02, 20)
    served(limit, 0.7, 50)
    assert limit.limit == 4
    limit.overloaded(limit.begun(4))
    served(limit, 0.02, 10)
    served(limit, 0.7, 50)
    assert limit.limit == 4


@pytest.mark.parametrize("most", [1, 2, 64])
def test_it_stays_between_one_and_the_most(most: int) -> None:
    """Whatever comes in whatever order."""
    rng = random.Random(most)
    limit = Concurrency(most)
    for _ in range(2000):
        era = limit.begun(rng.randint(1, most))
        if rng.random() < 0.1:
            limit.overloaded(era)
        else:
            limit.answered(era, rng.random() * rng.choice([0.01, 1, 30]), rng.randint(1, 10**7))
        assert 1 <= limit.limit <= most


def test_a_peer_that_takes_four_at_once_is_sent_about_four() -> None:
    """Of a setting of 32, a peer that refuses the fifth request is found out, and kept busy."""
    limit, refused, sent = Concurrency(32), 0, 0
    for _ in range(500):
        eras = [limit.begun(n + 1) for n in range(limit.limit)]
        sent += len(eras)
        for number, era in enumerate(eras):
            if number < 4:
                limit.answered(era, 0.3, SIZE)
            else:
                refused += 1
                limit.overloaded(era)
    assert refused / sent < 0.2
    assert sent / 500 > 2
