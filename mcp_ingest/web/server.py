"""HTTP on port 24231: `/metrics` and health for everyone, status and dead letters for loopback or with a token.

What changes something must be JSON and must not come from another site's page: a browser on this machine is loopback,
too, and sends whatever a page lets it send. What is read without a token must be asked of an address, of `localhost` or
of `http.host`: else a page whose name was made to mean 127.0.0.1 (DNS rebinding) could read it.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from socket import socket
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from mcp_ingest.config.model import HttpSettings
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.errors import SpoolError
from mcp_ingest.web.all_letters import AllLetters
from mcp_ingest.web.backlogs import BacklogPages
from mcp_ingest.web.collector import SpoolCollector
from mcp_ingest.web.dead_letters import DeadLetterPages, json_response
from mcp_ingest.web.families import latest
from mcp_ingest.web.letters import SpoolLetters
from mcp_ingest.web.reload import ReloadPage
from mcp_ingest.web.site import Site

_OPEN = frozenset({"/metrics", "/-/healthy", "/-/ready"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_OTHER_NAME = (
    "ask by the address of this machine, as localhost or as http.host, or with the token of http.token: "
    "under another name a page of another site could be asking"
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(daemon: Daemon, settings: HttpSettings, listener: socket | None = None) -> AsyncIterator[str]:
    """Serve the daemon's pages for the length of a block; yields the address, `http://127.0.0.1:24231`.

    On `listener`, which is bound already, in place of the settings' port: then no reload moves them.
    """
    for graph in daemon.graphs.values():
        graph.around.metrics.registry.register(SpoolCollector(daemon, graph))
    site = Site(settings)
    async with runner_of(_application(daemon, site)) as runner:
        if listener is not None:
            await web.SockSite(runner, listener).start()
            yield "http://{}:{}".format(*listener.getsockname()[:2])
            return
        address = await site.open(runner)
        daemon.reloader.neighbours.append(site)
        yield address


@contextlib.asynccontextmanager
async def runner_of(application: web.Application) -> AsyncIterator[web.AppRunner]:
    """What serves these pages, for the length of a block."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


def _application(daemon: Daemon, site: Site) -> web.Application:
    pages = _Pages(daemon)
    spools = {index: SpoolLetters(graph) for index, graph in daemon.graphs.items()}
    application = web.Application(middlewares=[guard(site)])
    application.add_routes(
        [
            web.get("/metrics", pages.metrics),
            web.get("/-/healthy", pages.healthy),
            web.get("/-/ready", pages.ready),
            web.get("/status", pages.status),
            web.get("/api/why", pages.why),
            *DeadLetterPages(AllLetters(lambda: spools)).routes(),
            *(page for n, each in spools.items() for page in DeadLetterPages(each, f"/spools/{n}").routes()),
            *ReloadPage(daemon).routes(),
            *BacklogPages(daemon).routes(),
        ]
    )
    return application


def guard(site: Site) -> Any:
    """Keeps what is not open from whoever is neither on this machine nor has the token."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        settings = site.settings
        if request.path not in _OPEN and not is_token(request.headers.get("Authorization", ""), settings.token):
            if request.remote not in _LOOPBACK:
                return json_response({"error": "from outside of this machine a token is needed: http.token"}, 401)
            if not all(_is_our_name(name, settings.host) for name in request.headers.getall("Host", [])):
                return json_response({"error": _OTHER_NAME}, 403)
        if request.method not in ("GET", "HEAD"):
            if request.content_type != "application/json":
                return json_response({"error": "the body must be JSON: Content-Type: application/json"}, 415)
            if not _is_ours(request, settings.host):
                return json_response({"error": "a page of another site may not do that"}, 403)
        try:
            return await handler(request)
        except SpoolError as error:
            return json_response({"error": str(error)}, 503)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            return json_response({"error": str(error)}, 400)

    return checked


def _is_our_name(asked: str, host: str) -> bool:
    """Whether a `Host` header (with or without a port) is one that no other site can have."""
    try:
        name = urlsplit(f"//{asked}").hostname or ""
        if name in ("localhost", host.lower()):
            return True
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_ours(request: web.Request, host: str) -> bool:
    """Whether the page that asks, if it is one, is served by us: browsers send its origin with what changes things."""
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    address = request.transport.get_extra_info("sockname") if request.transport else None
    names = ("127.0.0.1", "localhost", "[::1]", host)
    return address is not None and origin in {f"http://{name}:{address[1]}" for name in names}


def is_token(header: str, token: str | None) -> bool:
    """Whether an `Authorization` header (any bytes, as aiohttp gives them) carries this token; never without one."""
    given = header.removeprefix("Bearer ").encode("utf-8", "surrogateescape")
    return bool(token) and hmac.compare_digest(given, str(token).encode())


class _Pages:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def metrics(self, request: web.Request) -> web.Response:
        registries = [graph.around.metrics.registry for graph in self._daemon.graphs.values()]
        return web.Response(body=latest(registries), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(self, request: web.Request) -> web.Response:
        why = self._daemon.ready()
        return web.Response(text=f"{why or 'ready'}\n", status=503 if why else 200)

    async def status(self, request: web.Request) -> web.Response:
        return json_response(self._daemon.status())

    async def why(self, request: web.Request) -> web.Response:
        asked = request.query
        if not asked.get("id"):
            return json_response({"error": "id is missing: an _id, a trace_id or the id of a forward chunk"}, 400)
        known = await self._daemon.why(asked["id"], asked.get("tag"), asked.get("peer"))
        return json_response(known)
