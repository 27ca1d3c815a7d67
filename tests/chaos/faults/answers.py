"""What stands between the daemon and Elasticsearch answers badly; each once before and once after the work was done."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.chaos.faults import Fault, Strike
from tests.chaos.proxy import Exchange, Reply, Trouble
from tests.chaos.scene import Scene

#: Of the documents, every so manieth.
REFUSED = 10
_REJECTED = {"type": "es_rejected_execution_exception", "reason": "rejected execution of coordinating operation"}


def _declared(trouble_of: Callable[[random.Random], Trouble]) -> Strike:
    """A fault that is in force for a while, and then over."""

    async def strike(scene: Scene, rng: random.Random) -> None:
        scene.proxy.make(trouble_of(rng))
        try:
            await asyncio.sleep(scene.lasts(rng, 0.5, 6))
        finally:
            scene.proxy.heal()

    return strike


async def _work(exchange: Exchange, rng: random.Random) -> None:
    """Let Elasticsearch do the work, or not: the daemon cannot know."""
    if rng.random() < 0.5:
        await exchange.forward()


def _slow(rng: random.Random) -> Trouble:
    async def trouble(exchange: Exchange) -> None:
        await asyncio.sleep(rng.uniform(0.1, 1.5))
        await exchange.send(await exchange.forward())

    return trouble


def _status(status: int, headers: bytes = b"") -> Callable[[random.Random], Trouble]:
    def of(rng: random.Random) -> Trouble:
        async def trouble(exchange: Exchange) -> None:
            await _work(exchange, rng)
            await exchange.answer(status, json.dumps({"error": _REJECTED, "status": status}).encode(), headers)

        return trouble

    return of


def _garbage(rng: random.Random) -> Trouble:
    async def trouble(exchange: Exchange) -> None:
        await _work(exchange, rng)
        noise = rng.randbytes(rng.randrange(1, 2000))
        match rng.randrange(4):
            case 0:
                await exchange.answer(200, noise)
            case 1:
                await exchange.answer(200, b'{"took": 3, "errors": false, "items": [{"create": {"status": 201}}]}')
            case 2:
                await exchange.answer(200, b"<html><body>It works!</body></html>")
            case _:
                await exchange.body()
                await exchange.send_bytes(noise)
                exchange.reset()

    return trouble


def _half(rng: random.Random) -> Trouble:
    async def trouble(exchange: Exchange) -> None:
        whole = await exchange.forward()
        await exchange.send(Reply(whole.head, whole.body[: rng.randrange(len(whole.body) + 1)]))
        exchange.reset()

    return trouble


def _reset(rng: random.Random) -> Trouble:
    async def trouble(exchange: Exchange) -> None:
        if rng.random() < 0.5:
            await exchange.half_of_body()
        else:
            await exchange.forward()
        exchange.reset()

    return trouble


def _silent(rng: random.Random) -> Trouble:
    async def trouble(exchange: Exchange) -> None:
        await _work(exchange, rng)
        await exchange.healed.wait()
        exchange.reset()

    return trouble


# --- some documents refused --------------------------------------------------------------------------------


def _refused_items(_: random.Random) -> Trouble:
    number = count(1)

    async def trouble(exchange: Exchange) -> None:
        if not exchange.is_bulk:
            await exchange.send(await exchange.forward())
            return
        brought = documents(exchange.head, await exchange.body())
        refused = {n for n in range(len(brought)) if next(number) % REFUSED == 0}
        body = b"".join(each for n, each in enumerate(brought) if n not in refused)
        reply = await exchange.forward(_head(exchange.head, len(body)), body) if body else None
        if reply is not None and reply.status != 200:
            await exchange.send(reply)
            return
        await exchange.answer(200, _with_refused(reply, refused, len(brought)))

    return trouble


def documents(head: bytes, body: bytes) -> list[bytes]:
    """What a bulk request brings: each document with the line before it."""
    if b"content-encoding: gzip" in head.lower():
        body = gzip.decompress(body)
    lines = body.splitlines(keepends=True)
    return [first + second for first, second in zip(lines[::2], lines[1::2], strict=True)]


def _head(head: bytes, length: int) -> bytes:
    """The same request with a plain body of this length, and a plain answer to it."""
    dropped = (b"content-length:", b"content-encoding:", b"accept-encoding:")
    lines = [line for line in head.removesuffix(b"\r\n\r\n").split(b"\r\n") if not line.lower().startswith(dropped)]
    return b"\r\n".join([*lines, b"content-length: %d" % length]) + b"\r\n\r\n"


def _with_refused(reply: Reply | None, refused: set[int], total: int) -> bytes:
    """What Elasticsearch would have answered, had it refused these documents itself."""
    answer: dict[str, Any] = json.loads(reply.body) if reply else {"took": 0, "items": []}
    taken = iter(answer["items"])
    rejected = {"create": {"_index": "chaos", "status": 429, "error": _REJECTED}}
    answer["items"] = [rejected if n in refused else next(taken) for n in range(total)]
    answer["errors"] = bool(refused) or bool(answer.get("errors"))
    return json.dumps(answer).encode()


_DECLARED = {
    "slow": ("Elasticsearch answers 0.1 to 1.5 s late", _slow),
    "overloaded": ("429 for the whole request", _status(429)),
    "overloaded_retry_after": ("429 with Retry-After", _status(429, b"\r\nRetry-After: 1")),
    "unavailable": ("503 for the whole request", _status(503)),
    "garbage": ("answers that are none", _garbage),
    "half": ("half an answer, then a reset", _half),
    "reset": ("a reset in mid-body, or in the answer's place", _reset),
    "silent": ("no answer at all", _silent),
    "refused_items": (f"429 for every {REFUSED}th document", _refused_items),
}
FAULTS = tuple(Fault(name, what, _declared(trouble), "elasticsearch") for name, (what, trouble) in _DECLARED.items())
