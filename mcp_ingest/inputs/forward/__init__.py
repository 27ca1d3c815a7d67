"""Takes events by the Fluentd forward protocol: from Fluentd, Fluent Bit, Docker and the `fluent-logger` libraries.

Message, Forward, PackedForward and CompressedPackedForward (gzip, zstd), in MessagePack or JSON, with and without
`ack`; heartbeats over TCP and over UDP on the same port.

Guarantees. An ack leaves after the events are durable, in the order of the frames, each in one write; if they
cannot be made durable, the connection is closed without it, and the sender sends again. A chunk that comes again has
the same ids. A frame is held packed and decoded slice by slice; its length is reserved in the memory budget before
it is read. A bad entry becomes a dead letter, its neighbours go on, the frame is acknowledged. What is not the
protocol closes its connection, with one line in the log.

When not. Without a chunk id nothing is acknowledged, and what a client sends again is a new event. TLS and the
shared-key handshake are not there yet. Frames that are metrics, traces or the like (`fluent_signal`) are counted,
acknowledged and dropped.

What becomes of a record: a string is taken as `{"message": text}`; values that JSON cannot hold are changed (bytes
become text, NaN a string) and counted. The metadata of Fluent Bit's entries goes under the record's `metadata`, an
OTLP group's resource attributes become fields, where the record has not got them. Nil, 0 and times beyond the year
2262 count as no time.

Metrics: `mcp_ingest_connections`, `mcp_ingest_protocol_errors_total`, `mcp_ingest_sanitized_values_total`,
`mcp_ingest_ignored_frames_total`.
"""

from __future__ import annotations

import asyncio
import base64
import errno
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from mcp_ingest.component import ByteSize, Duration, Emit, Example, Input, Settings
from mcp_ingest.errors import AddressTakenError, IngestError, refusal
from mcp_ingest.event import hashed_prefix
from mcp_ingest.inputs.forward.batches import name_parts
from mcp_ingest.inputs.forward.connection import Connection, Shared


class Forward(Input):
    """See the module."""

    class Config(Settings):
        """Where to listen, and what is done to tags and records."""

        host: Annotated[str, Meta(description="Address to listen on.")] = "0.0.0.0"  # noqa: S104  Fluentd's default
        port: Annotated[int, Meta(ge=0, le=65535, description="TCP and UDP port; 0 takes a free one.")] = 24224
        tag: Annotated[str | None, Meta(description="The tag of all events, whatever the sender says.")] = None
        tag_prefix: Annotated[
            str | None, Meta(description="Put before each tag, with a dot between (Fluentd's `add_tag_prefix`).")
        ] = None
        source_address_key: Annotated[str | None, Meta(description="The field that takes the sender's IP address.")] = (
            None
        )
        source_hostname_key: Annotated[
            str | None,
            Meta(description="The field that takes the sender's host name, by reverse DNS, else its address."),
        ] = None
        max_frame_bytes: Annotated[
            ByteSize, Meta(description="Longer frames, packed or decompressed, close their connection without an ack.")
        ] = msgspec.field(default_factory=lambda: ByteSize(256 * 2**20))
        max_connections_per_address: Annotated[
            int, Meta(ge=0, description="More connections than this from one address are refused; 0: no limit.")
        ] = 0
        stalled_timeout: Annotated[
            Duration, Meta(description="A large frame of which nothing more comes for so long closes its connection.")
        ] = msgspec.field(default_factory=lambda: Duration(60))

        def check(self) -> list[str]:
            """Tag and prefix exclude each other."""
            if self.tag is not None and self.tag_prefix is not None:
                return ["tag_prefix: has no effect beside `tag`"]
            return []

    EXAMPLES: ClassVar[list[Example]] = [
        Example("Fluentd's port, on all addresses", {}),
        Example(
            "a second port for what comes from outside",
            {"port": 24225, "tag_prefix": "edge", "source_address_key": "sender", "max_frame_bytes": "64MiB"},
        ),
    ]

    sharing = "ports"
    protocols = ("tcp",)  # heartbeats by UDP are no reason not to start
    overlaps = True
    _shared: Shared | None = None  # while it runs

    async def run(self, emit: Emit) -> None:
        """See `Input.run`."""
        shared = self._shared = Shared(self.config, self.context, emit)
        server = await self._bind(shared)
        port = server.sockets[0].getsockname()[1]
        heartbeats = await self._answer_heartbeats(port)
        try:
            async with asyncio.TaskGroup() as shared.tasks:
                await server.start_serving()
                self.context.ready(f"tcp {self.config.host}:{port}")
                try:
                    await asyncio.get_running_loop().create_future()  # until cancelled
                finally:
                    await heartbeats.close()  # first: whoever listens on the TCP port next wants this one, too
                    server.close()
                    await shared.finish()
        finally:
            await heartbeats.close()

    def change_to(self, config: Any) -> Callable[[], None] | None:
        """See `Input.change_to`: socket and connections stay where the address does."""
        if (config.host, config.port) != (self.config.host, self.config.port):
            return None
        return lambda: self._change(config)

    def _change(self, config: Any) -> None:
        self.config = config
        if self._shared is not None:
            self._shared.change(config)

    def prefix_of(self, name: str, tag: str | None, peer: str | None) -> bytes | None:
        """See `Input.prefix_of`: the name is a chunk id."""
        return base64.urlsafe_b64decode(hashed_prefix(*name_parts(name.encode(), tag, peer)))

    async def _bind(self, shared: Shared) -> asyncio.Server:
        host, loop, share = self.config.host, asyncio.get_running_loop(), self.context.share
        port = share.port(self.context.name, self.config.port)
        try:
            return await loop.create_server(
                lambda: Connection(shared), host, port, reuse_port=share.several, start_serving=False
            )
        except OSError as error:
            kind = AddressTakenError if error.errno == errno.EADDRINUSE else IngestError
            raise kind(f"{self.context.name}: cannot listen on tcp {host}:{port}: {refusal(error)}") from None

    async def _answer_heartbeats(self, port: int) -> _Heartbeats:
        """Fluentd's `heartbeat_type udp`, an old way: not having it stops nobody from sending."""
        heartbeats, loop = _Heartbeats(), asyncio.get_running_loop()
        address, several = (self.config.host, port), self.context.share.several
        try:
            await loop.create_datagram_endpoint(lambda: heartbeats, local_addr=address, reuse_port=several)
        except OSError as error:
            self.context.logger.warning("%s: no heartbeats on udp port %s: %s", self.context.name, port, error)
        return heartbeats


class _Heartbeats(asyncio.DatagramProtocol):
    """Answers a zero byte with a zero byte."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._gone = asyncio.Event()

    async def close(self) -> None:
        """Return once the port is free."""
        if self._transport is not None:
            self._transport.close()
            await self._gone.wait()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if data[:1] == b"\0" and self._transport is not None:
            self._transport.sendto(b"\0", addr)
