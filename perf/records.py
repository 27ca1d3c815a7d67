"""Realistic, seeded events of the platform's schema: about 430 bytes, 13 fields, 10 % DEBUG, 4 % with a secret."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

_SERVICES = ("model-router", "api-gateway", "context-store", "tool-runner", "billing", "auth")
_LEVELS = ("INFO",) * 14 + ("WARNING",) * 3 + ("DEBUG",) * 2 + ("ERROR",)
_TEMPLATES = (
    "routed request to {model} after {n} ms, {k} candidates considered",
    "tool call {tool} finished, result of {n} bytes cached under key {key}",
    "context window of {n} tokens trimmed to {k} for conversation {key}",
    "upstream {host} answered {code} after {k} attempts, backing off for {n} ms",
    "session {key} opened from {host}, protocol version {k}",
    "queue depth {n}, {k} workers busy, oldest job waits for {n} ms",
    "model {model} loaded from {host} in {n} ms with {k} shards",
    "cache miss for {key}, fetched {n} bytes from {host}",
    "rate limit of tenant {key}: {k} of {n} requests used in this window",
    "health check of {host} passed in {n} ms",
)
_SECRETS = (
    "customer jane.doe@example.com asked for a receipt, request {key}",
    "payment of order {key} with card 4111 1111 1111 1111 accepted",
    "calling {host} with Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.{key}",
    "login of {key} failed: password=hunter2-{n} does not match",
)


def records(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """This many records, the same for the same seed."""
    rng = random.Random(seed)
    for number in range(count):
        key = f"{rng.getrandbits(48):012x}"
        words = {
            "model": "sonnet-large",
            "tool": "web_search",
            "host": f"10.0.{rng.randrange(256)}.{rng.randrange(256)}",
        }
        template = rng.choice(_SECRETS) if rng.random() < 0.04 else rng.choice(_TEMPLATES)
        yield {
            "timestamp": f"2026-11-22T15:{number // 60000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}Z",
            "service_name": rng.choice(_SERVICES),
            "service_version": "2.14.3",
            "log_level": rng.choice(_LEVELS),
            "message": template.format(key=key, n=rng.randrange(10_000), k=rng.randrange(20), code=503, **words),
            "request_id": f"req-{rng.getrandbits(64):016x}",
            "trace_id": f"{rng.getrandbits(128):032x}",
            "span_id": f"{rng.getrandbits(64):016x}",
            "user_id": f"user-{rng.randrange(10_000)}",
            "operation": rng.choice(("route", "call_tool", "trim", "authorize")),
            "duration_ms": round(rng.random() * 900, 3),
            "status_code": rng.choice((200, 200, 200, 201, 404, 503)),
            "metadata": {"region": "eu-west-1", "pod": f"pod-{rng.randrange(40)}"},
        }
