"""The load generator against a receiver in this process, and against the real daemon with the sink behind it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.codecs.forward import Decoder, encode_ack
from mcp_ingest.codecs.forward_entries import decode_entries
from perf.loadgen import Load, Sums, chunk_ids, send
from perf.records import records
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until


class Receiver:
    """What came; acknowledges by `answer(chunk id)`, as soon as `hold` allows."""

    def __init__(self) -> None:
        self.port = 0
        self.tags: set[str] = set()
        self.sizes: list[int] = []
        self.chunks: list[bytes | None] = []
        self.records: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.connections = self.unacknowledged = self.most = 0
        self.answer = encode_ack
        self.pause = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        decoder = Decoder()
        while data := await reader.read(2**18):
            decoder.feed(data)
            answers = []
            for frame in decoder:
                events = [record for entries in decode_entries(frame) for record in entries.records]
                self.records += events
                self.sizes.append(len(events))
                self.arrivals.append(time.monotonic())
                self.chunks.append(frame.option.chunk)
                self.tags.add(frame.tag)
                answers += [self.answer(frame.option.chunk)] if frame.option.chunk else []
            self.most = max(self.most, len(answers))
            await asyncio.sleep(self.pause)
            for each in answers:  # cut in two: an ack need not come in one piece
                writer.write(each[:7])
                await asyncio.sleep(0)
                writer.write(each[7:])
        writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found
    await asyncio.sleep(0)


def without_time(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "timestamp"}


@pytest.mark.parametrize("mode", ["message", "forward", "packed", "compressed"])
@pytest.mark.parametrize("ack", [True, False])
@pytest.mark.parametrize("stamp", [True, False])
async def test_all_modes(mode: str, ack: bool, stamp: bool) -> None:
    """In each mode, with and without ack and stamp, the seed's records arrive, each frame under an id of its own."""
    async with receiver() as found:
        sums, before = Sums(), time.time_ns()
        await send(Load(found.port, 250, 100, mode, ack, stamp=stamp, tag="a.b", seed=3), sums)
        await asyncio.sleep(0.05)
    stamps = [record.pop("sent_ns", None) for record in found.records]
    assert list(map(without_time, found.records)) == list(map(without_time, records(250, 3)))
    assert found.sizes == ([1] * 250 if mode == "message" else [100, 100, 50])
    assert found.tags == {"a.b"}
    assert len(set(found.chunks)) == (len(found.chunks) if ack else 1)
    assert (sums.events, sums.frames, sums.acknowledged) == (250, len(found.sizes), 250 if ack else 0)
    assert all(before < each < time.time_ns() for each in stamps) if stamp else set(stamps) == {None}


async def test_several_connections_share_the_load() -> None:
    """Three connections send, together, what one would; a pool that is used up is sent again."""
    async with receiver() as found:
        await send(Load(found.port, 45_000, 1_000, connections=3), Sums())
    assert found.connections == 3
    assert sum(found.sizes) == 45_000
    assert len({record["request_id"] for record in found.records}) == 20_000


@pytest.mark.parametrize(("window", "most"), [(0, 256), (10, 10)])
async def test_window(window: int, most: int) -> None:
    """No more frames than the window wait for their acks, and many leave at once."""
    async with receiver() as found:
        found.pause = 0.01
        await send(Load(found.port, 1_000 if window == 0 else 100, mode="message", window=window), Sums())
    assert most / 2 <= found.most <= most


@pytest.mark.parametrize(("mode", "chunk", "rate"), [("message", 1, 1_000), ("packed", 50, 5_000)])
async def test_steady_rate(mode: str, chunk: int, rate: int) -> None:
    """Frames leave when they are due, over all connections, whether or not those before are acknowledged."""
    async with receiver() as found:
        found.pause = 0.05
        began = time.monotonic()
        await send(Load(found.port, rate // 2, chunk, mode, rate=rate, connections=2), Sums())
        assert 0.45 < time.monotonic() - began < 0.8
    assert found.connections == 2
    assert sum(found.sizes) == rate // 2
    middle = found.arrivals[len(found.arrivals) // 2] - found.arrivals[0]
    assert middle == pytest.approx(0.25, abs=0.15)


def _wrong_ack(chunk: bytes) -> bytes:
    return encode_ack(b"A" * 24)


def _no_ack(chunk: bytes) -> bytes:
    return b"HTTP/1.1 400 Bad Request\r\n" * 10


@pytest.mark.parametrize(("answer", "why"), [(_wrong_ack, "was not sent"), (_no_ack, "not an acknowledgement")])
async def test_wrong_answers(answer: Any, why: str) -> None:
    """What is not the ack of a frame that was sent is an error, not a count."""
    async with receiver() as found:
        found.answer, sums = answer, Sums()
        with pytest.raises(ConnectionError, match=why):
            await send(Load(found.port, 10, 10), sums)
    assert sums.acknowledged == 0


async def test_lost_connection() -> None:
    """A connection that ends before all is acknowledged is an error."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        with pytest.raises(ConnectionError, match="unacknowledged"):
            await send(Load(server.sockets[0].getsockname()[1], 100_000), Sums())


def test_chunk_ids_are_like_fluentds() -> None:
    """24 characters, none twice."""
    ids = chunk_ids(1_000)
    assert {len(each) for each in ids} == {24}
    assert all(each.endswith(b"==") for each in ids)
    assert len(set(ids)) == 1_000


def loadgen(port: int, *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit status and the printed line of the command."""
    command = [sys.executable, "-m", "perf.loadgen", "--port", str(port), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


@contextmanager
def sink(*arguments: str) -> Iterator[str]:
    """The URL of a sink in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "perf.sink", *arguments], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.kill()


def test_command_tells_of_failure() -> None:
    """A command that finds nobody to send to prints that nothing was sent, and ends with 1."""
    status, found = loadgen(1, "--events", 10)
    assert (status, found["events"], found["acknowledged"], found["seconds"]) == (1, 0, 0, None)


def test_real_daemon_delivers_each_event_once(tmp_path: Path) -> None:
    """What the daemon acknowledged, in all modes, arrives in the sink exactly once but for what it filters out."""
    ways = [
        ["--events", 20_000, "--connections", 4],
        ["--events", 5_500, "--mode", "compressed", "--stamp"],
        ["--events", 5_500, "--mode", "forward", "--chunk", 300, "--window", 4],
        ["--events", 500, "--mode", "message", "--connections", 2, "--stamp"],
        ["--events", 1_000, "--chunk", 50, "--rate", 2_000, "--stamp"],
    ]
    with sink("--check-ids", "--latency") as url, Daemon(tmp_path, to_elasticsearch(url, "perf")) as daemon:
        sent = 0
        for way in ways:
            status, found = loadgen(daemon.forward_port, *way)
            assert (status, found["acknowledged"]) == (0, found["events"])
            sent += found["events"]
        wait_until(daemon.drained)
        daemon.assert_closed()
        inputs = {row["term"]: row["count"] for row in daemon.status()["ledger"]["inputs"]}
        arrived = json.load(urllib.request.urlopen(f"{url}/_perf"))
    assert inputs["received"] == sent == 32_500
    assert arrived["documents"] == arrived["distinct"] == inputs["accepted"] == sent - inputs["filtered"]
    assert arrived["doubles"] == 0
    assert 0 < arrived["latency"]["p50"] <= arrived["latency"]["p99"] <= arrived["latency"]["max"] < 30


def test_real_daemon_tries_again_what_the_sink_refuses(tmp_path: Path) -> None:
    """A sink that refuses every third request and is slow gets each event once all the same."""
    with (
        sink("--check-ids", "--refuse", "0.34", "--status", "503", "--delay", "0.02") as url,
        Daemon(tmp_path, to_elasticsearch(url, "perf")) as daemon,
    ):
        # at a steady rate, for there to be several requests
        assert loadgen(daemon.forward_port, "--events", 5_000, "--chunk", 100, "--rate", 5_000)[0] == 0
        wait_until(daemon.drained)
        daemon.assert_closed()
        arrived = json.load(urllib.request.urlopen(f"{url}/_perf"))
        accepted = {row["term"]: row["count"] for row in daemon.status()["ledger"]["inputs"]}["accepted"]
    assert arrived["documents"] == arrived["distinct"] == accepted
    assert (arrived["refused"] > 0, arrived["doubles"]) == (True, 0)
