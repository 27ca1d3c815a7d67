"""A peer that answers with chosen bytes: for faults that the real Elasticsearch cannot be brought to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Peer:
    """Where it listens, and what it was sent: (request line and headers, body) of each request."""

    url: str = ""
    asked: list[tuple[str, bytes]] = field(default_factory=list)


def http(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An answer; a `length` that is not the body's makes it a cut one."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {size}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def peer(
    answer: Callable[[str], bytes | None],
    tls: ssl.SSLContext | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    gate: asyncio.Event | None = None,
    shown: list[object] | None = None,
) -> AsyncIterator[Peer]:
    """Answer each request with `answer(its head)`, behind the gate if there is one, and close; None never answers.

    `shown` gets the names in the client's certificate, a request each.
    """
    found = Peer()
    held = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            sizes = [line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
            found.asked.append((head, await reader.readexactly(int(sizes[0]) if sizes else 0)))
            if shown is not None:
                shown.append((writer.get_extra_info("peercert") or {}).get("subjectAltName"))
            if gate is not None:
                await gate.wait()
            said = answer(head)
            if said is None:
                await held.wait()
            else:
                writer.write(said)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=tls)
    found.url = f"http{'s' if tls else ''}://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        held.set()
        server.close()
