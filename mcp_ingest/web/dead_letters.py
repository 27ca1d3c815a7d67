"""The pages of dead letters: lists, groups, one; and what changes them: replay and drop, a bounded batch for each call.

Whoever replays or drops many calls again with the `after` and `until` of the last answer, until they are equal.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import msgspec
import orjson
from aiohttp import web
from msgspec import Meta

from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.replay import Step
from mcp_ingest.spool.model import DeadLetter, Selection

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


class DeadLetterPages:
    """The pages of one daemon; a wrong question is a `msgspec.ValidationError`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/api/dead-letters", self.letters),
            web.get("/api/dead-letters/groups", self.groups),
            web.get("/api/dead-letters/{number:\\d{1,18}}", self.letter),
            web.post("/api/dead-letters/preview", self.preview),
            web.post("/api/dead-letters/replay", self.replay),
            web.post("/api/dead-letters/drop", self.drop),
        ]

    async def letters(self, request: web.Request) -> web.Response:
        """A page of letters, the newest first."""
        asked = _asked(request)
        limit = min(asked.limit, MOST_LETTERS)
        found = await self._daemon.spool.dead_letters.page(limit, asked.before, asked.selection())
        return json_response({"letters": [shown(each) for each in found]})

    async def groups(self, request: web.Request) -> web.Response:
        """Letters by their signatures, the largest group first, and how many groups there are."""
        asked = _asked(request)
        found = await self._daemon.spool.dead_letters.groups(asked.selection())
        return json_response({"groups": found[: min(asked.limit, MOST_GROUPS)], "count": len(found)})

    async def letter(self, request: web.Request) -> web.Response:
        """One letter."""
        found = await self._daemon.spool.dead_letters.get(int(request.match_info["number"]))
        return json_response(shown(found)) if found else json_response({"error": "no such dead letter"}, 404)

    async def preview(self, request: web.Request) -> web.Response:
        """What a replay would do with the newest of those that are meant, and how many are."""
        order = await _ordered(request)
        store, wanted = self._daemon.spool.dead_letters, order.chosen()
        count = sum(group.letters for group in await store.groups(wanted))
        letters = await store.page(order.limit, None, wanted) if order.limit else []
        previews = self._daemon.previews()
        made = [previews.preview(letter, through_pipeline=order.through_pipeline) for letter in letters]
        return json_response({"count": count, "previews": made})

    async def replay(self, request: web.Request) -> web.Response:
        """Replay a batch."""
        order = await _ordered(request)
        wanted, through = order.chosen(), order.through_pipeline
        return _step(await self._daemon.replay.replay(wanted, order.after, order.until, through_pipeline=through))

    async def drop(self, request: web.Request) -> web.Response:
        """Delete a batch."""
        order = await _ordered(request)
        return _step(await self._daemon.replay.drop(order.chosen(), order.after, order.until))


def shown(letter: DeadLetter) -> dict[str, Any]:
    """A letter as JSON has it, its record as an object."""
    return {**dataclasses.asdict(letter), "record": orjson.loads(letter.record)}


def json_response(value: Any, status: int = 200) -> web.Response:
    """The value as JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _step(step: Step) -> web.Response:
    kept = [{"number": number, "why": why} for number, why in step.kept]
    return json_response({**dataclasses.asdict(step), "kept": kept})


def _asked(request: web.Request) -> Question:
    return msgspec.convert(dict(request.query), Question, strict=False)


async def _ordered(request: web.Request) -> Order:
    return msgspec.json.decode(await request.read(), type=Order)
