"""The pages of what removed outputs owe: a list, and the orders to move it to another output or to let it go."""

from __future__ import annotations

import msgspec
from aiohttp import web

from mcp_ingest.engine.backlogs import Backlogs
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.errors import IngestError
from mcp_ingest.web.dead_letters import json_response


class _Drop(msgspec.Struct, forbid_unknown_fields=True):
    output: str


class _Move(msgspec.Struct, forbid_unknown_fields=True):
    output: str
    to: str


class BacklogPages:
    """The pages of one daemon; `output` is `name (type)`. A wrong order is a `msgspec.ValidationError`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/api/backlogs", self.backlogs),
            web.post("/api/backlogs/move", self.move),
            web.post("/api/backlogs/drop", self.drop),
        ]

    async def backlogs(self, request: web.Request) -> web.Response:
        """What each removed output owes."""
        return json_response({"backlogs": self._daemon.spool.backlog_of_removed_outputs()})

    async def move(self, request: web.Request) -> web.Response:
        """Give one to another output; how many events."""
        order = msgspec.json.decode(await request.read(), type=_Move)
        try:
            return json_response({"events": await Backlogs(self._daemon.graph).move(order.output, order.to)})
        except IngestError as error:
            return json_response({"error": str(error)}, 409)

    async def drop(self, request: web.Request) -> web.Response:
        """Let go of one; how many events."""
        order = msgspec.json.decode(await request.read(), type=_Drop)
        try:
            return json_response({"events": await Backlogs(self._daemon.graph).drop(order.output)})
        except IngestError as error:
            return json_response({"error": str(error)}, 409)
