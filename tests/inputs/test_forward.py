"""The forward input on real loopback sockets, on asyncio's loop and on uvloop, with an `emit` in memory."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from fluent import handler, sender

from mcp_ingest.codecs.compression import compress_gzip
from mcp_ingest.codecs.forward import (
    encode_ack,
    encode_forward,
    encode_message,
    encode_packed,
    event_time,
    pack_entries,
)
from mcp_ingest.component import Emit, find
from mcp_ingest.context import Budget, Context
from mcp_ingest.errors import IngestError, SpoolError
from mcp_ingest.event import PREFIX_BYTES, Batch, ChunkSlice, Progress, hashed_prefix, id_prefix
from mcp_ingest.inputs.forward import Forward
from mcp_ingest.inputs.forward.batches import memory_of
from mcp_ingest.inputs.forward.connection import Connection, Shared
from mcp_ingest.metrics import CONNECTIONS

TIME = 1_700_000_000_123_456_789
RECORD = {"message": "hi"}
CHUNK = base64.b64encode(bytes(range(16)))


class Engine:
    """An `emit` that keeps what it gets; while `open` is cleared it waits, and it raises `error`."""

    def __init__(self) -> None:
        self.emits: list[tuple[Batch, Progress]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: BaseException | None = None
        self.waiting = 0

    async def emit(self, batch: Batch, progress: Progress | None = None) -> None:
        assert progress is not None
        self.emits.append((batch, progress))
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        if self.error:
            raise self.error

    @property
    def whole(self) -> Batch:
        return Batch.merge(batch for batch, _ in self.emits)

    @property
    def rejected(self) -> list[tuple[Any, str, str]]:
        return [(r.record, r.tag, r.why) for batch, _ in self.emits for r in batch.outcome.rejected]


class Running:
    """A forward input that listens, its engine, and what it was handed."""

    def __init__(self, settings: dict[str, Any], budget: int) -> None:
        self.engine = Engine()
        self.ready: list[str] = []
        self.context = Context("forward", ready=self.ready.append, budget=Budget(budget))
        self.input = Forward(Forward.Config(**{"host": "127.0.0.1", "port": 0, **settings}), self.context)
        self.task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return int(self.ready[0].rpartition(":")[2])

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def errors(self, reason: str) -> float:
        labels = {"input": "forward", "reason": reason}
        return self.context.metrics.registry.get_sample_value("mcp_ingest_protocol_errors_total", labels) or 0

    def open_connections(self) -> float | None:
        return self.context.metrics.registry.get_sample_value("mcp_ingest_connections", {"input": "forward"})


async def until(condition: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)  # what is waited for happens inside of what is tested: it has no event


@asynccontextmanager
async def running(budget: int = 2**28, emit: Emit | None = None, **settings: Any) -> AsyncIterator[Running]:
    there = Running(settings, budget)
    async with asyncio.TaskGroup() as tasks:
        there.task = tasks.create_task(there.input.run(emit or there.engine.emit))
        await until(lambda: there.ready)
        try:
            yield there
        finally:
            there.engine.open.set()
            there.task.cancel()
    assert there.context.budget.used == 0


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What came until the peer closed."""
    async with asyncio.timeout(10):
        return await reader.read()


def packed(n: int = 1, chunk: bytes | None = None, tag: str = "app.x", **more: Any) -> bytes:
    return encode_packed(tag, pack_entries((TIME + i, {"n": i}) for i in range(n)), chunk=chunk, size=n, **more)


# --- what arrives ------------------------------------------------------------------------------------------


async def test_each_mode_arrives_and_is_acknowledged() -> None:
    """Every mode, with an ack and without, brings its events; acks come in the order of the frames."""
    gzip, chunks = "gzip", [b"a\n", b"b", b"c", b"d"]
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(encode_message("m", TIME, RECORD, chunks[0]) + encode_message("m", TIME, RECORD))
        writer.write(encode_forward("f", [(TIME, RECORD)] * 2, chunks[1]) + encode_forward("f", [(TIME, RECORD)]))
        writer.write(packed(3, chunks[2], "p") + packed(1, None, "p"))
        writer.write(packed(2, chunks[3], "c", compressed=gzip) + packed(1, None, "c", compressed=gzip))
        expected = b"".join(map(encode_ack, chunks))
        assert await reader.readexactly(len(expected)) == expected
        await until(lambda: len(there.engine.whole) == 12)
        assert sorted(there.engine.whole.tags) == sorted("mm" + "fff" + "pppp" + "ccc")
        assert set(there.engine.whole.times) <= {TIME, TIME + 1, TIME + 2}
        writer.close()


async def test_one_read_is_one_batch() -> None:
    """Frames without a chunk id that come together are one emit with a column of tags."""
    async with running() as there:
        _, writer = await there.connect()
        writer.write(encode_message("a", TIME, {"n": 0}) + encode_message("b", TIME, {"n": 1}) + packed(2, tag="c"))
        await until(lambda: there.engine.emits)
        (batch, progress), *others = there.engine.emits
        assert others == []
        assert (batch.tags, batch.positions) == (["a", "b", "c", "c"], [0, 1, 2, 3])
        assert progress.chunks == ()
        assert batch.size > 0
        assert batch.origins[0].metadata["peer_address"] == "127.0.0.1"
        writer.close()


@pytest.mark.parametrize(
    "encode",
    [
        lambda n, chunk: encode_message(f"t{n}", TIME + n, {"n": n}, chunk),
        lambda n, chunk: encode_forward(f"t{n}", [(TIME + n, {"n": n})] * (n % 3 + 1), chunk),
        lambda n, chunk: packed(n % 3 + 1, chunk, f"t{n}"),
    ],
    ids=["message", "forward", "packed"],
)
async def test_small_chunks_of_one_read_are_one_batch(encode: Callable[[int, bytes | None], bytes]) -> None:
    """One emit has all of them, a run with its own ids for each, and the acks come in order."""
    chunks = [base64.b64encode(os.urandom(16)) + b"\n" * (n % 2) for n in range(40)]
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(b"".join(encode(n, chunk) for n, chunk in enumerate(chunks)))
        expected = b"".join(map(encode_ack, chunks))
        assert await reader.readexactly(len(expected)) == expected
        ((batch, progress),) = there.engine.emits
        assert [*map(type, progress.chunks)] == [bytes] * 40
        assert len(set(progress.chunks)) == len(batch.origins) == len(batch.ends) == 40
        assert [origin.prefix for origin in batch.origins] == [hashed_prefix(chunk) for chunk in chunks]
        for number, (_, start, end) in enumerate(batch.runs()):
            assert set(batch.tags[start:end]) == {f"t{number}"}
            assert batch.positions[start:end] == [*range(end - start)]
        assert len(batch.ids()) == len(set(batch.ids())) == len(batch.times) == len(batch)
        assert batch.size > 0
        alone = [encode(n, chunk) for n, chunk in enumerate(chunks)][:6]
        ids = batch.ids()
        for frame in alone:  # each again, cut in two
            writer.write(frame[:-3])
            await asyncio.sleep(0.01)
            writer.write(frame[-3:])
            await asyncio.sleep(0.01)
        await until(lambda: len(there.engine.emits) == 7)
        again = [event_id for batch, _ in there.engine.emits[1:] for event_id in batch.ids()]
        assert again == ids[: len(again)]
        digests = [progress.chunks[0] for _, progress in there.engine.emits[1:]]
        assert digests == progress.chunks[:6]
        writer.close()


async def test_small_frames_of_other_kinds_are_read_one_by_one() -> None:
    """A bad record, an option or a time of its own among small frames: each is what it is alone, acks in order."""
    entries = pack_entries([(TIME, RECORD)])
    frames = [
        encode_message("a", TIME, {"n": 1}, b"c0"),
        msgpack.packb(["b", 1, {"bytes": b"x"}, {"chunk": "c1"}]),
        msgpack.packb(["c", 1, [7], {"chunk": "c2"}]),
        msgpack.packb(["d", 1, {"n": 1}, {"chunk": "c3", "metadata": {"k": 1}}]),
        encode_packed("e", entries * 2, chunk=b"c4", size=1),
        b"\xc0" + encode_forward("f", [(TIME, RECORD)], b"c5"),
        encode_packed("g", entries, chunk=b"c6", compressed="gzip", size=1),
        msgpack.packb(["h", 1.5, {"n": 1}, {"chunk": b"c7"}]),
        encode_message("i", TIME, {"n": 1}, b"c8"),
    ]
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(b"".join(frames))
        expected = b"".join(encode_ack(b"c%d" % n) for n in range(len(frames)))
        assert await reader.readexactly(len(expected)) == expected
        assert there.engine.rejected == [([7], "c", "undecodable")]
        assert sorted(there.engine.whole.tags) == [*"abdeefghi"]
        writer.close()


async def test_garbage_behind_small_frames_keeps_them() -> None:
    """What came before is acknowledged, then the connection is closed."""
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(encode_message("a", TIME, RECORD, b"c0") + encode_message("a", TIME, RECORD, b"c1") + b"\x01\x02")
        assert await closed(reader) == encode_ack(b"c0") + encode_ack(b"c1")
        assert there.errors("garbage") == 1
        assert len(there.engine.whole) == 2
        writer.close()


async def test_small_frames_wait_for_the_budget() -> None:
    """While memory has no room they are not decoded; everything arrives afterwards."""
    async with running(budget=100_000) as there:
        budget = there.context.budget
        await budget.take(budget.limit)
        reader, writer = await there.connect()
        writer.write(b"".join(encode_message("a", TIME, {"n": n}, b"c%d" % n) for n in range(5)))
        await asyncio.sleep(0.05)
        assert there.engine.emits == []
        budget.give(budget.limit)
        expected = b"".join(encode_ack(b"c%d" % n) for n in range(5))
        assert await reader.readexactly(len(expected)) == expected
        assert [record["n"] for record in there.engine.whole.records] == [0, 1, 2, 3, 4]
        writer.close()


async def test_small_frames_without_a_chunk_id_go_on_counting() -> None:
    """Messages without ids of a connection get one prefix and a sequence over all its reads."""
    async with running(tag_prefix="edge", source_address_key="ip") as there:
        _, writer = await there.connect()
        for n in range(3):
            writer.write(encode_message("a", TIME, {"n": n}) * 2)
            await until(lambda n=n: len(there.engine.emits) == n + 1)  # type: ignore[misc]
        assert there.engine.whole.positions == [0, 1, 2, 3, 4, 5]
        assert len({origin.prefix for origin in there.engine.whole.origins}) == 1
        assert set(there.engine.whole.tags) == {"edge.a"}
        assert [record["ip"] for record in there.engine.whole.records] == ["127.0.0.1"] * 6
        writer.close()


async def test_bytes_may_come_one_by_one() -> None:
    """A slow sender's frames arrive like a quick one's."""
    async with running() as there:
        reader, writer = await there.connect()
        for byte in packed(2, CHUNK) + b"\xc0" + encode_message("m", TIME, RECORD):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(len(encode_ack(CHUNK))) == encode_ack(CHUNK)
        await until(lambda: len(there.engine.whole) == 3)
        writer.close()


async def test_json_on_the_port() -> None:
    """A connection that speaks JSON is acknowledged in JSON."""
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(b'["app.x", 1700000000, {"message": "hi"}, {"chunk": "c1"}]\n')
        assert await reader.readexactly(12) == b'{"ack":"c1"}'
        assert there.engine.whole.records == [RECORD]
        writer.close()


async def test_fluent_logger_as_its_users_use_it() -> None:
    """PyPI's fluent-logger arrives: maps with and without nanoseconds, and the string that a plain Formatter sends."""
    async with running() as there:

        def send() -> None:
            for precise in (False, True):
                client = sender.FluentSender("mcp", port=there.port, host="127.0.0.1", nanosecond_precision=precise)
                assert client.emit("label", {"message": "map"})
                client.close()
            plain = handler.FluentHandler("mcp", host="127.0.0.1", port=there.port)
            plain.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
            mapped = handler.FluentHandler("mcp", host="127.0.0.1", port=there.port)
            mapped.setFormatter(handler.FluentRecordFormatter({"level": "%(levelname)s"}))
            for each in (plain, mapped):
                each.handle(logging.LogRecord("service", logging.WARNING, "f", 1, "text %s", ("x",), None))
                each.close()

        await asyncio.to_thread(send)
        await until(lambda: len(there.engine.whole) == 4)
        events = list(zip(there.engine.whole.tags, there.engine.whole.records, strict=True))
        assert events.count(("mcp.label", {"message": "map"})) == 2
        assert ("mcp", {"message": "service WARNING text x"}) in events
        assert ("mcp", {"level": "WARNING", "message": "text x"}) in events
        assert any(time_ns % 10**9 for time_ns in there.engine.whole.times)


async def test_bad_entries_are_handed_in_and_acknowledged() -> None:
    """One bad entry is rejected with its place, its neighbours arrive, and what JSON cannot hold is counted."""
    payload = pack_entries([(TIME, RECORD)]) + msgpack.packb([1, [5]]) + msgpack.packb([1, {"b": b"in"}])
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(encode_packed("t", payload, chunk=CHUNK) + msgpack.packb(["m", 1, 7]))
        assert await reader.readexactly(len(encode_ack(CHUNK))) == encode_ack(CHUNK)
        await until(lambda: len(there.engine.rejected) == 2)
        batch = next(batch for batch, progress in there.engine.emits if progress.chunks)
        assert batch.records == [RECORD, {"b": "in"}]
        assert batch.positions == [0, 2]
        assert [r.position for r in batch.outcome.rejected] == [1]
        assert sorted(there.engine.rejected, key=str) == [(7, "m", "undecodable"), ([5], "t", "undecodable")]
        sample = there.context.metrics.registry.get_sample_value
        assert sample("mcp_ingest_sanitized_values_total", {"input": "forward"}) == 1
        writer.close()


async def test_metrics_and_traces_are_acknowledged_and_dropped() -> None:
    """A frame with a `fluent_signal` is counted, acknowledged in its turn, and never parsed."""
    option = {"chunk": "c2", "fluent_signal": 1}
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(packed(1, b"c1") + msgpack.packb(["m", b"\xc1 no entries", option]))
        writer.write(msgpack.packb(["m", b"\xc1", {"fluent_signal": 9}]) + packed(1, b"c3"))
        expected = encode_ack(b"c1") + encode_ack(b"c2") + encode_ack(b"c3")
        assert await reader.readexactly(len(expected)) == expected
        assert len(there.engine.emits) == 2
        sample = there.context.metrics.registry.get_sample_value
        for signal in ("metrics", "unknown"):
            assert sample("mcp_ingest_ignored_frames_total", {"input": "forward", "signal": signal}) == 1
        writer.close()


async def test_an_empty_chunk_is_acknowledged() -> None:
    """There is nothing to make durable, so nothing is emitted."""
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(encode_forward("t", [], CHUNK))
        assert await reader.readexactly(len(encode_ack(CHUNK))) == encode_ack(CHUNK)
        assert there.engine.emits == []
        writer.close()


async def test_tags_and_source_fields() -> None:
    """`tag_prefix` goes before a tag, `tag` replaces it, and the source's address and name become fields."""
    async with running(tag_prefix="edge", source_address_key="ip", source_hostname_key="name") as there:
        _, writer = await there.connect()
        writer.write(encode_message("a", TIME, {"ip": "said"}))
        await until(lambda: there.engine.emits)
        assert there.engine.whole.tags == ["edge.a"]
        (record,) = there.engine.whole.records
        assert record["ip"] == "127.0.0.1"
        assert record["name"]
        writer.close()
    async with running(tag="mine") as there:
        _, writer = await there.connect()
        writer.write(encode_message("a", TIME, RECORD) + packed(1, CHUNK))
        await until(lambda: len(there.engine.emits) == 2)
        assert there.engine.whole.tags == ["mine", "mine"]
        writer.close()


# --- ids ---------------------------------------------------------------------------------------------------


async def test_a_chunk_that_comes_again_has_the_same_ids() -> None:
    """A random chunk id alone names the events; any other only with the tag and the sender's address."""
    async with running() as there:
        for chunk, tag in ((CHUNK, "a"), (CHUNK, "a"), (CHUNK, "b"), (b"hash", "a"), (b"hash", "a"), (b"hash", "b")):
            reader, writer = await there.connect()
            writer.write(packed(2, chunk, tag))
            await reader.readexactly(len(encode_ack(chunk)))
            writer.close()
        ids = [tuple(batch.ids()) for batch, _ in there.engine.emits]
        assert ids[0] == ids[1] == ids[2]
        assert ids[3] == ids[4] != ids[5]
        assert len({*ids}) == 3
        assert ids[0][0].startswith(hashed_prefix(CHUNK))
        forward = Forward(Forward.Config(), Context("forward"))
        names = [(0, CHUNK, None, None), (3, b"hash", "a", "127.0.0.1"), (5, b"hash", "b", "127.0.0.1")]
        for place, chunk, its_tag, peer in names:
            prefix = forward.prefix_of(chunk.decode(), its_tag, peer)
            assert prefix is not None
            assert ids[place][0].startswith(id_prefix(prefix))
        digests = [chunk for _, progress in there.engine.emits for chunk in progress.chunks]
        assert [digests.index(digest) for digest in digests] == [0, 0, 0, 3, 3, 5]
        assert {len(digest) for digest in digests if isinstance(digest, bytes)} == {16}


async def test_without_a_chunk_id_every_event_is_new() -> None:
    """The connection's uid and a sequence make ids that never repeat, over several reads and connections."""
    async with running() as there:
        for _ in range(2):
            _, writer = await there.connect()
            for n in range(3):
                before = len(there.engine.whole)
                writer.write(packed(n + 1) + msgpack.packb(["m", 1, 5]) + packed(1))
                await until(lambda before=before, n=n: len(there.engine.whole) == before + n + 2)  # type: ignore[misc]
            writer.close()
        ids = there.engine.whole.ids()
        assert len({*ids}) == len(ids) == 18
        assert {len(one) for one in ids} == {(PREFIX_BYTES + 6) // 3 * 4}


async def test_a_large_chunk_goes_in_slices() -> None:
    """Each slice is an emit of its own, one after the other, and says how far it got; the ack comes at the end."""
    count = 25_000
    async with running() as there:
        there.engine.open.clear()
        reader, writer = await there.connect()
        writer.write(packed(count, CHUNK))
        await until(lambda: there.engine.emits)
        await asyncio.sleep(0.05)
        assert there.engine.waiting == len(there.engine.emits) == 1
        there.engine.open.set()
        assert await reader.readexactly(len(encode_ack(CHUNK))) == encode_ack(CHUNK)
        slices = [chunk for _, progress in there.engine.emits for chunk in progress.chunks]
        assert len(slices) > 1
        assert all(isinstance(each, ChunkSlice) for each in slices)
        assert [s.last for s in slices if isinstance(s, ChunkSlice)] == [False] * (len(slices) - 1) + [True]
        assert [s.start for s in slices if isinstance(s, ChunkSlice)] == [
            batch.positions[0] for batch, _ in there.engine.emits
        ]
        assert there.engine.whole.positions == list(range(count))
        writer.close()


# --- acks, failure, order ----------------------------------------------------------------------------------


async def test_the_ack_waits_for_the_commit() -> None:
    """Nothing is written before `emit` has returned."""
    async with running() as there:
        there.engine.open.clear()
        reader, writer = await there.connect()
        writer.write(packed(1, CHUNK))
        await until(lambda: there.engine.waiting)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        there.engine.open.set()
        assert await reader.readexactly(len(encode_ack(CHUNK))) == encode_ack(CHUNK)
        writer.close()


async def test_acks_keep_the_order_of_the_frames() -> None:
    """Emits run side by side, and an earlier frame's ack comes first even if it is durable last."""
    doors = {n: asyncio.Event() for n in range(3)}
    started: list[int] = []

    async def slow(batch: Batch, progress: Progress | None = None) -> None:
        started.append(batch.records[0]["n"])
        await doors[started[-1]].wait()

    async with running(emit=slow) as there:
        reader, writer = await there.connect()
        for n in range(3):  # what one read brings is one emit
            writer.write(encode_message("t", TIME, {"n": n}, b"c%d" % n))
            await until(lambda n=n: started == [*range(n + 1)])  # type: ignore[misc]
        doors[2].set()
        doors[1].set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        doors[0].set()
        expected = b"".join(encode_ack(b"c%d" % n) for n in range(3))
        assert await reader.readexactly(len(expected)) == expected
        writer.close()


@pytest.mark.parametrize("error", [SpoolError("the disk is gone"), RuntimeError("a mistake of ours")])
async def test_a_failed_emit_closes_without_an_ack(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What was acknowledged before stays so; the failed frame and all behind it get no ack, and the input goes on."""
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(packed(1, b"good"))
        assert await reader.readexactly(len(encode_ack(b"good"))) == encode_ack(b"good")
        there.engine.error = error
        writer.write(packed(1, b"bad1") + packed(1, b"bad2"))
        assert await closed(reader) == b""
        there.engine.error = None
        assert str(error) in caplog.text
        writer.close()
        reader, writer = await there.connect()
        writer.write(packed(1, b"bad1"))
        assert await reader.readexactly(len(encode_ack(b"bad1"))) == encode_ack(b"bad1")
        writer.close()


async def test_the_stream_is_the_connection_s() -> None:
    """All emits of a connection share a stream, so that none commits behind one that failed."""
    async with running() as there:
        for _ in range(2):
            reader, writer = await there.connect()
            for chunk in (b"a", b"b"):
                writer.write(packed(1, chunk))
                await reader.readexactly(len(encode_ack(chunk)))
            writer.close()
        streams = [progress.stream for _, progress in there.engine.emits]
        assert streams[0] is streams[1]
        assert streams[2] is streams[3]
        assert streams[0] is not streams[2]


async def test_a_half_closed_connection_gets_its_acks() -> None:
    """Who sends all and closes its side is acknowledged before the connection closes."""
    async with running() as there:
        there.engine.open.clear()
        reader, writer = await there.connect()
        writer.write(packed(1, CHUNK))
        writer.write_eof()
        await until(lambda: there.engine.waiting)
        there.engine.open.set()
        assert await closed(reader) == encode_ack(CHUNK)
        writer.close()


# --- strangers and broken peers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "garbage"),
        (os.urandom(0) + b"\xff" * 100, "garbage"),
        (b"\x93\xa1a\xdb\x7f\xff\xff\xff", "too_large"),
        (b'["a", {}]', "garbage"),
        (encode_packed("t", compress_gzip(b"x" * 100)[:-2], chunk=CHUNK), "garbage"),
        (encode_packed("t", compress_gzip(bytes(3_000_000)), chunk=CHUNK), "too_large"),
    ],
    ids=["HTTP", "noise", "declared length", "JSON", "cut gzip", "bomb"],
)
async def test_what_is_not_the_protocol(data: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log with the peer and why, the connection closed without an ack, frames before it kept."""
    async with running(max_frame_bytes=1_000_000) as there:
        for expected in (1, 2):
            reader, writer = await there.connect()
            before = packed(1, b"before") if not data.startswith(b"[") else b""
            writer.write(before + data)
            assert await closed(reader) == (encode_ack(b"before") if before else b"")
            writer.close()
            assert there.errors(reason) == expected
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) == 2
        assert "127.0.0.1" in lines[0]
        await until(lambda: there.open_connections() == 0)


async def test_a_cut_frame_is_counted() -> None:
    """A connection that ends in the middle of a frame loses that frame alone, and is counted."""
    async with running() as there:
        reader, writer = await there.connect()
        writer.write(packed(1, b"whole") + packed(9, b"cut")[:-5])
        writer.write_eof()
        assert await closed(reader) == encode_ack(b"whole")
        assert there.errors("cut_off") == 1
        writer.close()
        reader, writer = await there.connect()
        writer.write(packed(9, b"cut")[:-5])
        await writer.drain()
        await asyncio.sleep(0.05)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await until(lambda: there.errors("cut_off") == 2)


async def test_heartbeats_are_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Connections that open and close, nil, `["", []]` and the UDP byte: answered where that is due, never logged."""
    async with running() as there:
        for n in range(100):
            _, writer = await there.connect()
            writer.write([b"", b"\xc0", b"\x92\xa0\x90"][n % 3])
            writer.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", there.port))
            loop = asyncio.get_running_loop()
            client.send(b"\0")
            client.send(b"other")
            client.send(b"\0")
            for _ in range(2):
                assert await asyncio.wait_for(loop.sock_recv(client, 100), 5) == b"\0"
        await until(lambda: there.open_connections() == 0)
        assert there.engine.emits == []
        assert caplog.records == []


async def test_too_many_connections_of_one_address() -> None:
    """The one over the limit is closed and counted, the others stay."""
    async with running(max_connections_per_address=1) as there:
        reader, writer = await there.connect()
        writer.write(packed(1, b"a"))
        await reader.readexactly(len(encode_ack(b"a")))
        refused, other = await there.connect()
        assert await closed(refused) == b""
        other.close()
        assert there.errors("too_many") == 1
        writer.write(packed(1, b"b"))
        assert await reader.readexactly(len(encode_ack(b"b"))) == encode_ack(b"b")
        writer.close()


# --- memory ------------------------------------------------------------------------------------------------


async def test_a_large_frame_waits_for_the_budget() -> None:
    """Its length is reserved before its body is read, it is held until it is durable, and then given back."""
    frame = packed(120_000, CHUNK)
    assert len(frame) > 2_000_000
    async with running(budget=3 * len(frame)) as there:
        budget = there.context.budget
        await budget.take(budget.limit)
        there.engine.open.clear()
        reader, writer = await there.connect()
        writer.write(frame)
        await asyncio.sleep(0.2)
        assert there.engine.emits == []
        (connection,) = _connections(there)
        assert connection._decoder.buffered < 1_000_000
        assert connection._decoder.needed > 2_000_000
        budget.give(budget.limit)
        await until(lambda: there.engine.waiting)
        assert budget.used >= memory_of(len(frame)) - 100
        there.engine.open.set()
        assert await reader.readexactly(len(encode_ack(CHUNK))) == encode_ack(CHUNK)
        await until(lambda: budget.used == 0)
        assert len(there.engine.whole) == 120_000
        writer.close()


def _connections(there: Running) -> list[Any]:
    import gc

    from mcp_ingest.inputs.forward.connection import Connection

    return [found for found in gc.get_objects() if isinstance(found, Connection) and found._context is there.context]


async def test_the_more_connections_the_less_is_read_without_asking() -> None:
    """What all connections together read of frames that the budget knows nothing of is a part of it."""
    body = packed(3000)  # large enough that its length is asked for
    async with running(budget=2**21) as there:
        writers = [(await there.connect())[1] for _ in range(32)]
        for writer in writers:
            writer.write(body[:-1])
        shared = next(iter(_connections(there)))._shared
        await until(lambda: len(shared.connections) == 32)
        assert len(shared.window) * 32 <= 2**21 // 8
        for writer in writers:
            writer.close()
        await until(lambda: not shared.connections)
        assert len(shared.window) == len(shared.buffer)


async def test_frames_of_unknown_length_never_wait_for_each_other() -> None:
    """Forward mode tells no length: many large ones at once pass through a budget that holds one of them."""
    entries = [(TIME, {"n": n, "fill": "x" * 200}) for n in range(10_000)]
    async with running(budget=4_000_000) as there:

        async def send(n: int) -> None:
            reader, writer = await there.connect()
            writer.write(encode_forward("t", entries, b"c%d" % n))
            async with asyncio.timeout(30):
                assert await reader.readexactly(len(encode_ack(b"c0"))) == encode_ack(b"c%d" % n)
            writer.close()

        async with asyncio.TaskGroup() as senders:
            for n in range(4):
                senders.create_task(send(n))
        assert len(there.engine.whole) == 40_000


async def test_a_stalled_frame_gives_its_memory_back() -> None:
    """A large frame of which nothing more comes closes its connection."""
    async with running(stalled_timeout=0.1) as there:
        reader, writer = await there.connect()
        writer.write(packed(120_000, CHUNK)[:600_000])
        assert await closed(reader) == b""
        assert there.errors("stalled") == 1
        assert there.context.budget.used == 0
        writer.close()


async def test_reading_stops_while_too_much_is_under_way() -> None:
    """A sender that goes on while nothing becomes durable is not read, and everything arrives afterwards."""
    async with running() as there:
        there.engine.open.clear()
        reader, writer = await there.connect()
        for n in range(300):
            writer.write(packed(1000, b"c%03d" % n))
        await asyncio.sleep(0.3)
        assert 0 < there.engine.waiting <= 8
        (connection,) = _connections(there)
        assert connection._read < 300 * len(packed(1000, b"c000")) / 2
        there.engine.open.set()
        acks = await asyncio.wait_for(reader.readexactly(300 * len(encode_ack(b"c000"))), 30)
        assert acks == b"".join(encode_ack(b"c%03d" % n) for n in range(300))
        writer.close()


# --- start and stop ----------------------------------------------------------------------------------------


async def test_stopping_acknowledges_what_is_under_way() -> None:
    """On cancellation nothing more is taken in; what was read becomes durable and is acknowledged."""
    async with running() as there:
        there.engine.open.clear()
        reader, writer = await there.connect()
        idle, _ = await there.connect()
        writer.write(packed(1, CHUNK))
        await until(lambda: there.engine.waiting)
        assert there.task is not None
        there.task.cancel()
        assert await closed(idle) == b""
        await asyncio.sleep(0.05)
        assert not there.task.done()
        with pytest.raises(OSError, match=r".+"):
            await there.connect()
        writer.write(packed(1, b"too late"))
        there.engine.open.set()
        assert await closed(reader) == encode_ack(CHUNK)
        with pytest.raises(asyncio.CancelledError):
            await there.task


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    """The sentence names the address and the port."""
    async with running() as there:
        other = Running({"port": there.port}, 2**20)
        with pytest.raises(IngestError, match=f"cannot listen on tcp 127.0.0.1:{there.port}"):
            await other.input.run(other.engine.emit)


def test_it_is_found_by_its_name() -> None:
    """The package's name is the input's registration, and contradictory settings are told."""
    assert find("input", "forward") is Forward
    assert Forward.Config(tag="a", tag_prefix="b").check() != []
    assert Forward.Config().check() == []
    assert event_time(TIME).code == 0


async def test_who_is_accepted_while_it_ends_is_sent_away() -> None:
    """A connection that asyncio hands over behind the last one that was drained is cut, and nothing of it is taken."""

    class Transport(asyncio.Transport):
        aborted = False

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ("127.0.0.1", 1)

        def abort(self) -> None:
            self.aborted = True

    context, transport = Context(), Transport()
    shared = Shared(Forward.Config(), context, Engine().emit)
    await shared.finish()
    connection = Connection(shared)
    connection.connection_made(transport)
    assert transport.aborted
    connection.buffer_updated(1)  # as with data that was there already
    connection.connection_lost(None)
    assert context.metrics.gauge(CONNECTIONS, input=context.name)._value.get() == 0
    assert not shared.connections


async def test_its_udp_port_is_free_before_the_tcp_port_is() -> None:
    """Whoever listens next in its place has both at once, though connections are still drained."""
    async with running() as there:
        there.engine.open.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(encode_message("t", TIME, RECORD, CHUNK))
        await until(lambda: there.engine.waiting == 1)
        assert there.task
        there.task.cancel()
        await until(lambda: not _taken(there.port, socket.SOCK_STREAM))
        assert not _taken(there.port, socket.SOCK_DGRAM)
        assert not there.task.done()
        writer.close()


def _taken(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(type=kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind is socket.SOCK_STREAM)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False
