"""Sends events by the forward protocol as fast as they are taken, or at a steady rate, and counts what is acknowledged.

    python -m perf.loadgen --port P --events N [--chunk K] [--mode message|forward|packed|compressed] [--no-ack]
                           [--rate R] [--connections C] [--window W] [--stamp] [--tag T] [--seed S]

When all is acknowledged (without ack: when all is written and the connections are closed) it prints one line:

    {"events": sent, "acknowledged": of these, null without ack, "seconds": from the first byte to the last ack,
     "cpu_seconds": of this process meanwhile, "bytes": sent, "frames": sent}

It ends with status 1, the line printed, where a connection is lost before that, or an ack is not for what was sent.

The events are those of `perf.records`: 20,000 of them (fewer where fewer are sent) are encoded before the first byte is
sent, in chunks of `--chunk`, 1 in mode message, and sent again and again; only the chunk id is new for each frame: 16
random bytes in base64, as Fluentd makes them. Ready encoded, a frame is joined, not encoded.

At full speed each connection has at most `--window` frames unacknowledged (by default 1, as one flush thread of Fluentd
has; 256 in mode message) and sends on when half of them are acknowledged, so that many small frames leave by one write.
`--rate` is events a second over all connections; frames leave when they are due, to the millisecond, and the window
does not count: a receiver that stalls is not spared, and a latency includes what it made the next frames wait.
`--stamp` gives each record the field `sent_ns`, an unsigned 64-bit integer: nanoseconds since 1970 as its frame is
written. Without ack the end says that all is in the kernel's hands, not that anybody has read it.

Cost of sending, in floors (of 2.4 µs) of CPU an event, in chunks of 1,000: packed or forward 0.1, compressed 0.03,
packed with stamps 0.15, without ack 0.2, compressed with stamps (compressed as it is sent) 0.7; mode message 0.9, with
stamps 1.0, without ack 0.2. A receiver that sends each ack alone makes it 8, and a steady rate of one-event messages
14: then every frame wakes the loop. Encoding the pool before takes about a second and is not in the seconds printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from typing import Any, NamedTuple, cast

import uvloop

from mcp_ingest.client.forward import pack
from mcp_ingest.codecs.forward import encode_forward, encode_message, encode_packed
from perf.arguments import count
from perf.records import records

POOL_EVENTS = 20_000
_MESSAGE_WINDOW = 256
_GROUP = 256  # frames in one write at the most
_NS = 10**9

Event = tuple[int, dict[str, Any]]  # nanoseconds since 1970, record


class Load(NamedTuple):
    """What the command line says; `rate` 0 is full speed, `window` 0 the mode's default."""

    port: int
    events: int
    chunk: int = 1000
    mode: str = "packed"
    ack: bool = True
    rate: float = 0.0
    connections: int = 1
    window: int = 0
    stamp: bool = False
    tag: str = "mcp.perf"
    seed: int = 0


# --- protocols: a line of the table each -------------------------------------------------------------------


class Protocol(NamedTuple):
    """How events become a frame that ends with its chunk id, and what each answer looks like, the id its first group.

    `encode(tag, events, chunk)` leaves the id out for a chunk of None. A frame that is compressed cannot be stamped
    in place: `entries` are then the bytes to stamp and `wrap(tag, entries, count, chunk)` makes the frame of them.
    """

    encode: Callable[[str, list[Event], bytes | None], bytes]
    answer: re.Pattern[bytes]
    one_event: bool = False
    entries: Callable[[list[Event]], bytes] | None = None
    wrap: Callable[[str, bytes, int, bytes | None], bytes] | None = None


def _message(tag: str, events: list[Event], chunk: bytes | None) -> bytes:
    ((time_ns, record),) = events
    return encode_message(tag, time_ns, record, chunk)


def _packed(tag: str, events: list[Event], chunk: bytes | None) -> bytes:
    return encode_packed(tag, pack(events), chunk=chunk, size=len(events))


def _gzipped(tag: str, entries: bytes, count: int, chunk: bytes | None) -> bytes:
    return encode_packed(tag, entries, compressed="gzip", chunk=chunk, size=count)


def _compressed(tag: str, events: list[Event], chunk: bytes | None) -> bytes:
    return _gzipped(tag, pack(events), len(events), chunk)


#: `{"ack": id}` as MessagePack, the id a str or bin of 24 bytes.
_ACK = re.compile(rb"\x81\xa3ack(?:\xb8|[\xd9\xc4]\x18)([0-9A-Za-z+/=]{24})")
PROTOCOLS = {
    "message": Protocol(_message, _ACK, one_event=True),
    "forward": Protocol(encode_forward, _ACK),
    "packed": Protocol(_packed, _ACK),
    "compressed": Protocol(_compressed, _ACK, entries=pack, wrap=_gzipped),
}

_ACK_BYTES = 30  # of most of them
_ANY_CHUNK = bytes(24)
_MARK = 0xFEDC_BA98_7654_3210  # stands for `sent_ns` in what is encoded; MessagePack's uint 64 behind its 0xcf
_MARKED = b"\xcf" + _MARK.to_bytes(8, "big")


class Frame(NamedTuple):
    """Its bytes up to the chunk id, cut where the stamps go; `wrap` makes the frame where these are its entries."""

    events: int
    pieces: list[bytes]
    wrap: Callable[[bytes], bytes] | None = None

    def at(self, stamp: bytes) -> bytes:
        """The frame with this stamp, without its chunk id."""
        whole = stamp.join(self.pieces)
        return self.wrap(whole) if self.wrap else whole


def frame(load: Load, events: list[Event]) -> Frame:
    """These events, ready to be sent."""
    protocol = PROTOCOLS[load.mode]
    chunk, cut = (_ANY_CHUNK, -len(_ANY_CHUNK)) if load.ack else (None, None)
    if load.stamp:
        events = [(time_ns, record | {"sent_ns": _MARK}) for time_ns, record in events]
    if load.stamp and protocol.entries and protocol.wrap:
        wrap, count = protocol.wrap, len(events)
        pieces = protocol.entries(events).split(_MARKED)
        return Frame(count, pieces, lambda entries: wrap(load.tag, entries, count, chunk)[:cut])
    return Frame(len(events), protocol.encode(load.tag, events, chunk)[:cut].split(_MARKED))


def chunk_ids(count: int) -> list[bytes]:
    """So many new ids, of 24 bytes."""
    raw = os.urandom(16 * count)
    return [b2a_base64(raw[at : at + 16], newline=False) for at in range(0, len(raw), 16)]


# --- what is to be sent ------------------------------------------------------------------------------------


def frames(load: Load) -> Iterator[Frame]:
    """All frames of a load, one after another; the first is there when the pool is encoded."""
    chunk = 1 if PROTOCOLS[load.mode].one_event else load.chunk
    full, rest = divmod(load.events, chunk)
    pooled = min(full, max(POOL_EVENTS // chunk, 1)) * chunk
    now = time.time_ns()
    made = records(pooled + rest, load.seed, began=now // _NS - POOL_EVENTS // 1000)
    events = [(now + 1000 * number, record) for number, record in enumerate(made)]
    pool = [frame(load, events[at : at + chunk]) for at in range(0, pooled, chunk)]
    last = [frame(load, events[pooled:])] if rest else []
    return chain(islice(cycle(pool), full), last)


# --- sending -----------------------------------------------------------------------------------------------


class Sums:
    """What was sent and acknowledged."""

    def __init__(self) -> None:
        self.events = self.acknowledged = self.frames = self.bytes = 0


class _Sender(asyncio.Protocol):
    """One connection; `finished` ends when all that it sent is acknowledged and there is no more, or with an error."""

    def __init__(self, load: Load, supply: Iterator[Frame], sums: Sums) -> None:
        self._load, self._supply, self._sums = load, supply, sums
        self._answer = PROTOCOLS[load.mode].answer
        self._window = load.window or (_MESSAGE_WINDOW if PROTOCOLS[load.mode].one_event else 1)
        self._waiting: dict[bytes, int] = {}  # events of each chunk id that is not acknowledged
        self._unread = b""
        self._paused = self._ending = False
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._load.rate:
            self.fill()

    def fill(self) -> None:
        """Send what the window has room for."""
        while not self._paused and not self._ending and len(self._waiting) <= self._window // 2:
            room = self._window - len(self._waiting) if self._load.ack else _GROUP
            taken = list(islice(self._supply, min(room, _GROUP)))
            if not taken:
                self.end()
                return
            self.send(taken)

    def send(self, taken: list[Frame]) -> None:
        """Write these frames, stamped with this moment."""
        if self.finished.done():
            return
        counts = [each.events for each in taken]
        if self._load.stamp:
            stamp = b"\xcf" + time.time_ns().to_bytes(8, "big")
            pieces = [each.at(stamp) for each in taken]
        else:
            pieces = [each.pieces[0] for each in taken]
        if self._load.ack:
            ids = chunk_ids(len(taken))
            self._waiting.update(zip(ids, counts, strict=True))
            both = [b""] * (2 * len(taken))
            both[0::2], both[1::2] = pieces, ids
            pieces = both
        data = b"".join(pieces)
        self._sums.events += sum(counts)
        self._sums.frames += len(taken)
        self._sums.bytes += len(data)
        self._transport.write(data)

    def end(self) -> None:
        """There is nothing more to send."""
        self._ending = True
        if not self._waiting:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        found = self._answer.findall(data)
        self._unread = self._answer.sub(b"", data) if len(found) * _ACK_BYTES != len(data) else b""
        try:
            self._sums.acknowledged += sum([self._waiting.pop(chunk) for chunk in found])
        except KeyError as error:
            self._fail(f"an acknowledgement of what was not sent: {error}")
            return
        if len(self._unread) > 100:
            self._fail(f"not an acknowledgement: {self._unread[:60]!r}")
        elif self._ending:
            self.end()
        elif not self._load.rate:
            self.fill()

    def connection_lost(self, error: Exception | None) -> None:
        if self._ending and not self._waiting and error is None:
            self.finished.set_result(None)
        else:
            self._fail(f"the connection was lost, {len(self._waiting)} frames unacknowledged: {error}")

    def _fail(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(ConnectionError(why))
        self._transport.abort()


async def _steadily(load: Load, supply: Iterator[Frame], senders: list[_Sender]) -> None:
    """Each frame when it is due, one connection after another."""
    chunk = 1 if PROTOCOLS[load.mode].one_event else load.chunk
    began, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * load.rate / chunk) + 1
        taken = list(islice(supply, due - sent))
        for number, sender in enumerate(senders):
            if mine := taken[(number - sent) % len(senders) :: len(senders)]:
                sender.send(mine)
        if len(taken) < due - sent or any(sender.finished.done() for sender in senders):
            break
        sent = due
        await asyncio.sleep(max(began + sent * chunk / load.rate - time.monotonic(), 0.001))
    for sender in senders:
        sender.end()


async def send(load: Load, sums: Sums) -> tuple[float, float]:
    """Send it all; wall and CPU seconds of that alone. ConnectionError where it is not acknowledged."""
    supply, loop = frames(load), asyncio.get_running_loop()
    senders = [
        (await loop.create_connection(lambda: _Sender(load, supply, sums), "127.0.0.1", load.port))[1]
        for _ in range(load.connections)
    ]
    began, cpu = time.monotonic(), time.process_time()
    if load.rate:
        await _steadily(load, supply, senders)
    else:
        for sender in senders:
            sender.fill()
    ends = await asyncio.gather(*(sender.finished for sender in senders), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
    return time.monotonic() - began, time.process_time() - cpu


def main() -> None:
    """Send and print the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=count, required=True)
    parser.add_argument("--chunk", type=count, default=1000, help="events in a frame")
    parser.add_argument("--mode", choices=PROTOCOLS, default="packed")
    parser.add_argument("--no-ack", dest="ack", action="store_false")
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; 0 is as fast as it goes")
    parser.add_argument("--connections", type=count, default=1)
    parser.add_argument("--window", type=int, default=0, help="frames unacknowledged at most, of each connection")
    parser.add_argument("--stamp", action="store_true", help="give each record the time it was sent: sent_ns")
    parser.add_argument("--tag", default="mcp.perf")
    parser.add_argument("--seed", type=int, default=0)
    load, sums = Load(**vars(parser.parse_args())), Sums()
    seconds = cpu = None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            seconds, cpu = runner.run(send(load, sums))
        except ConnectionError as error:
            sys.stderr.write(f"loadgen: {error}\n")
    found: dict[str, float | None] = {"events": sums.events, "acknowledged": sums.acknowledged if load.ack else None}
    found |= {"seconds": seconds, "cpu_seconds": cpu, "bytes": sums.bytes, "frames": sums.frames}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.exit(0 if seconds is not None else 1)


if __name__ == "__main__":
    main()
