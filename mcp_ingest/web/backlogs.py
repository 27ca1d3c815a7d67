"""The pages of what removed outputs owe: a list, and the orders to move it to another output or to let it go.

Each is about all spools that the daemon has open: an order goes to those that have such a backlog.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import msgspec
from aiohttp import web

from mcp_ingest.engine.backlogs import Backlogs
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.engine.together import together
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
        found = [graph.spool.backlog_of_removed_outputs() for graph in self._daemon.graphs.values()]
        return json_response(
            {"backlogs": together([{name: asdict(held) for name, held in each.items()} for each in found])}
        )

    async def move(self, request: web.Request) -> web.Response:
        """Give one to another output; how many events."""
        order = msgspec.json.decode(await request.read(), type=_Move)
        return await self._obey(order.output, lambda backlogs: backlogs.move(order.output, order.to))

    async def drop(self, request: web.Request) -> web.Response:
        """Let go of one; how many events."""
        order = msgspec.json.decode(await request.read(), type=_Drop)
        return await self._obey(order.output, lambda backlogs: backlogs.drop(order.output))

    async def _obey(self, name: str, order: Callable[[Backlogs], Awaitable[int]]) -> web.Response:
        graphs = self._daemon.graphs.values()
        owing = [graph for graph in graphs if name in graph.spool.backlog_of_removed_outputs()]
        try:
            return json_response(
                {"events": sum([await order(Backlogs(graph)) for graph in owing or [self._daemon.graph]])}
            )
        except IngestError as error:
            return json_response({"error": str(error)}, 409)
