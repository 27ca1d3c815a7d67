"""Realistic, seeded events of the platform's schema, and lines for files to tail; the same for the same seed.

A record has 13 fields and takes 330 to 500 bytes as MessagePack, 430 on average (50 more as JSON). 10 % are DEBUG; 4 %
hold something that nobody may read: an e-mail address, a card number, a bearer token, a password, 1 % each. Making one
takes about 20 µs, so whoever measures makes a few thousand before and sends them again and again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import orjson

_BEGAN = 1_795_359_600  # 2026-11-22T15:00:00Z
_PER_SECOND = 1_000  # records, by their own timestamps
_SECRETS_SHARE = 0.04

_SERVICES = ("model-router", "api-gateway", "context-store", "tool-runner", "billing", "auth")
_LEVELS = ("INFO",) * 14 + ("WARNING",) * 3 + ("DEBUG",) * 2 + ("ERROR",)
_OPERATIONS = ("route", "call_tool", "trim", "authorize", "load_model", "open_session")
_REGIONS = ("eu-west-1", "eu-central-1", "us-east-1", "ap-southeast-2")
_MODELS = ("sonnet-large", "haiku-small", "opus-long-context", "embed-multilingual")
_TOOLS = ("web_search", "read_file", "run_query", "send_message")
_TEMPLATES = (
    "routed request to {model} after {n} ms, {k} candidates considered, cheapest was over its budget of {n} credits",
    "tool call {tool} finished, result of {n} bytes cached under key {key} for {k} minutes, {k} callers waited for it",
    "context window of {n} tokens trimmed to {k} messages for conversation {key}; the summary of what was cut is kept "
    "beside it and counts {n} tokens",
    "upstream {host} answered 503 after {k} attempts, backing off for {n} ms before the next one",
    "session {key} opened from {host}, protocol version {k}, streaming enabled, {k} tools offered to the model",
    "queue depth {n}, {k} workers busy, oldest job waits for {n} ms, no worker is added before the next check",
    "model {model} loaded from {host} in {n} ms with {k} shards; warm-up skipped because the last one ended less than "
    "{k} minutes ago",
    "cache miss for {key}, fetched {n} bytes from {host}, expires with the session",
    "rate limit of tenant {key}: {k} of {n} requests used in this window, none refused so far",
    "health check of {host} passed in {n} ms",
    "stream of {model} closed by the client after {n} tokens, {k} tokens not delivered and not charged",
    'tool {tool} refused: argument "{key}" is not of the declared type, call {n} of this session, the model was told '
    "so and tries again with what is asked for",
    "retrying {tool} at {host} ({k} of 20): connection reset by peer after {n} bytes, the answer so far is thrown away",
    "conversation {key} moved to {host}: shard {k} is over its share by {n} messages and gives them away",
    "prompt template /srv/templates/{key}.jinja rendered in {n} µs with {k} variables",
    "quota of tenant {key} recalculated: {n} credits left of {n}, resets in {k} hours",
    'query "SELECT id, owner, tokens FROM contexts WHERE owner = $1 ORDER BY changed LIMIT {k}" took {n} ms on {host}',
    "embedding batch of {n} texts sent to {model}, {k} were too long and cut at the limit of the model",
    "worker {k} restarted after {n} jobs: memory limit reached, job {key} goes back into the queue with its {k} inputs",
    "certificate of {host} expires in {k} days, renewal {key} requested from the authority",
)
_SECRETS = (
    "customer {name}@example.com asked for a receipt of order {key}, {k} items",
    "payment of order {key} with card {card} accepted after {n} ms, receipt printed",
    "calling {host} with Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.{key}{key}.{key}",
    "login of user {key} from {host} failed: password=hunter-{key} does not match",
)
_NAMES = ("jane.doe", "o.neill+billing", "maria_sanchez", "li.wei", "support-desk")
_CARDS = ("4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011111111111117")


def records(count: int, seed: int = 1, began: int = _BEGAN) -> Iterator[dict[str, Any]]:
    """This many records, the same for the same seed; `timestamp` goes on from `began`, seconds since 1970."""
    rng = random.Random(seed)
    for number in range(count):
        if number % _PER_SECOND == 0:
            second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began + number // _PER_SECOND))
        yield {
            "timestamp": f"{second}.{number % _PER_SECOND * 1000 // _PER_SECOND:03}Z",
            "service_name": rng.choice(_SERVICES),
            "service_version": f"2.{rng.randrange(20)}.{rng.randrange(5)}",
            "log_level": rng.choice(_LEVELS),
            "message": _message(rng),
            "request_id": f"req-{rng.getrandbits(64):016x}",
            "trace_id": f"{rng.getrandbits(128):032x}",
            "span_id": f"{rng.getrandbits(64):016x}",
            "user_id": f"user-{rng.randrange(10_000)}",
            "operation": rng.choice(_OPERATIONS),
            "duration_ms": round(rng.random() * 900, 3),
            "status_code": rng.choice((200, 200, 200, 201, 404, 503)),
            "metadata": {"region": rng.choice(_REGIONS), "pod": f"pod-{rng.randrange(40)}"},
        }


def _message(rng: random.Random) -> str:
    secret = rng.random() < _SECRETS_SHARE
    return rng.choice(_SECRETS if secret else _TEMPLATES).format(
        key=f"{rng.getrandbits(48):012x}",
        n=rng.randrange(10_000),
        k=rng.randrange(20),
        host=_address(rng),
        model=rng.choice(_MODELS),
        tool=rng.choice(_TOOLS),
        name=rng.choice(_NAMES) if secret else "",
        card=rng.choice(_CARDS) if secret else "",
    )


def _address(rng: random.Random) -> str:
    return f"10.0.{rng.randrange(256)}.{rng.randrange(256)}"


# --- lines of files, without their ends --------------------------------------------------------------------

_PATHS = ("/v1/messages", "/v1/tools/{tool}/call", "/v1/sessions/{key}", "/healthz", "/v1/contexts/{key}/trim")
_AGENTS = (
    "python-httpx/0.27.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "curl/8.10.1",
)
_ERRORS = ("ConnectionResetError: [Errno 104] Connection reset by peer", "KeyError: 'conversation'", "TimeoutError")
_FUNCTIONS = ("handle", "route", "call_tool", "_read_answer", "trim")


def json_lines(count: int, seed: int = 1) -> Iterator[bytes]:
    """The same records, each as a line of JSON, 480 bytes on average."""
    return map(orjson.dumps, records(count, seed))


def access_lines(count: int, seed: int = 1) -> Iterator[bytes]:
    """Lines of a web server's access log in the combined format, 120 to 240 bytes; 1 % name a user by e-mail."""
    rng = random.Random(seed)
    for number in range(count):
        if number % _PER_SECOND == 0:
            second = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(_BEGAN + number // _PER_SECOND))
        user = f"{rng.choice(_NAMES)}@example.com" if rng.random() < 0.01 else "-"
        path = rng.choice(_PATHS).format(tool=rng.choice(_TOOLS), key=f"{rng.getrandbits(48):012x}")
        method, status = rng.choice(("GET", "POST")), rng.choice((200, 200, 200, 201, 404, 503))
        yield (
            f'{_address(rng)} - {user} [{second}] "{method} {path} HTTP/1.1" {status} {rng.randrange(100_000)}'
            f' "https://console.example.com/" "{rng.choice(_AGENTS)}"'
        ).encode()


def multi_line(count: int, seed: int = 1) -> Iterator[bytes]:
    """Events of a plain text log, every fourth with a Python stack trace: 1 to 19 lines, those within it indented."""
    rng = random.Random(seed)
    for number in range(count):
        if number % _PER_SECOND == 0:
            second = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(_BEGAN + number // _PER_SECOND))
        failed = rng.random() < 0.25
        level = "ERROR" if failed else rng.choice(_LEVELS)
        lines = [f"{second},{number % _PER_SECOND:03} {level} {rng.choice(_SERVICES)}: {_message(rng)}"]
        yield "\n".join(lines + (_stack_trace(rng) if failed else [])).encode()


def _stack_trace(rng: random.Random) -> list[str]:
    frames: list[str] = []
    for _ in range(rng.randrange(3, 9)):
        name = rng.choice(_FUNCTIONS)
        frames.append(f'  File "/srv/app/{name}.py", line {rng.randrange(1, 400)}, in {name}')
        frames.append(f"    return await {rng.choice(_FUNCTIONS)}(request, deadline={rng.randrange(1000)})")
    return ["Traceback (most recent call last):", *frames, rng.choice(_ERRORS)]
