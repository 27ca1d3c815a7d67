"""What a supervisor and its worker say to each other."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from mcp_ingest.engine import orders
from mcp_ingest.engine.orders import Link, Notice, Orders, packed

ORDERS = Orders(1, 2, {"forward": 24224}, {0: {"tail/x": b"\xff"}}, [3, 5], 7, 8)


def _linked() -> tuple[socket.socket, Link]:
    ours, theirs = socket.socketpair()
    ours.sendall(packed(ORDERS))
    return ours, Link(theirs.detach())


def test_orders_arrive_whole() -> None:
    """Positions are bytes of any kind."""
    ours, link = _linked()
    assert link.orders == ORDERS
    ours.close()


def test_notices_are_lines() -> None:
    """One each; nobody hears them where the supervisor is gone, which is no error."""
    ours, link = _linked()
    link.tell(Notice(listening={"forward": "tcp 127.0.0.1:24224"}))
    link.tell(Notice(failed="no room\nfor two", code=2))
    lines = ours.recv(4096).splitlines()
    assert [msgspec.json.decode(line, type=Notice) for line in lines] == [
        Notice(listening={"forward": "tcp 127.0.0.1:24224"}),
        Notice(failed="no room\nfor two", code=2),
    ]
    ours.close()
    link.tell(Notice(failed="nobody is there"))


async def test_the_end_of_the_supervisor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gone` returns when the other end closes, and a worker that does not end by itself is ended."""
    ended: list[int] = []
    monkeypatch.setattr(orders, "ORPHAN_SECONDS", 0.05)
    monkeypatch.setattr(orders.os, "_exit", ended.append)  # type: ignore[attr-defined]
    ours, link = _linked()
    waiting = asyncio.create_task(link.gone())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    ours.close()
    await asyncio.wait_for(waiting, 5)
    await asyncio.sleep(0.3)
    assert ended == [1]
