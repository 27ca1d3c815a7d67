"""Forward with ack: chunks of numbered events over several connections, sent again until they are acknowledged.

What a connection had under way when it broke, or when no ack came, goes back to all of them: whichever is free sends it
again, under the same chunk id, as Fluentd does after a failover. Now and then a chunk is sent twice at once (over two
connections: two workers may take it), is large enough to be taken in slices, or breaks off in the middle; and some ids
are of Fluent Bit's kind.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import msgpack

from mcp_ingest.codecs.forward import encode_forward, encode_message, encode_packed, pack_entries
from tests.chaos.book import Book, message

SOURCE = "f"
TAG = "chaos.forward"
CONNECTIONS = 3
_WINDOW = 4  # chunks unacknowledged on a connection
_PATIENCE = 6.0  # seconds for an ack
_CONNECT_SECONDS = 2.0
_PAUSE = 0.05
_Mode = Literal["message", "forward", "text", "gzip", "zstd"]
_MODES: Sequence[_Mode] = ("message", "forward", "text", "gzip", "zstd")
_LARGEST = 200  # events in most chunks
_HUGE = 20_000  # in some: the input takes so many in several commits
_HUGE_SHARE, _TWICE_SHARE, _CUT_SHARE, _HASH_SHARE = 0.005, 0.03, 0.01, 0.1


@dataclass(frozen=True)
class Chunk:
    """Ready encoded, with the numbers of its events."""

    id: str
    frame: bytes
    numbers: range


class Forward:
    """Sends about `rate` events a second to `address` until `finish`, and then until all is acknowledged."""

    def __init__(self, book: Book, address: tuple[str, int], rate: float, seed: int) -> None:
        self.made: list[Chunk] = []
        self.sent_again = 0
        self.last_ack = 0.0  # monotonic
        self._book, self._address, self._rate = book, address, rate
        self._rng = random.Random(seed)
        self._unsent: deque[Chunk] = deque()
        self._twins: deque[tuple[Chunk, dict[str, Chunk]]] = deque()  # under way already, over that connection
        self._under_way: list[dict[str, Chunk]] = []  # by connection, what it waits for the acks of
        self._next = time.monotonic()
        self._finishing = False

    async def run(self) -> None:
        """Until everything is acknowledged after `finish`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._connections())

    def finish(self) -> None:
        """No new events from now on."""
        self._finishing = True

    def unacknowledged(self) -> int:
        """Chunks that were sent and not acknowledged so far."""
        return sum(map(len, self._under_way)) + len(self._unsent) + len(self._twins)

    # --- what to send ---

    def _take(self, waiting: dict[str, Chunk]) -> Iterator[Chunk]:
        """The next chunk for the connection with this under way, if one is due: what is sent again comes first."""
        if self._unsent:
            self.sent_again += 1
            yield self._unsent.popleft()
        elif self._twins and self._twins[0][1] is not waiting:
            self.sent_again += 1
            yield self._twins.popleft()[0]
        elif not self._finishing and time.monotonic() >= self._next:
            chunk = self._make()
            self._next = max(self._next + min(len(chunk.numbers), _LARGEST) / self._rate, time.monotonic() - 1)
            self.made.append(chunk)
            if self._rng.random() < _TWICE_SHARE:
                self._twins.append((chunk, waiting))
            yield chunk

    def _make(self) -> Chunk:
        rng, now = self._rng, time.time_ns()
        mode = rng.choice(_MODES)
        most = _HUGE if rng.random() < _HUGE_SHARE else _LARGEST
        numbers = self._book.write(SOURCE, 1 if mode == "message" else rng.randint(1, most))
        entries = [(now + number, _record(rng, number)) for number in numbers]
        raw = rng.randbytes(16)
        chunk = raw.hex().encode() if rng.random() < _HASH_SHARE else base64.b64encode(raw)
        if mode == "message":
            frame = encode_message(TAG, *entries[0], chunk)
        elif mode == "forward":
            frame = encode_forward(TAG, entries, chunk)
        else:
            assert mode not in ("message", "forward")
            frame = encode_packed(TAG, pack_entries(entries), compressed=mode, chunk=chunk)
        return Chunk(chunk.decode(), frame, numbers)

    # --- one connection after another ---

    async def _connections(self) -> None:
        waiting: dict[str, Chunk] = {}
        self._under_way.append(waiting)
        while not (self._finishing and not self.unacknowledged()):
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(*self._address)
                try:
                    await self._converse(reader, writer, waiting)
                finally:
                    writer.transport.abort()
            except (OSError, ValueError):  # TimeoutError is an OSError; ValueError: half an ack, or none of ours
                await asyncio.sleep(_PAUSE)
            finally:
                self._unsent.extend(waiting.values())
                waiting.clear()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: dict[str, Chunk]
    ) -> None:
        answers = msgpack.Unpacker(raw=False)
        while not (self._finishing and not self.unacknowledged()):
            while len(waiting) < _WINDOW and (chunk := next(self._take(waiting), None)):
                waiting[chunk.id] = chunk
                if self._rng.random() < _CUT_SHARE:
                    writer.write(chunk.frame[: self._rng.randrange(len(chunk.frame))])
                    await writer.drain()
                    raise ConnectionError("broken off")
                writer.write(chunk.frame)
            if not waiting:
                await asyncio.sleep(_PAUSE)
                continue
            async with asyncio.timeout(_PATIENCE):
                data = await reader.read(65536)
            if not data:
                raise ConnectionError("closed without an ack")
            answers.feed(data)
            for answer in answers:
                self._acknowledged(waiting, answer)

    def _acknowledged(self, waiting: dict[str, Chunk], answer: dict[str, Any]) -> None:
        with suppress(KeyError):
            chunk = waiting.pop(answer["ack"])
            self._book.acknowledge(SOURCE, chunk.numbers)
            self.last_ack = time.monotonic()


def _record(rng: random.Random, number: int) -> dict[str, Any]:
    return {
        "message": message(rng, SOURCE, number),
        "service_name": rng.choice(("router", "gateway", "store")),
        "log_level": rng.choice(("INFO", "INFO", "INFO", "WARNING", "ERROR")),
        "duration_ms": rng.randrange(1000),
    }
