"""The dead letters of several spools as those of one: over spools that a list stands for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mcp_ingest.web.all_letters import APART, AllLetters
from mcp_ingest.web.letters import Order, Question


class _Spool:
    """`Letters` of a dictionary: number to time; a batch is two letters."""

    def __init__(self, times: dict[int, int]) -> None:
        self.times = times

    def _chosen(self, asked: Any) -> list[int]:
        return sorted(n for n in self.times if asked.numbers is None or n in asked.numbers)

    def _shown(self, number: int) -> dict[str, Any]:
        return {"number": number, "time": self.times[number]}

    async def page(self, asked: Question) -> dict[str, Any]:
        below = asked.before or 10**9
        if asked.died_before is not None:
            below = max((n for n, time in self.times.items() if time < asked.died_before), default=0) + 1
        numbers = [n for n in self._chosen(asked) if n < below]
        return {"letters": [self._shown(n) for n in numbers[::-1][: asked.limit]]}

    async def groups(self, asked: Question) -> dict[str, Any]:
        times = [self.times[n] for n in self._chosen(asked)]
        group = {"signature": "s", "letters": len(times), "bytes": 1, "oldest": min(times), "newest": max(times)}
        return {"groups": [group], "count": 1}

    async def letter(self, number: int) -> dict[str, Any] | None:
        return self._shown(number) if number in self.times else None

    async def preview(self, order: Order) -> dict[str, Any]:
        numbers = self._chosen(order)
        return {"count": len(numbers), "previews": [{"number": n} for n in numbers[: order.limit]]}

    async def drop(self, order: Order) -> dict[str, Any]:
        until = max(self.times, default=0) if order.until is None else order.until
        numbers = [n for n in self._chosen(order) if order.after < n <= until]
        for number in numbers[:2]:
            del self.times[number]
        after = numbers[1] if len(numbers) > 2 else until
        return {"count": len(numbers[:2]), "died": 0, "kept": [], "after": after, "until": until}

    async def replay(self, order: Order) -> dict[str, Any]:
        """Each dies again, and one of each batch stays."""
        step = await self.drop(order)
        self.times[max([*self.times, order.after, step["until"]]) + 1] = 99
        return {**step, "kept": [{"number": step["after"], "why": "no output"}]}


def _three() -> tuple[dict[int, _Spool], AllLetters]:
    spools = {0: _Spool({n: 10 * n for n in range(1, 6)}), 2: _Spool({}), 3: _Spool({n: 10 * n + 5 for n in (1, 2, 3)})}
    return spools, AllLetters(lambda: spools)


async def test_pages_are_by_time() -> None:
    """The newest of all first, page by page without a gap, each once; its number says whose it is."""
    _, every = _three()
    seen: list[int] = []
    before = None
    while page := (await every.page(Question(limit=3, before=before)))["letters"]:
        seen += [letter["number"] for letter in page]
        before = seen[-1]
    assert seen == [5, 4, 3 * APART + 3, 3, 3 * APART + 2, 2, 3 * APART + 1, 1]
    assert await every.letter(3 * APART + 2) == {"number": 3 * APART + 2, "time": 25}
    assert await every.letter(3 * APART + 9) is None
    assert await every.letter(7 * APART + 1) is None


async def test_groups_and_previews() -> None:
    """A signature is one group; what is counted is counted over all."""
    spools, every = _three()
    del spools[2]
    (group,) = (await every.groups(Question()))["groups"]
    assert (group["letters"], group["oldest"], group["newest"]) == (8, 10, 50)
    preview = await every.preview(Order(all=True, limit=6))
    assert preview["count"] == 8
    assert [each["number"] for each in preview["previews"]] == [1, 2, 3, 4, 5, 3 * APART + 1]


@pytest.mark.parametrize("verb", ["drop", "replay"])
async def test_batches_go_through_all_spools(verb: str) -> None:
    """Until `after` is `until` each letter leaves once; what dies again meanwhile is not met a second time."""
    spools, every = _three()
    order = Order(all=True)
    left = []
    for _ in range(20):
        step = await getattr(every, verb)(order)
        left.append(step["count"])
        if step["after"] >= step["until"]:
            break
        order = msgspec.structs.replace(order, after=step["after"], until=step["until"])
    assert sum(left) == 8
    assert len(left) < 10
    if verb == "drop":
        assert not any(spool.times for spool in spools.values())
    else:
        assert step["kept"][0]["number"] // APART == 3


async def test_letters_by_their_numbers() -> None:
    """Only the spools are asked whose they are; without a word which are meant, nothing is done."""
    spools, every = _three()
    step = await every.drop(Order(numbers=[2, 3 * APART + 1]))
    while step["after"] < step["until"]:
        step = await every.drop(Order(numbers=[2, 3 * APART + 1], after=step["after"], until=step["until"]))
    assert sorted(spools[0].times) == [1, 3, 4, 5]
    assert sorted(spools[3].times) == [2, 3]
    assert (await every.drop(Order(numbers=[8 * APART])))["count"] == 0
    with pytest.raises(msgspec.ValidationError):
        await every.drop(Order())
