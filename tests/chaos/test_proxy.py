"""The proxy in front of Elasticsearch, and what the faults do there."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.chaos.faults.answers import _DECLARED
from tests.chaos.proxy import Proxy, proxy

BULK = b'{"create":{"_id":"%d"}}\n{"n":%d}\n'


class Upstream:
    """Answers each request with a created item for each document, in one piece or in several."""

    def __init__(self, *, pieces: bool) -> None:
        self.pieces = pieces
        self.bodies: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self.bodies.append(body)
        items = [{"create": {"status": 201}} for line in body.splitlines() if b'"n"' in line]
        answer = json.dumps({"took": 1, "errors": False, "items": items}).encode()
        if self.pieces:
            cut = [answer[:7], answer[7:], b""]
            chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in cut)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunked)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def between(*, pieces: bool = False) -> AsyncIterator[tuple[Proxy, Upstream]]:
    upstream = Upstream(pieces=pieces)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    try:
        async with proxy(server.sockets[0].getsockname()[:2], "127.0.0.1") as made:
            yield made, upstream
            assert made.errors == []
    finally:
        server.close()


async def bulk(made: Proxy, documents: int, times: int = 1, *, compressed: bool = False) -> list[tuple[int, Any]]:
    """Status and decoded answer of so many requests on one connection."""
    body = b"".join(BULK % (n, n) for n in range(documents))
    head = b"POST /_bulk HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n"
    if compressed:
        head, body = head + b"content-encoding: gzip\r\n", gzip.compress(body)
    reader, writer = await asyncio.open_connection(*made.address)
    answers = []
    try:
        for _ in range(times):
            writer.write(head + b"content-length: %d\r\n\r\n%s" % (len(body), body))
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answers.append((int(answer.split(b" ")[1]), json.loads(await reader.readexactly(length))))
    finally:
        writer.close()
    return answers


@pytest.mark.parametrize("pieces", [False, True])
async def test_without_a_fault_all_passes_through(pieces: bool) -> None:
    """Requests on one connection are passed on whole, and answered with what Elasticsearch said."""
    async with between(pieces=pieces) as (made, upstream):
        answers = await bulk(made, 3, times=2)
    assert [(status, len(answer["items"])) for status, answer in answers] == [(200, 3), (200, 3)]
    assert upstream.bodies == [b"".join(BULK % (n, n) for n in range(3))] * 2


@pytest.mark.parametrize("compressed", [False, True])
async def test_every_tenth_document_is_refused(compressed: bool) -> None:
    """Each tenth item is a 429 that Elasticsearch never saw, at its place among the others."""
    async with between() as (made, upstream):
        made.make(_DECLARED["refused_items"][1](random.Random(1)))
        ((status, answer),) = await bulk(made, 25, compressed=compressed)
        made.heal()
        ((_, healed),) = await bulk(made, 25)
    assert status == 200
    assert answer["errors"] is True
    assert [n for n, item in enumerate(answer["items"]) if item["create"]["status"] == 429] == [9, 19]
    assert len(answer["items"]) == 25
    assert b'{"n":9}' not in upstream.bodies[0]
    assert b'{"n":10}' in upstream.bodies[0]
    assert healed["errors"] is False


async def test_a_request_of_which_all_is_refused_never_reaches_elasticsearch() -> None:
    """One document that is the tenth: a 429 in a 200, and no empty bulk request behind it."""
    async with between() as (made, upstream):
        made.make(_DECLARED["refused_items"][1](random.Random(1)))
        answers = await bulk(made, 1, times=10)
    assert [answer["items"][0]["create"]["status"] for _, answer in answers] == [201] * 9 + [429]
    assert len(upstream.bodies) == 9


@pytest.mark.parametrize("name", ["garbage", "half", "reset"])
async def test_a_bad_answer_is_none_that_could_be_taken_for_good(name: str) -> None:
    """Each of these ends in an error, or in an answer that is not the one of Elasticsearch."""
    for seed in range(12):
        async with between() as (made, _):
            made.make(_DECLARED[name][1](random.Random(seed)))
            try:
                ((_, answer),) = await bulk(made, 5)
            except (OSError, EOFError, ValueError, IndexError):
                continue
            assert len(answer["items"]) != 5


async def test_who_waits_for_an_answer_is_reset_when_it_is_over() -> None:
    """While it is silent nothing comes; once healed the connection breaks, and the next request is answered."""
    async with between() as (made, _):
        made.make(_DECLARED["silent"][1](random.Random(1)))
        asking = asyncio.ensure_future(bulk(made, 2))
        await asyncio.sleep(0.1)
        assert not asking.done()
        made.heal()
        with pytest.raises((OSError, EOFError)):
            await asking
        assert (await bulk(made, 2))[0][0] == 200
