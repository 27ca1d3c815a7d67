"""`POST /-/reload`: read the configuration again, and say what changed or why nothing did."""

from __future__ import annotations

from aiohttp import web

from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.errors import ConfigError, IngestError
from mcp_ingest.web.dead_letters import json_response


class ReloadPage:
    """The page of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.post("/-/reload", self.reload)]

    async def reload(self, request: web.Request) -> web.Response:
        """200 with what changed, or 409 with every mistake."""
        try:
            taken = await self._daemon.reloader.reload()
        except ConfigError as error:
            return _refused(error.problems)
        except IngestError as error:
            return _refused([str(error)])
        return json_response(taken.as_json())


def _refused(problems: list[str]) -> web.Response:
    return json_response({"error": "; ".join(problems), "problems": problems}, 409)
