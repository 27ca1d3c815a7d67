"""The pages of dead letters: lists, groups, one; and what changes them: replay and drop, a bounded batch for each call.

Whoever replays or drops many calls again with the `after` and `until` of the last answer, until they are equal.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from aiohttp import web

from mcp_ingest.web.letters import Letters, Order, Question


class DeadLetterPages:
    """The pages of one daemon or of one spool; a wrong question is a `msgspec.ValidationError`."""

    def __init__(self, letters: Letters, prefix: str = "") -> None:
        self._letters = letters
        self._pages = f"{prefix}/api/dead-letters"

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get(self._pages, self.letters),
            web.get(f"{self._pages}/groups", self.groups),
            web.get(f"{self._pages}/{{number:\\d{{1,18}}}}", self.letter),
            web.post(f"{self._pages}/preview", self.preview),
            web.post(f"{self._pages}/replay", self.replay),
            web.post(f"{self._pages}/drop", self.drop),
        ]

    async def letters(self, request: web.Request) -> web.Response:
        """A page of letters, the newest first."""
        return json_response(await self._letters.page(_asked(request)))

    async def groups(self, request: web.Request) -> web.Response:
        """Letters by their signatures, the largest group first, and how many groups there are."""
        return json_response(await self._letters.groups(_asked(request)))

    async def letter(self, request: web.Request) -> web.Response:
        """One letter."""
        found = await self._letters.letter(int(request.match_info["number"]))
        return json_response(found) if found else json_response({"error": "no such dead letter"}, 404)

    async def preview(self, request: web.Request) -> web.Response:
        """What a replay would do with the newest of those that are meant, and how many are."""
        return json_response(await self._letters.preview(await _ordered(request)))

    async def replay(self, request: web.Request) -> web.Response:
        """Replay a batch."""
        return json_response(await self._letters.replay(await _ordered(request)))

    async def drop(self, request: web.Request) -> web.Response:
        """Delete a batch."""
        return json_response(await self._letters.drop(await _ordered(request)))


def json_response(value: Any, status: int = 200) -> web.Response:
    """The value as JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _asked(request: web.Request) -> Question:
    return msgspec.convert(dict(request.query), Question, strict=False)


async def _ordered(request: web.Request) -> Order:
    return msgspec.json.decode(await request.read(), type=Order)
