"""The transport: how it connects, and when it closes."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from elastic_transport import NodeConfig, TransportError

from mcp_ingest.outputs.elasticsearch import transport
from mcp_ingest.outputs.elasticsearch.transport import Pool
from tests.engine.parts import until
from tests.outputs.elasticsearch.faults import http, peer


def _node(url: str) -> NodeConfig:
    host, _, port = url.removeprefix("http://").partition(":")
    return NodeConfig("http", host, int(port), connections_per_node=2)


async def test_an_address_that_says_nothing_costs_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is off: the request gives up long before its own time is over."""
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.3)
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = full.getsockname()
    waiting = [socket.socket() for _ in range(4)]  # fill the queue of connections that nobody accepts
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(address)
    pool = Pool([_node(f"http://127.0.0.1:{address[1]}")], {})
    began = time.monotonic()
    with pytest.raises(TransportError):
        await pool.transport.perform_request("GET", "/", request_timeout=30)
    assert time.monotonic() - began < 5
    await pool.retire()
    for each in [*waiting, full]:
        each.close()


async def test_a_pool_that_is_replaced_closes_behind_its_last_request() -> None:
    """A request that is under way when the pool retires gets its answer."""
    may_answer = asyncio.Event()
    async with peer(lambda head: http(200, b"{}"), gate=may_answer) as server:
        pool = Pool([_node(server.url)], {})
        pool.enter()
        request = asyncio.ensure_future(pool.transport.perform_request("GET", "/"))
        await until(lambda: server.asked)
        await pool.retire()
        may_answer.set()
        assert (await request).meta.status == 200
        await pool.leave()
        (node,) = pool.transport.node_pool.all()
        assert getattr(node, "session", None) is None
