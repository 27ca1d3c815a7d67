"""An HTTP proxy in front of Elasticsearch that does to a request whatever a fault declares, and else passes it on.

A fault puts a function in `trouble`: it gets an `Exchange`, one request and what can be done with it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.I)
_HOP = re.compile(rb"\r\n(?:connection|keep-alive|expect):[^\r]*", re.I)
_LONGEST_HEAD = 65536


class Reply(NamedTuple):
    """An answer of Elasticsearch: its head without the empty line, and its body as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """Of HTTP."""
        return int(self.head.split(b" ", 2)[1])


class Exchange:
    """One request of the daemon; `head` is read, its body not yet."""

    def __init__(self, proxy: Proxy, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        length = _LENGTH.search(head)
        self.length = int(length[1]) if length else 0
        self.healed = proxy.healed
        self._upstream = proxy.upstream
        self._reader, self._writer = reader, writer
        self._body: bytes | None = None

    @property
    def is_bulk(self) -> bool:
        """Whether it brings events."""
        return b"_bulk" in self.head.split(b"\r\n", 1)[0]

    async def body(self) -> bytes:
        """All of it."""
        if self._body is None:
            self._body = await self._reader.readexactly(self.length)
        return self._body

    async def half_of_body(self) -> None:
        """Read half of it, and leave the rest where it is."""
        await self._reader.readexactly(self.length // 2)

    async def forward(self, head: bytes | None = None, body: bytes | None = None) -> Reply:
        """What Elasticsearch answers to this request, or to another one in its place."""
        body = await self.body() if body is None else body
        head = _HOP.sub(b"", head or self.head).removesuffix(b"\r\n\r\n") + b"\r\nconnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(head + body)
            answer = await reader.read(-1)
        finally:
            writer.transport.abort()
        return _whole(answer)

    async def send(self, reply: Reply) -> None:
        """Answer with this."""
        self._writer.write(reply.head + b"\r\n\r\n" + reply.body)
        await self._writer.drain()

    async def send_bytes(self, data: bytes) -> None:
        """Answer with these bytes, whatever they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, status: int, body: bytes, headers: bytes = b"") -> None:
        """Answer with a status and a body, as Elasticsearch would."""
        await self.body()
        line = b"HTTP/1.1 %d Chaos\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json" % status
        await self.send(Reply(line + headers + b"\r\ncontent-length: %d" % len(body), body))

    def reset(self) -> None:
        """Break the connection off, now, with a RST."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise ConnectionAbortedError("as declared")


def _whole(answer: bytes) -> Reply:
    """What a server sent until it closed; a body in pieces is put together, one that is cut is none."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        raise ConnectionError("Elasticsearch broke off")
    if _CHUNKED.search(head):
        body = _joined(body)
        head = _CHUNKED.sub(b"\r\ncontent-length: %d" % len(body), head)
    return Reply(_HOP.sub(b"", head), body)


def _joined(pieces: bytes) -> bytes:
    body = b""
    while True:
        length, _, rest = pieces.partition(b"\r\n")
        if not length or len(rest) < (size := int(length, 16)):
            raise ConnectionError("Elasticsearch broke off")
        if not size:
            return body
        body, pieces = body + rest[:size], rest[size + 2 :]


Trouble = Callable[[Exchange], Awaitable[None]]


async def no_trouble(exchange: Exchange) -> None:
    """Pass it on."""
    await exchange.send(await exchange.forward())


class Proxy:
    """Listens at `address`; see `proxy`."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.address = ("", 0)
        self.healed = asyncio.Event()
        self.requests = 0
        self.errors: list[str] = []  # what went wrong in here, which must not pass for the daemon's fault
        self._trouble: Trouble = no_trouble
        self._connections: set[asyncio.StreamWriter] = set()

    def make(self, trouble: Trouble) -> None:
        """From now on this is done to every request that begins."""
        self._trouble = trouble
        self.healed.clear()

    def heal(self) -> None:
        """Pass on whatever comes from now on; who waits for this is woken."""
        self._trouble = no_trouble
        self.healed.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the daemon, to its end."""
        self._connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await self._trouble(Exchange(self, head, reader, writer))
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # the daemon is gone, or Elasticsearch is: either way there is nothing to answer
        except asyncio.CancelledError:
            pass  # the run ends, and this task with it; Python 3.11 would print each that ends cancelled
        except Exception as error:
            self.errors.append(f"a fault of the kit's proxy: {error!r}")
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    def close(self) -> None:
        """Break all connections off."""
        self.heal()
        for writer in list(self._connections):
            writer.transport.abort()


@asynccontextmanager
async def proxy(upstream: tuple[str, int], host: str) -> AsyncIterator[Proxy]:
    """A proxy in front of `upstream` that listens on `host` until the block ends."""
    made = Proxy(upstream)
    server = await asyncio.start_server(made.serve, host, 0, limit=_LONGEST_HEAD)
    made.address = server.sockets[0].getsockname()[:2]
    try:
        yield made
    finally:
        server.close()
        made.close()
