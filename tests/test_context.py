"""The budget of bytes in flight."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from mcp_ingest.context import Budget, Share


async def test_the_budget_makes_later_ones_wait() -> None:
    """Who comes when too much is held waits, in order, until it is given back."""
    budget = Budget(100)
    await budget.take(80)
    async with asyncio.TaskGroup() as group:
        second = group.create_task(budget.take(50))
        third = group.create_task(budget.take(10))
        await asyncio.sleep(0.01)
        assert not second.done()
        assert not third.done()
        budget.give(80)
    assert budget.used == 60


async def test_more_than_the_whole_budget_is_given_when_nobody_holds_any() -> None:
    """One frame that is larger than the limit passes alone."""
    budget = Budget(100)
    async with budget.holding(500):
        assert budget.used == 500
    assert budget.used == 0


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    """Who gives up waiting holds nothing and holds up nobody."""
    budget = Budget(100)
    await budget.take(100)
    waiting = asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await budget.take(50)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(wait())
        await waiting.wait()
        task.cancel()
    budget.give(100)
    assert budget.used == 0
    await asyncio.wait_for(budget.take(100), 1)


async def test_giving_back_after_an_error() -> None:
    """A block that raises gives back what it held."""
    budget = Budget(10)
    with pytest.raises(ValueError, match="x"):
        async with budget.holding(5):
            raise ValueError("x")
    assert budget.used == 0


async def test_giving_back_between_a_cancellation_and_its_arrival() -> None:
    """A wait that is cancelled just before there is room ends as cancelled, and the next one gets the room."""
    budget = Budget(100)
    await budget.take(100)
    first = asyncio.ensure_future(budget.take(50))
    second = asyncio.ensure_future(budget.take(60))
    await asyncio.sleep(0)
    first.cancel()
    budget.give(100)
    await asyncio.wait([first, second], timeout=1)
    assert first.cancelled()
    assert second.done()
    assert budget.used == 60


async def test_taking_now_never_waits_and_never_overtakes() -> None:
    """It says no where there is no room, and while somebody waits."""
    budget = Budget(10)
    assert budget.take_now(6)
    assert not budget.take_now(6)
    async with asyncio.TaskGroup() as group:
        group.create_task(budget.take(6))
        await asyncio.sleep(0)
        assert not budget.take_now(1)
        budget.give(6)
    assert budget.used == 6
    assert budget.take_now(4)


def test_a_share_of_the_work() -> None:
    """Each item falls to exactly one of the present workers, always to the same, and none to one that is no more."""
    items = [b"%d" % n for n in range(100)]
    shares = [Share(index, 3) for index in range(3)]
    assert all(sum(share.takes(item) for share in shares) == 1 for item in items)
    assert not any(Share(4, 3).takes(item) for item in items)
    assert all(Share().takes(item) for item in items)
    assert [share.suffix for share in shares] == ["", "worker-1", "worker-2"]
    assert (Share(ports={"f": 7}).port("f", 0), Share().port("f", 0)) == (7, 0)


def test_only_one_worker_at_a_time(tmp_path: Path) -> None:
    """Who wants the same lock waits; without workers there is none."""
    order: list[str] = []
    share = Share(locks=tmp_path)

    def second() -> None:
        with share.locked("x"):
            order.append("second")

    with share.locked("x"), Share().locked("x"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
