"""What can be asked about dead letters and what one spool answers; `all_letters.py` makes one answer of several."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Protocol

import msgspec
import orjson
from msgspec import Meta

from mcp_ingest.engine.graph import Graph
from mcp_ingest.engine.replay import Step
from mcp_ingest.spool.model import DeadLetter, Selection
from mcp_ingest.spool.reader import Reader

_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Records that one page shows at the most, and previews.
MOST_LETTERS, MOST_PREVIEWS, MOST_GROUPS = 1000, 20, 10_000


class Filter(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which letters are meant; all that is named must fit."""

    numbers: Annotated[list[_Number], Meta(max_length=10_000)] | None = None
    group: str | None = None
    output: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    reason: str | None = None
    since: _Number | None = None

    def selection(self) -> Selection:
        """The same as the spool takes it."""
        numbers = None if self.numbers is None else tuple(self.numbers)
        return Selection(numbers, self.group, self.output, self.pipeline, self.stage, self.reason, self.since)


class Question(Filter, kw_only=True):
    """A page of letters or of groups."""

    limit: Annotated[int, Meta(ge=1)] = 100
    before: _Number | None = None
    died_before: _Number | None = None  # nanoseconds since 1970: what `before` means to another spool


class Order(Filter, kw_only=True):
    """A replay, its preview, or a drop; `all` must be said where nothing else says which."""

    all: bool = False
    after: _Number = 0
    until: _Number | None = None
    through_pipeline: bool = False
    limit: Annotated[int, Meta(ge=0, le=MOST_PREVIEWS)] = 3

    def chosen(self) -> Selection:
        """Which letters; ValidationError where nothing says so."""
        selection = self.selection()
        if selection == Selection() and not self.all:
            raise msgspec.ValidationError(
                'say which dead letters: "numbers", "group", "output", "pipeline", "stage", "reason", "since", or "all"'
            )
        return selection


class Letters(Protocol):
    """The dead letters of one spool or of many; answers are values of JSON."""

    async def page(self, asked: Question) -> dict[str, Any]:
        """`letters`: those that are meant, the newest first."""
        ...

    async def groups(self, asked: Question) -> dict[str, Any]:
        """`groups`: letters by their signatures, the largest first; `count`: how many groups there are."""
        ...

    async def letter(self, number: int) -> dict[str, Any] | None:
        """One letter; None if there is none of this number."""
        ...

    async def preview(self, order: Order) -> dict[str, Any]:
        """`count`: how many are meant; `previews`: what a replay would do with the newest of them."""
        ...

    async def replay(self, order: Order) -> dict[str, Any]:
        """Replay a batch: a `Step`."""
        ...

    async def drop(self, order: Order) -> dict[str, Any]:
        """Delete a batch: a `Step`."""
        ...


class SpoolLetters:
    """`Letters` of one spool of this process."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._spool = graph.spool

    async def page(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        limit, before = min(asked.limit, MOST_LETTERS), asked.before
        if asked.died_before is not None:
            moment = asked.died_before
            before = await self._spool.look(lambda reader: number_at(reader, moment))
        found = await self._spool.dead_letters.page(limit, before, asked.selection())
        return {"letters": [shown(each) for each in found]}

    async def groups(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        found = await self._spool.dead_letters.groups(asked.selection())
        groups = [dataclasses.asdict(group) for group in found[: min(asked.limit, MOST_GROUPS)]]
        return {"groups": groups, "count": len(found)}

    async def letter(self, number: int) -> dict[str, Any] | None:
        """See `Letters`."""
        found = await self._spool.dead_letters.get(number)
        return shown(found) if found else None

    async def preview(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        store, wanted = self._spool.dead_letters, order.chosen()
        count = sum(group.letters for group in await store.groups(wanted))
        letters = await store.page(order.limit, None, wanted) if order.limit else []
        previews = self._graph.previews()
        made = [previews.preview(letter, through_pipeline=order.through_pipeline) for letter in letters]
        return {"count": count, "previews": [dataclasses.asdict(each) for each in made]}

    async def replay(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        wanted, through = order.chosen(), order.through_pipeline
        return _step(await self._graph.replay.replay(wanted, order.after, order.until, through_pipeline=through))

    async def drop(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        return _step(await self._graph.replay.drop(order.chosen(), order.after, order.until))


def number_at(reader: Reader, moment: int) -> int:
    """Below this number are the letters that died before the moment, nanoseconds since 1970."""
    query = "SELECT coalesce(max(number), 0) + 1 FROM dead_letters WHERE time < ?"
    (number,) = reader.connection.execute(query, (moment,)).fetchone()
    return int(number)


def shown(letter: DeadLetter) -> dict[str, Any]:
    """A letter as JSON has it, its record as an object."""
    return {**dataclasses.asdict(letter), "record": orjson.loads(letter.record)}


def _step(step: Step) -> dict[str, Any]:
    kept = [{"number": number, "why": why} for number, why in step.kept]
    return {**dataclasses.asdict(step), "kept": kept}
