"""The address of the pages, which a reload may change."""

from __future__ import annotations

import socket
from pathlib import Path

import aiohttp
import pytest

from mcp_ingest.errors import IngestError
from tests.engine.live import free_port
from tests.web.served import page_status, post, served


async def test_another_port(tmp_path: Path) -> None:
    """The answer comes over the old connection; then the new port serves, and the old one no more."""
    async with served(tmp_path) as (live, address):
        port = free_port()
        live.write(http={"port": port})
        assert (await post(address + "/-/reload"))[0] == 200
        assert await page_status(f"http://127.0.0.1:{port}") == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await page_status(address)


async def test_another_host_with_the_same_port(tmp_path: Path) -> None:
    """It is listened on in the place of the old one."""
    async with served(tmp_path) as (live, _):
        port = live.sections["http"]["port"]
        await live.reload(http={"port": port, "host": "0.0.0.0"})
        assert await page_status(f"http://127.0.0.1:{port}") == 200


@pytest.mark.parametrize("how", ["port", "host"])
async def test_an_address_that_cannot_be_listened_on_changes_nothing(tmp_path: Path, how: str) -> None:
    """The reason names it, the old one serves on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with served(tmp_path, **({"port": port} if how == "host" else {})) as (live, address):
            http = {"port": port, "host": "127.0.0.2"} if how == "port" else {"port": port, "host": "0.0.0.0"}
            with pytest.raises(IngestError, match=f"http: cannot listen on {http['host']}:{port}: Address already"):
                await live.reload(http=http, outputs={"hole": {"type": "blackhole"}})
            assert await page_status(address) == 200
            assert list(live.daemon.graph.outputs) == ["archive"]


@pytest.mark.parametrize("same_port", [False, True])
async def test_an_address_is_given_up_when_another_part_fails(tmp_path: Path, same_port: bool) -> None:
    """Nothing listens there then, and the old address serves."""
    async with served(tmp_path) as (live, address):
        old = live.sections["http"]["port"]
        port = old if same_port else free_port()
        with pytest.raises(IngestError, match=r"spool\.directory"):
            await live.reload(http={"port": port, "host": "0.0.0.0"}, spool={"directory": "elsewhere"})
        assert await page_status(address) == 200
        with socket.socket() as probe:
            probe.bind(("127.0.0.2", port))


async def test_another_token_holds_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For requests from elsewhere, on the same address."""
    monkeypatch.setattr("mcp_ingest.web.server._LOOPBACK", frozenset())
    async with served(tmp_path, token="old") as (live, address):
        assert await page_status(address, Authorization="Bearer old") == 200
        await live.reload(http={**live.sections["http"], "token": "new"})
        assert await page_status(address, Authorization="Bearer old") == 401
        assert await page_status(address, Authorization="Bearer new") == 200
