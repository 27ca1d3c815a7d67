"""The whole way of an event in this process: the daemon's own parts, without sockets and without HTTP.

Frames are decoded as a connection of `forward` decodes them, emitted, carried through the chain, committed by a real
spool, delivered by the real delivery and the real `elasticsearch` output. In the place of its connection stands the
server of `perf/sink.py`, which gets the very requests; its CPU is a probe of its own, to be left out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from mcp_ingest.codecs.forward import Decoder
from mcp_ingest.codecs.forward_messages import decode_messages
from mcp_ingest.component import Emit
from mcp_ingest.config.load import load
from mcp_ingest.engine.daemon import Daemon
from mcp_ingest.event import Batch, Chunk, Progress, Stream
from mcp_ingest.inputs.forward.batches import Batches
from mcp_ingest.metrics import Metrics
from mcp_ingest.outputs.elasticsearch.access import Answer
from perf.loadgen import Load, chunk_ids
from perf.loadgen import frame as encoded
from perf.probes import Probes
from perf.program import Place, configuration
from perf.records import records
from perf.scenario import Scenario
from perf.sink import Server, Settings

SERVER = "the server"
DECODE = "decode of a frame to a batch's columns"
_OUTPUT = "elasticsearch"
_READ_BYTES = 256 * 1024
_ANSWER_SECONDS = 0.001
_POLL_SECONDS = 0.001

#: A batch, and the forward chunks that it brings.
_Emitted = tuple[Batch, Sequence[Chunk]]


def frames(count: int, events: int, seed: int = 0) -> list[bytes]:
    """So many packed frames of so many events, each but for its chunk id."""
    made = list(records(count * events, seed))
    now, loading = time.time_ns(), Load(0, 0)
    pairs = [(now + number, record) for number, record in enumerate(made)]
    return [encoded(loading, pairs[at : at + events]).pieces[0] for at in range(0, len(pairs), events)]


class Way:
    """An open daemon without sockets; see `opened`."""

    def __init__(self, daemon: Daemon, emit: Emit, probes: Probes) -> None:
        self._daemon = daemon
        self._emit = emit
        self._decode = probes.timed(DECODE, _decoded)

    async def through(self, sent: Sequence[bytes], lanes: int) -> float:
        """Carry the frames to their delivery, each lane the next when its last is durable; CPU seconds of all of it."""
        named = [data + chunk for data, chunk in zip(sent, chunk_ids(len(sent)), strict=True)]
        began = time.process_time()
        await asyncio.gather(*(self._lane(named[lane::lanes]) for lane in range(lanes)))
        while self._daemon.spool.held(_OUTPUT).events:  # noqa: ASYNC110  nobody tells when the last is settled
            await asyncio.sleep(_POLL_SECONDS)
        return time.process_time() - began

    async def _lane(self, sent: Sequence[bytes]) -> None:
        forward = self._daemon.graph.inputs["forward"].input
        decoder, stream = Decoder(), Stream()
        batches = Batches(forward.context, forward.config, "127.0.0.1")
        for data in sent:
            for batch, chunks in self._decode(decoder, batches, data):
                await self._emit(batch, Progress(stream, chunks=chunks))


def _decoded(decoder: Decoder, batches: Batches, data: bytes) -> list[_Emitted]:
    """What `inputs/forward/connection.py` does with the bytes that it reads."""
    view, made = memoryview(data), list[_Emitted]()
    while view:
        place = decoder.place()
        count = min(len(view), _READ_BYTES if place is None else len(place))
        if place is None:
            decoder.feed(view[:count])
        else:
            place[:count] = view[:count]
            decoder.filled(count)
        view = view[count:]
        made += _of_read(decoder, batches)
    return made


def _of_read(decoder: Decoder, batches: Batches) -> list[_Emitted]:
    received = time.time_ns()
    if (found := decoder.complete()) is not None:
        mode, count, length = found
        messages = decode_messages(mode, decoder.peek(length), count)
        if messages is not None:
            decoder.drop(length)
            return [batches.of_messages(messages, received)]
    return [(batch, [chunk]) for frame in decoder for batch, chunk in batches.of_chunk(frame, received)]


class _Connection:
    """In the place of the output's connection: the sink's answers, after a moment."""

    def __init__(self, probes: Probes) -> None:
        self._answer = probes.timed(SERVER, Server(Settings()).answer)

    async def request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """As the real one."""
        await asyncio.sleep(_ANSWER_SECONDS)
        said = self._answer(method, target, body or b"", "content-encoding" in (headers or {}))
        return Answer(said.status, said.body)

    async def close(self) -> None:
        """As the real one."""


@asynccontextmanager
async def opened(scenario: Scenario, directory: Path, probes: Probes) -> AsyncIterator[Way]:
    """The parts of the daemon that the scenario configures, put together as `Daemon.run` does, until the block ends."""
    path = directory / "mcp-ingest.yaml"
    path.write_text(yaml.safe_dump(configuration(scenario, Place(directory))))
    daemon = Daemon(load(str(path), {"MCP_ENVIRONMENT": "production"}), Metrics(), logging.getLogger("perf"))
    await daemon.spool.open()
    try:
        graph = daemon.graph
        graph.build()
        output: Any = graph.outputs[_OUTPUT]
        output._connection = _Connection(probes)
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(graph.ingest.run())
            delivery = group.create_task(graph.deliveries[_OUTPUT].run())
            try:
                yield Way(daemon, graph.ingest.emit_for("forward"), probes)
            finally:
                graph.ingest.drain()
                await asyncio.wait([pump])
                delivery.cancel()
    finally:
        await daemon.spool.close()
