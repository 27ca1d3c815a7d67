"""What a supervisor and a worker say to each other, over a pair of sockets that ends when one of them does.

The supervisor sends the orders, once; the worker sends notices, a line of JSON each. To the worker the end means that
its supervisor is gone, however that came about.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading

import msgspec

#: Seconds that a worker whose supervisor is gone has for its clean end.
ORPHAN_SECONDS = 15.0
_LENGTH = struct.Struct(">Q")


class Orders(msgspec.Struct):
    """What a worker is told: its part, as `Share` has it, whose spools it takes over, descriptors that it inherits.

    `http` listens for the supervisor's questions; `lock` is the supervisor's, held as long as any of them lives.
    """

    index: int
    count: int
    ports: dict[str, int]
    positions: dict[int, dict[str, bytes]]
    orphans: list[int]
    http: int
    lock: int


class Notice(msgspec.Struct, omit_defaults=True):
    """What a worker tells: what its inputs listen on, once all do; or why it ends, and with which code."""

    listening: dict[str, str] | None = None
    failed: str | None = None
    code: int = 1


def packed(orders: Orders) -> bytes:
    """The orders as they are sent."""
    body = msgspec.msgpack.encode(orders)
    return _LENGTH.pack(len(body)) + body


class Link:
    """The worker's end: `orders` are there at once."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        with self._socket.makefile("rb") as stream:
            (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
            self.orders = msgspec.msgpack.decode(stream.read(length), type=Orders)

    def tell(self, notice: Notice) -> None:
        """Send a notice; nobody hears it where the supervisor is gone."""
        try:
            self._socket.sendall(msgspec.json.encode(notice) + b"\n")
        except OSError:
            return

    async def gone(self) -> None:
        """Wait until the supervisor is gone; from then on the process has `ORPHAN_SECONDS` left."""
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while await loop.sock_recv(self._socket, 1024):
                pass
        except OSError:
            pass
        end = threading.Timer(ORPHAN_SECONDS, os._exit, (1,))  # whatever holds it up: no promise needs a clean end
        end.daemon = True
        end.start()
