"""One connection: bytes in, work under way, acks out in order, and how much of it memory has room for.

What one read brought is work: small frames of the common kind all together, with their acks; of others those
without a chunk id together, each with one alone. Works run side by
side, up to a bound; acks leave in the order of the frames. Reading stops while too much is under way, while the
memory budget has no room, or while the peer does not take its acks.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from mcp_ingest.codecs.forward import Decoder, Frame, encode_ack, encode_acks
from mcp_ingest.codecs.forward_messages import Messages, decode_messages
from mcp_ingest.component import Emit
from mcp_ingest.context import Context
from mcp_ingest.errors import DecodeError, IngestError, TooLargeError
from mcp_ingest.event import Batch, Chunk, Progress, Stream
from mcp_ingest.inputs.forward.batches import Batches, memory, memory_of
from mcp_ingest.metrics import CONNECTIONS, IGNORED_FRAMES, PROTOCOL_ERRORS

_WORKS = 8  # emits under way for one connection
_WORK_BYTES = 8 * 2**20  # bytes under way above which nothing more is read
_READ_BYTES = 256 * 1024
_LEAST_READ_BYTES = 4096
_UNRESERVED_SHARE = 8  # of the budget, this part may be read of frames without asking it, by all connections together
_FAREWELL_SECONDS = 5.0  # for a peer to take the last acks when the daemon stops
_LINGER_SECONDS = 1.0  # for a peer to read the last acks, where closing at once would reset the connection
_NAMES = 1024  # host names remembered

_Hold = Literal["works", "budget", "acks", "leaving"]
_SIGNALS = {1: "metrics", 2: "traces", 3: "blobs", 4: "profiles"}


@dataclass
class Shared:
    """What the connections of one input have in common."""

    settings: Any
    context: Context
    emit: Emit
    tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)  # entered by who runs the input
    connections: set[Connection] = field(default_factory=set)
    addresses: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)
    closed: bool = False  # who is accepted now comes too late
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_READ_BYTES)))
    window: memoryview = field(init=False)  # the part of it that a read may fill: the more connections, the less

    def __post_init__(self) -> None:
        self.window = self.buffer

    def add(self, connection: Connection) -> None:
        """A connection begins."""
        self.connections.add(connection)
        self._share()

    def discard(self, connection: Connection) -> None:
        """A connection is over, and nothing of it is under way any more."""
        self.connections.discard(connection)
        self._share()

    def _share(self) -> None:
        """What is read of a frame before its length is known to the budget, is bounded over all connections."""
        each = self.context.budget.limit // _UNRESERVED_SHARE // max(1, len(self.connections))
        self.window = self.buffer[: min(max(each, _LEAST_READ_BYTES), _READ_BYTES)]

    def change(self, settings: Any) -> None:
        """Go on with these settings, frames that come from now on."""
        self.settings = settings
        for connection in self.connections:
            connection.change(settings)

    async def finish(self) -> None:
        """Read nothing more, let what is under way become durable, acknowledge it, and close."""
        self.closed = True
        async with asyncio.TaskGroup() as farewells:
            for connection in list(self.connections):
                farewells.create_task(connection.finish())

    async def name_of(self, address: str) -> str:
        """The host name by reverse DNS, or the address where there is none."""
        if address not in self.names:
            if len(self.names) >= _NAMES:
                self.names.clear()
            try:
                loop = asyncio.get_running_loop()
                self.names[address] = (await loop.getnameinfo((address, 0), socket.NI_NAMEREQD))[0]
            except OSError:
                self.names[address] = address
        return self.names[address]


@dataclass(eq=False, slots=True)
class _Work:
    """Frames on their way: several without a chunk id, or one with, or one that is only to be acknowledged.

    Or `messages`, decoded already. `size` is in bytes, packed.
    """

    frames: list[Frame]
    received: int
    ack: bytes | None = None
    reserved: int = 0
    messages: Messages | None = None
    size: int = 0
    state: Literal["under way", "done", "failed"] = "under way"


class Connection(asyncio.BufferedProtocol):
    """The protocol object of asyncio; everything in it happens in the event loop's thread."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._context = shared.context
        self._decoder = Decoder(shared.settings.max_frame_bytes)
        self._stream = Stream()
        self._works: deque[_Work] = deque()
        self._under_way = asyncio.Semaphore(_WORKS)
        self._holds: set[_Hold] = set()
        self._reserved = 0  # for the unfinished frame
        self._reserving = False
        self._waiting = 0  # for the budget
        self._read = 0
        self._place: memoryview | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = self._failed = False
        self._ended = self._lingering = False  # nothing more comes from the peer, from us
        self._gone = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # --- asyncio's side ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else "unknown"
        self._batches = Batches(self._context, self._shared.settings, self._peer)
        self._shared.add(self)
        self._shared.addresses[self._peer] += 1
        self._context.metrics.gauge(CONNECTIONS, input=self._context.name).inc()
        if self._shared.closed:
            self._leaving = True
            self._transport.abort()
        limit = self._shared.settings.max_connections_per_address
        if limit and self._shared.addresses[self._peer] > limit:
            self._refuse("too_many", f"it has {limit} connections already")

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio: one buffer for all connections, but a large frame's body goes straight to its place."""
        self._place = None if self._leaving else self._decoder.place()
        return self._shared.window if self._place is None else self._place

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        if self._leaving:
            return
        self._read += nbytes
        if self._place is None:
            self._decoder.feed(self._shared.buffer[:nbytes])
        else:
            self._place = None
            self._decoder.filled(nbytes)
        works, error = self._works_of_read()
        if works:
            self._start(works)
        if error:
            self._refuse_for(error)
        else:
            self._reserve_rest()

    def eof_received(self) -> bool:
        """See asyncio: what is under way is acknowledged, as long as the peer still listens."""
        if self._decoder.buffered and not self._leaving:
            self._complain("cut_off", "it ended in the middle of a frame")
        self._ended = True
        self._leave()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._decoder.buffered and not self._leaving:
            self._complain("cut_off", "it broke off in the middle of a frame")
        self._leaving = True
        self._give_back()
        self._context.metrics.gauge(CONNECTIONS, input=self._context.name).dec()
        self._shared.addresses[self._peer] -= 1
        if not self._shared.addresses[self._peer]:
            del self._shared.addresses[self._peer]
        self._gone.set()
        self._forget()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._hold("acks")

    def resume_writing(self) -> None:
        """See asyncio."""
        self._release("acks")

    def change(self, settings: Any) -> None:
        """Other settings for what comes from now on."""
        self._decoder.max_frame_bytes = settings.max_frame_bytes
        self._batches.change(settings)

    # --- frames to work ------------------------------------------------------------------------------------

    def _works_of_read(self) -> tuple[list[_Work], DecodeError | None]:
        """The frames that are complete now, as work, and what is wrong with what follows them."""
        works: list[_Work] = []
        frames: list[Frame] = []
        wrong: DecodeError | None = None
        received = self._context.clock.time_ns()
        try:
            if (messages := self._messages(received)) is not None:
                works.append(messages)
            frames.extend(self._decoder)  # what came before an error stays in the list
        except DecodeError as error:
            wrong = error
        if frames:
            others = self._works_of(frames, received)
            if others and others[0].frames[0] is frames[0] and not works:  # reserved while it was read
                others[0].reserved, self._reserved = self._reserved, 0
            works += others
        if works:
            self._give_back()
        return works, wrong

    def _messages(self, received: int) -> _Work | None:
        """All small frames at once, if they are of the common kind and memory has room for them now."""
        found = self._decoder.complete()
        if found is None or found[2] > self._decoder.max_frame_bytes:
            return None
        mode, count, length = found
        reserved = memory_of(length)
        if not self._context.budget.take_now(reserved):
            return None
        messages = decode_messages(mode, self._decoder.peek(length), count)
        if messages is None:
            self._context.budget.give(reserved)
            return None
        self._decoder.drop(length)
        ack = encode_acks(messages.chunks) if messages.chunks else None
        return _Work([], received, ack, reserved, messages, length)

    def _start(self, works: list[_Work]) -> None:
        for work in works:
            work.size = work.size or sum(frame.length for frame in work.frames)
            self._works.append(work)
            self._idle.clear()
            self._shared.tasks.create_task(self._carry(work))
        self._weigh()

    def _works_of(self, frames: list[Frame], received: int) -> list[_Work]:
        loose = _Work([], received)
        works: list[_Work] = []
        for frame in frames:
            chunk = frame.option.chunk
            if frame.option.signal:
                signal = _SIGNALS.get(frame.option.signal, "unknown")
                self._context.metrics.counter(IGNORED_FRAMES, input=self._context.name, signal=signal).inc()
            if chunk is not None:
                ack = encode_ack(chunk, as_json=self._decoder.is_json)
                works.append(_Work([frame], received, ack))
            elif not frame.option.signal:
                loose.frames.append(frame)
        return [loose, *works] if loose.frames else works

    async def _carry(self, work: _Work) -> None:
        """Decode, emit, and note how it ended; what a peer sends must not end the daemon."""
        try:
            async with self._under_way:
                work.reserved = work.reserved or await self._take(memory(work.frames))
                try:
                    await self._name_sender()
                    for batch, chunks in self._batches_of(work):
                        await self._shared.emit(batch, Progress(self._stream, chunks=chunks))
                finally:
                    self._context.budget.give(work.reserved)
            work.state = "done"
        except DecodeError as error:
            self._fail(work)
            self._refuse_for(error)
        except IngestError as error:
            self._fail(work)
            self._context.logger.warning("%s: not taken from %s: %s", self._context.name, self._peer, error)
        except Exception:
            self._fail(work)
            self._context.logger.exception("%s: not taken from %s", self._context.name, self._peer)
        self._settle()

    def _batches_of(self, work: _Work) -> Iterable[tuple[Batch, Sequence[Chunk]]]:
        if work.messages:
            messages, work.messages = work.messages, None  # the records are the batch's alone
            return [self._batches.of_messages(messages, work.received)]
        if work.ack is None:
            return ((batch, ()) for batch in self._batches.of_loose(work.frames, work.received))
        if work.frames[0].option.signal:
            return ()
        return ((batch, [chunk]) for batch, chunk in self._batches.of_chunk(work.frames[0], work.received))

    async def _name_sender(self) -> None:
        settings, fields = self._shared.settings, self._batches.fields
        if settings.source_address_key:
            fields[settings.source_address_key] = self._peer
        if settings.source_hostname_key and settings.source_hostname_key not in fields:
            fields[settings.source_hostname_key] = await self._shared.name_of(self._peer)

    # --- how work ends -------------------------------------------------------------------------------------

    def _fail(self, work: _Work) -> None:
        work.state = "failed"
        self._hold("leaving")
        self._leaving = True

    def _settle(self) -> None:
        """Acknowledge what is done, in order, each in one write; close behind what failed."""
        acks: list[bytes] = []
        while self._works and self._works[0].state != "under way":
            work = self._works.popleft()
            if work.state == "failed":
                self._failed = True
            if work.ack is not None and not self._failed and not self._gone.is_set():
                acks.append(work.ack)
        if acks:
            self._transport.write(b"".join(acks))
        if not self._works:
            self._idle.set()
        if self._failed or (self._leaving and not self._works):
            self._close(bool(acks))
        self._weigh()
        self._forget()

    def _close(self, acknowledged: bool) -> None:
        """Close now, or a little later: what is unread would reset the connection, and the last acks be lost."""
        if self._lingering and not self._ended:
            return
        if not acknowledged or self._ended or self._transport.is_closing() or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingering = True
        try:
            self._transport.write_eof()
        except OSError:  # the peer went away, and nobody has told us yet
            self._transport.close()
            return
        self._transport.resume_reading()  # it is thrown away
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.close)

    def _forget(self) -> None:
        if self._gone.is_set() and not self._works:
            self._shared.discard(self)

    def _leave(self) -> None:
        """Read nothing more, and close when all under way is settled."""
        self._leaving = True
        self._hold("leaving")
        self._give_back()
        self._settle()

    async def finish(self) -> None:
        """Read nothing more; return when all under way is settled and the connection is closed."""
        self._leave()
        await self._idle.wait()
        try:
            await asyncio.wait_for(self._gone.wait(), _FAREWELL_SECONDS)
        except TimeoutError:
            self._transport.abort()

    def _refuse_for(self, error: DecodeError) -> None:
        self._refuse("too_large" if isinstance(error, TooLargeError) else "garbage", str(error))

    def _refuse(self, reason: str, why: str) -> None:
        self._complain(reason, why)
        self._leave()

    def _complain(self, reason: str, why: str) -> None:
        self._context.metrics.counter(PROTOCOL_ERRORS, input=self._context.name, reason=reason).inc()
        self._context.logger.warning("%s: closed the connection from %s: %s", self._context.name, self._peer, why)

    # --- how much is read ----------------------------------------------------------------------------------

    def _hold(self, why: _Hold) -> None:
        if not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds.add(why)

    def _release(self, why: _Hold) -> None:
        if why not in self._holds:
            return
        self._holds.discard(why)
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()

    def _weigh(self) -> None:
        """Stop reading while too much is under way."""
        full = len(self._works) > _WORKS or sum(work.size for work in self._works) > _WORK_BYTES
        if full:
            self._hold("works")
        else:
            self._release("works")

    async def _take(self, count: int) -> int:
        """Wait for room in the budget, and read nothing while waiting; returns what was taken."""
        budget = self._context.budget
        if budget.used and budget.used + count > budget.limit:
            self._hold("budget")
        self._waiting += 1
        await budget.take(count)
        self._waiting -= 1
        if not self._waiting:
            self._release("budget")
        return count

    def _reserve_rest(self) -> None:
        """Ask the budget for the whole of a frame that has only begun, before its body is read.

        Where its length is not known (Forward mode) twice of what is there, again and again: what is held is given
        back first, so that nobody holds memory while waiting for more.
        """
        buffered, needed = self._decoder.buffered, self._decoder.needed
        length = max(needed, 1 << buffered.bit_length() if buffered > needed else 0)
        if (
            buffered
            and length > len(self._shared.window)
            and memory_of(length) > self._reserved
            and not self._reserving
        ):
            self._give_back()
            self._reserving = True
            self._hold("budget")
            self._shared.tasks.create_task(self._reserve(memory_of(length)))

    async def _reserve(self, count: int) -> None:
        self._reserved = await self._take(count)
        self._reserving = False
        if self._leaving or not self._decoder.buffered:
            self._give_back()
        self._watch()

    def _give_back(self) -> None:
        held, self._reserved = self._reserved, 0
        if held:
            self._context.budget.give(held)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _watch(self, read: int = -1) -> None:
        """Close the connection when it holds memory for a frame of which nothing more comes."""
        self._timer = None
        if not self._reserved or self._leaving:
            return
        if read == self._read and not self._holds:
            self._refuse("stalled", "nothing more came of a frame that had begun")
            return
        later = asyncio.get_running_loop().call_later
        self._timer = later(self._shared.settings.stalled_timeout, self._watch, self._read)
