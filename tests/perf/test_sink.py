"""The sink, asked over TCP by our own output, by curl's manners, and by itself."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
import pytest
from isal import igzip

from mcp_ingest.codecs.bulk import bulk_body
from mcp_ingest.context import Context
from mcp_ingest.outputs.elasticsearch import Elasticsearch, ElasticsearchConfig
from mcp_ingest.verdict import AllDelivered, Each, Part, Request, Unknown
from perf.floor import floor
from perf.records import json_lines
from perf.sink import Settings, serve

Start = Callable[..., AbstractAsyncContextManager[int]]


@asynccontextmanager
async def sink(**settings: Any) -> AsyncIterator[int]:
    """A sink in this loop; its port."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve(Settings(**settings), 0, port.set_result))
        yield await port
        serving.cancel()


async def ask(port: int, head: str, body: bytes = b"", headers: str = "") -> tuple[int, Any]:
    """Status and JSON of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head} HTTP/1.1\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        text = await reader.readexactly(length if not head.startswith("HEAD") else 0)
    finally:
        writer.close()
    assert b"X-elastic-product: Elasticsearch" in answer
    return int(answer.split(b" ")[1]), orjson.loads(text or b"null")


async def sums(port: int) -> dict[str, Any]:
    found: dict[str, Any] = (await ask(port, "GET /_perf"))[1]
    return found


def made(count: int, **more: Any) -> tuple[list[str], list[bytes]]:
    """Ids and lines."""
    return [f"{number:028}" for number in range(count)], [orjson.dumps({"n": n, **more}) for n in range(count)]


def body(count: int, *indices: str, **more: Any) -> bytes:
    ids, lines = made(count, **more)
    return bulk_body([indices[n % len(indices)] for n in range(count)], ids, lines)


async def test_our_output_is_content() -> None:
    """Our own output installs its template, writes, and reads that all was created."""
    ids, lines = made(1000)
    async with sink(check_ids=True) as port:
        output = Elasticsearch(ElasticsearchConfig(hosts=[f"http://127.0.0.1:{port}"]), Context())
        await output.start()
        part = Part("chunk-1", ids, [0] * 1000, ["t"] * 1000, ["mcp-logs-2026.11.22"] * 1000, lines)
        for _ in range(2):
            assert await output.write(Request([part])) == AllDelivered()
        await output.close()
        found = await sums(port)
    assert (found["documents"], found["distinct"], found["doubles"], found["requests"]) == (2000, 1000, 1000, 2)
    assert 0 < found["bytes"] < found["inflated_bytes"] == 2 * len(bulk_body(part.destinations, ids, lines))


async def test_refused_requests_are_not_counted() -> None:
    """Half of the requests are refused, evenly, and only what was stored is counted."""
    async with sink(refuse=0.5, status="503") as port:
        answers = [(await ask(port, "POST /_bulk", body(10, "a")))[0] for _ in range(6)]
        found = await sums(port)
    assert answers == [200, 503] * 3
    assert (found["documents"], found["requests"], found["refused"]) == (30, 6, 3)


async def test_our_output_waits_when_refused() -> None:
    """A request refused with 429 is an overload to our output, refused items are events to try again."""
    ids, lines = made(10)
    part = Part("chunk-1", ids, [0] * 10, ["t"] * 10, ["logs"] * 10, lines)
    for status in ("429", "item429"):
        async with sink(refuse=0.5, status=status, check_ids=True) as port:
            output = Elasticsearch(ElasticsearchConfig(hosts=[f"http://127.0.0.1:{port}"]), Context())
            said = [await output.write(Request([part])) for _ in range(2)]
            await output.close()
            found = await sums(port)
        if status == "429":
            assert isinstance(said[1], Unknown)
            assert said[1].overloaded
            assert found["documents"] == 10
        else:
            assert all(isinstance(each, Each) for each in said)
            assert (found["documents"], found["refused"], found["distinct"], found["doubles"]) == (10, 10, 5, 5)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?filter_path=took,errors", {"errors": False, "took": 1}),
        ("/?filter_path=errors,items.*.error", {"errors": False}),
        ("?filter_path=errors,items.*.status", {"errors": False, "items": [{"create": {"status": 201}}] * 2}),
        ("?filter_path=items.*._index", {"items": [{"create": {"_index": "a"}}, {"create": {"_index": "b"}}]}),
    ],
)
async def test_filter_path(query: str, expected: dict[str, Any]) -> None:
    """What the request's filter lets through is answered, an empty list of items not at all."""
    async with sink() as port:
        assert await ask(port, f"POST /_bulk{query}", body(2, "a", "b")) == (200, expected)


async def test_whole_answer() -> None:
    """Without a filter each item is named in full, and gzip is understood."""
    async with sink() as port:
        headers = "content-encoding: gzip\r\nExpect: 100-continue\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        packed = igzip.compress(body(3, "a"))
        writer.write(f"POST /a/_bulk HTTP/1.1\r\ncontent-length: {len(packed)}\r\n{headers}\r\n".encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(packed)
        await reader.readuntil(b"\r\n\r\n")
        answer = orjson.loads(await reader.readuntil(b"]}"))
        writer.close()
    assert [item["create"]["_id"] for item in answer["items"]] == made(3)[0]
    assert {item["create"]["status"] for item in answer["items"]} == {201}


@pytest.mark.parametrize("query", ["?filter_path=items.*._index", "?filter_path=items.*._index,items.*._id"])
async def test_the_path_names_the_index(query: str) -> None:
    """Of those that name none; each keeps its own."""
    own, none = b'{"create":{"_index":"own","_id":"1"}}\n{}\n', b'{"create":{"_id":"2"}}\n{}\n'
    async with sink() as port:
        for sent, expected in ((none * 2, ["b"] * 2), (own + none, ["own", "b"]), (none + own, ["b", "own"])):
            _, answer = await ask(port, f"POST /b/_bulk{query}", sent)
            assert [item["create"]["_index"] for item in answer["items"]] == expected


async def test_requests_cut_anywhere() -> None:
    """Requests that come byte by byte, or two at once, are answered in their order."""
    content = body(1, "a")
    whole = b"POST /_bulk?filter_path=errors HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (
        len(content),
        content,
    )
    async with sink(delay=0.01) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(len(whole)):
            writer.write(whole[number : number + 1])
            await asyncio.sleep(0)
        writer.write(whole + whole)
        for _ in range(3):
            assert (await reader.readuntil(b"}")).endswith(b'{"errors":false}')
        writer.close()
        assert (await sums(port))["documents"] == 3


async def test_latency() -> None:
    """The time from `sent_ns` to the arrival is told in seconds."""
    async with sink(latency=True) as port:
        assert (await sums(port))["latency"] is None
        await ask(port, "POST /_bulk", body(99, "a", sent_ns=time.time_ns() - 10**8))
        await ask(port, "POST /_bulk", body(1, "a", sent_ns=time.time_ns() - 10**9))
        found = (await sums(port))["latency"]
        assert found["p50"] == pytest.approx(0.1, abs=0.05)
        assert found["p99"] == pytest.approx(0.1, abs=0.05)
        assert found["max"] == pytest.approx(1.0, abs=0.05)


async def test_reset() -> None:
    """DELETE /_perf begins anew."""
    async with sink(check_ids=True) as port:
        await ask(port, "POST /_bulk", body(5, "a"))
        await ask(port, "DELETE /_perf")
        await ask(port, "POST /_bulk", body(2, "a"))
        found = await sums(port)
    assert (found["documents"], found["distinct"], found["doubles"]) == (2, 2, 0)


async def test_delay_holds_back_one_answer_only() -> None:
    """A slow answer keeps no other connection waiting."""
    async with sink(delay=0.2) as port:
        began = time.monotonic()
        await asyncio.gather(*(ask(port, "POST /_bulk", body(1, "a")) for _ in range(5)))
        assert 0.2 <= time.monotonic() - began < 0.6


def test_it_is_no_bottleneck() -> None:
    """As a process of its own it costs less than two floors an event."""
    ids, lines = [f"{number:028}" for number in range(1_000)], list(json_lines(1_000))
    packed = igzip.compress(bulk_body(["logs"] * 1_000, ids, lines))
    request = b"POST /_bulk?filter_path=errors HTTP/1.1\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s"
    with subprocess.Popen([sys.executable, "-m", "perf.sink"], stdout=subprocess.PIPE) as process:
        try:
            port = json.loads(process.stdout.readline())["port"] if process.stdout else 0
            with socket.create_connection(("127.0.0.1", port)) as connection:
                for _ in range(100):
                    connection.sendall(request % (len(packed), packed))
                    assert connection.recv(1_000).endswith(b'{"errors":false}')
            found = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/_perf"))
        finally:
            process.kill()
    assert found["documents"] == 100_000
    assert found["cpu_seconds"] / 0.1 < 2 * floor()


async def test_what_clients_ask_first() -> None:
    """It says that it is Elasticsearch 8.19, and knows a template once it was put."""
    async with sink() as port:
        assert (await ask(port, "GET /"))[1]["version"]["number"] == "8.19.0"
        assert (await ask(port, "HEAD /"))[0] == 200
        assert (await ask(port, "GET /_index_template/logs"))[0] == 404
        assert await ask(port, "PUT /_index_template/logs", b"{}") == (200, {"acknowledged": True})
        assert (await ask(port, "GET /_index_template/logs"))[0] == 200
        assert (await ask(port, "POST /_bulk", b"", "Transfer-Encoding: chunked\r\n"))[0] == 411
