"""A sender of the forward protocol: batches as PackedForward, each kept until it is acknowledged.

It blocks, has no thread and no buffer of its own: what `send` returned for is durable at the receiver (with `ack`).
A chunk whose ack did not come is sent again under the same chunk id, so that the receiver knows it.
"""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from mcp_ingest.codecs import values
from mcp_ingest.codecs.forward import decode_ack, encode_packed, pack_entries
from mcp_ingest.errors import DecodeError, IngestError

Event = tuple[int, dict[str, Any]]  # nanoseconds since 1970 (0: none), record


class SendError(IngestError):
    """A batch was not acknowledged, however often it was sent: nobody knows whether it is durable."""


class ForwardSender:
    """Sends to one receiver over one connection; a context manager. Not for several threads at once.

    `timeout` are seconds for connecting, for sending and for an ack; `attempts` is how often a batch is sent before
    `SendError`, with pauses that grow from 0.1 s. Without `ack` nobody knows what became of it.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 24224,
        *,
        ack: bool = True,
        timeout: float = 30.0,
        attempts: int = 3,
        compressed: Literal["text", "gzip", "zstd"] = "text",
    ) -> None:
        self.host = host
        self.port = port
        self.ack = ack
        self.timeout = timeout
        self.attempts = attempts
        self.compressed = compressed
        self._socket: socket.socket | None = None

    def send(self, tag: str, events: Sequence[Event]) -> None:
        """Send these events as one chunk; returns when it is acknowledged."""
        if events:
            self.send_packed(tag, pack(events), len(events))

    def send_packed(self, tag: str, packed: bytes, count: int) -> None:
        """Send what `pack` made of `count` events as one chunk; returns when it is acknowledged."""
        chunk = base64.b64encode(os.urandom(16)) if self.ack else None
        frame = encode_packed(tag, packed, compressed=self.compressed, chunk=chunk, size=count)
        for attempt in range(self.attempts):
            try:
                return self._deliver(frame, chunk)
            except (OSError, DecodeError) as error:
                self.close()
                if attempt + 1 == self.attempts:
                    raise SendError(self._sentence(error)) from error
                time.sleep(0.1 * 2**attempt)
        return None

    def close(self) -> None:
        """Close the connection; the next `send` opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, frame: bytes, chunk: bytes | None) -> None:
        if self._socket is None:
            self._socket = socket.create_connection((self.host, self.port), self.timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(frame)
        if chunk is not None:
            self._await_ack(self._socket, chunk)

    def _await_ack(self, connection: socket.socket, chunk: bytes) -> None:
        """Read until an ack is complete; it must be of this chunk, byte for byte."""
        deadline = time.monotonic() + self.timeout
        answer = b""
        while (acknowledged := decode_ack(answer)) is None:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            received = connection.recv(4096)
            if not received:
                raise ConnectionError("it closed the connection without an acknowledgement")
            answer += received
        connection.settimeout(self.timeout)
        if acknowledged != chunk:
            raise DecodeError(f"it acknowledged another chunk: {acknowledged[:80]!r}")

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            said = f"no answer within {self.timeout:g} s"
        else:
            said = getattr(error, "strerror", None) or str(error)
        return f"{self.host}:{self.port}: not sent, {self.attempts} attempts: {said}"


def pack(events: Sequence[Event]) -> bytes:
    """Events as PackedForward holds them; values that the format has not got become text.

    ValueError for times before 1970 or after 2106, which an EventTime cannot say.
    """
    try:
        return pack_entries(events)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return pack_entries((time_ns, values.clean(record)[0]) for time_ns, record in events)
