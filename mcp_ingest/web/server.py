"""HTTP on port 24231: `/metrics` and health for everyone, status and dead letters for loopback or with a token."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mcp_ingest.config.model import HttpSettings
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.errors import IngestError, SpoolError, refusal
from mcp_ingest.spool.model import DeadLetter
from mcp_ingest.web.collector import SpoolCollector

_OPEN = frozenset({"/metrics", "/-/healthy", "/-/ready"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(daemon: Daemon, settings: HttpSettings) -> AsyncIterator[str]:
    """Serve the daemon's pages for the length of a block; yields the address, `http://127.0.0.1:24231`."""
    daemon.metrics.registry.register(SpoolCollector(daemon))
    runner = web.AppRunner(_application(daemon, settings), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            raise IngestError(f"http: cannot listen on {settings.host}:{settings.port}: {refusal(error)}") from None
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def _application(daemon: Daemon, settings: HttpSettings) -> web.Application:
    pages = _Pages(daemon)
    application = web.Application(middlewares=[_guard(settings)])
    application.add_routes(
        [
            web.get("/metrics", pages.metrics),
            web.get("/-/healthy", pages.healthy),
            web.get("/-/ready", pages.ready),
            web.get("/status", pages.status),
            web.get("/api/why", pages.why),
            web.get("/api/dead-letters", pages.letters),
            web.get("/api/dead-letters/{number:\\d{1,18}}", pages.letter),
        ]
    )
    return application


def _guard(settings: HttpSettings) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        allowed = request.path in _OPEN or request.remote in _LOOPBACK
        if not (allowed or is_token(request.headers.get("Authorization", ""), settings.token)):
            return _json({"error": "from outside of this machine a token is needed: http.token"}, 401)
        try:
            return await handler(request)
        except SpoolError as error:
            return _json({"error": str(error)}, 503)

    return guard


def is_token(header: str, token: str | None) -> bool:
    """Whether an `Authorization` header (any bytes, as aiohttp gives them) carries this token; never without one."""
    given = header.removeprefix("Bearer ").encode("utf-8", "surrogateescape")
    return bool(token) and hmac.compare_digest(given, str(token).encode())


class _Pages:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def metrics(self, request: web.Request) -> web.Response:
        body = generate_latest(self._daemon.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        why = self._daemon.ready()
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    async def status(self, request: web.Request) -> web.Response:
        return _json(self._daemon.status())

    async def why(self, request: web.Request) -> web.Response:
        asked = request.query
        if not asked.get("id"):
            return _json({"error": "id is missing: an _id, a trace_id or the id of a forward chunk"}, 400)
        known = await self._daemon.why(asked["id"], asked.get("tag"), asked.get("peer"))
        return _json(known.as_json())

    async def letters(self, request: web.Request) -> web.Response:
        try:
            limit = max(1, min(int(request.query.get("limit", 100)), 1000))
            before = int(request.query["before"]) if "before" in request.query else None
        except ValueError:
            return _json({"error": "limit and before are numbers"}, 400)
        if before is not None and abs(before) >= 2**63:
            return _json({"error": "before is the number of a dead letter"}, 400)
        found = await self._daemon.spool.letters(limit, before)
        return _json({"letters": [_letter(each) for each in found]})

    async def letter(self, request: web.Request) -> web.Response:
        found = await self._daemon.spool.letter(int(request.match_info["number"]))
        return _json(_letter(found)) if found else _json({"error": "no such dead letter"}, 404)


def _letter(letter: DeadLetter) -> dict[str, Any]:
    shown = {name: getattr(letter, name) for name in DeadLetter.__dataclass_fields__}
    return {**shown, "record": orjson.loads(letter.record)}


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
