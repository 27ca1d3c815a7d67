"""A daemon whose pages are served, as `run` serves them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from mcp_ingest.web.server import serving
from tests.engine.live import Live, free_port, living


@contextlib.asynccontextmanager
async def served(directory: Path, **http: Any) -> AsyncIterator[tuple[Live, str]]:
    settings = {"port": free_port(), **http}
    async with living(directory, http=settings) as live, serving(live.daemon, live.daemon.config.http) as address:
        yield live, address


async def post(url: str, **headers: str) -> tuple[int, Any]:
    given = {"Content-Type": "application/json", **headers}
    async with aiohttp.ClientSession() as session, session.post(url, headers=given, data=b"{}") as answer:
        return answer.status, await answer.json()


async def page_status(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url + "/status", headers=headers) as answer:
        return answer.status
