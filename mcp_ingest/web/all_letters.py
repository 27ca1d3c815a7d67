"""The dead letters of several spools as those of one.

A letter's number says whose it is: letter 42 of worker 3 is 3000000000042, one of worker 0 has its own number, as with
a daemon alone, so that a number means the same letter however many workers there are. Lists are by the time at which
letters died; who replays or drops goes through one spool after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from mcp_ingest.engine.together import together_groups
from mcp_ingest.web.letters import MOST_GROUPS, MOST_LETTERS, Filter, Letters, Order, Question

F = TypeVar("F", bound=Filter)

#: How far the numbers of two spools lie apart: more letters than one can have.
APART = 10**12
_OPEN = APART - 1  # the end of a spool whose letters have not been looked at


class AllLetters:
    """`Letters` of all spools that there are when it is asked, by their workers' numbers."""

    def __init__(self, spools: Callable[[], Mapping[int, Letters]]) -> None:
        self._there = spools

    @property
    def _spools(self) -> dict[int, Letters]:
        return dict(sorted(self._there().items()))

    async def page(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        limit = min(asked.limit, MOST_LETTERS)
        owner, number = divmod(asked.before or 0, APART)
        last = await self.letter(asked.before) if asked.before is not None else None
        questions = {}
        for index, question in self._of_each(msgspec.structs.replace(asked, limit=limit)).items():
            mine = asked.before is not None and index == owner
            moment = None if last is None or mine else last["time"]
            questions[index] = msgspec.structs.replace(question, before=number if mine else None, died_before=moment)
        answers = await asyncio.gather(*(self._spools[index].page(each) for index, each in questions.items()))
        found = [
            _numbered(letter, index)
            for index, answer in zip(questions, answers, strict=True)
            for letter in answer["letters"]
        ]
        return {"letters": sorted(found, key=lambda letter: -letter["time"])[:limit]}

    async def groups(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        questions = self._of_each(msgspec.structs.replace(asked, limit=MOST_GROUPS))
        answers = await asyncio.gather(*(self._spools[index].groups(each) for index, each in questions.items()))
        found = together_groups([answer["groups"] for answer in answers])
        return {"groups": found[: min(asked.limit, MOST_GROUPS)], "count": len(found)}

    async def letter(self, number: int) -> dict[str, Any] | None:
        """See `Letters`."""
        index, own = divmod(number, APART)
        found = await self._spools[index].letter(own) if index in self._spools else None
        return _numbered(found, index) if found else None

    async def preview(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        order.chosen()
        orders = self._of_each(order)
        answers = await asyncio.gather(*(self._spools[index].preview(each) for index, each in orders.items()))
        previews = [
            _numbered(preview, index)
            for index, answer in zip(orders, answers, strict=True)
            for preview in answer["previews"]
        ]
        return {"count": sum(answer["count"] for answer in answers), "previews": previews[: order.limit]}

    async def replay(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        return await self._step(order, "replay")

    async def drop(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        return await self._step(order, "drop")

    async def _step(self, order: Order, verb: str) -> dict[str, Any]:
        """A batch of the spool that `after` lies in, or of the first behind it that has something to do."""
        order.chosen()
        orders = self._of_each(order)
        first, after = divmod(order.after, APART)
        until = None if order.until is None else order.until % APART
        left = [index for index in orders if index >= first]
        step: dict[str, Any] = {"count": 0, "died": 0, "kept": [], "after": order.after, "until": order.after}
        for place, index in enumerate(left):
            begun = index == first
            mine = msgspec.structs.replace(
                orders[index], after=after if begun else 0, until=until if begun and until != _OPEN else None
            )
            step = await getattr(self._spools[index], verb)(mine)
            step["kept"] = [_numbered(each, index) for each in step["kept"]]
            ended = step["after"] >= step["until"]
            step["after"] += index * APART
            step["until"] += index * APART
            if ended and place + 1 < len(left):
                step["after"] = left[place + 1] * APART
                step["until"] = step["after"] + _OPEN
            if step["count"] or step["kept"] or not ended:
                break
        return step

    def _of_each(self, asked: F) -> dict[int, F]:
        """What to ask each spool that is meant: of its own letters if some are named."""
        if asked.numbers is None:
            return dict.fromkeys(self._spools, asked)
        numbers: dict[int, list[int]] = {}
        for number in asked.numbers:
            numbers.setdefault(number // APART, []).append(number % APART)
        return {
            index: msgspec.structs.replace(asked, numbers=numbers[index]) for index in self._spools if index in numbers
        }


def _numbered(letter: dict[str, Any], index: int) -> dict[str, Any]:
    return {**letter, "number": letter["number"] + index * APART}
