"""Delivery before answers that the real Elasticsearch cannot be brought to: a peer that gives them, then stores."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.component import Duration
from mcp_ingest.context import Context
from mcp_ingest.engine import delivery as module
from mcp_ingest.engine.status import sums
from mcp_ingest.event import Term
from mcp_ingest.outputs.elasticsearch import Elasticsearch as ElasticsearchOutput
from mcp_ingest.outputs.elasticsearch import ElasticsearchConfig
from mcp_ingest.spool.model import OutputKey
from tests.engine.parts import delivering, intake, spool_in, until
from tests.outputs.elasticsearch.faults import http, peer

EVENTS = 40


class Store:
    """Gives `first` to the first requests, each a function of the items; then creates each id once."""

    def __init__(self, *first: Any) -> None:
        self.first = list(first)
        self.stored: Counter[str] = Counter()

    def answer(self, head: str, body: bytes) -> bytes:
        data = gzip.decompress(body) if "content-encoding: gzip" in head.lower() else body
        ids = [json.loads(line)["create"]["_id"] for line in data.splitlines()[::2]]
        said = self.first.pop(0) if self.first else self.created
        found: bytes = said(ids)
        return found

    def created(self, ids: list[str]) -> bytes:
        statuses = [409 if self.stored[each] else 201 for each in ids]
        for each, status in zip(ids, statuses, strict=True):
            self.stored[each] += status == 201
        return _bulk([{"status": status} for status in statuses])

    def cut(self, ids: list[str]) -> bytes:
        """All of it is stored, half of the answer arrives."""
        whole = self.created(ids)
        return whole[: len(whole) // 2]

    def in_failure_store(self, ids: list[str]) -> bytes:
        items: list[dict[str, Any]] = [{"status": 201} for _ in ids]
        items[0]["failure_store"] = items[1]["failure_store"] = "used"
        self.stored.update(ids)
        return _bulk(items)

    def without_memory(self, ids: list[str]) -> bytes:
        """The second half finds no memory."""
        middle = len(ids) // 2
        self.stored.update(ids[:middle])
        error = {"type": "circuit_breaking_exception", "reason": "[parent] Data too large"}
        return _bulk([{"status": 201}] * middle + [{"status": 429, "error": error}] * (len(ids) - middle))

    def fewer(self, ids: list[str]) -> bytes:
        """A proxy left the last item away."""
        self.stored.update(ids)
        return _bulk([{"status": 201}] * (len(ids) - 1))


def _bulk(items: list[dict[str, Any]]) -> bytes:
    errors = any(item["status"] > 299 for item in items)
    return http(200, json.dumps({"errors": errors, "items": [{"create": item} for item in items]}).encode())


def _whole(status: int, kind: str = "", *headers: str) -> Any:
    body = json.dumps({"error": {"type": kind, "reason": "because"}}).encode() if kind else b"<html>"
    return lambda ids: http(status, body, *headers)


def _nothing(ids: list[str]) -> bytes:
    return b""


async def _delivered(directory: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[Term, int], int]:
    """The ledger's counts after the delivery of `EVENTS` events, and the number of requests."""
    monkeypatch.setattr(module, "pause", lambda attempt, asked=None: 0.02)
    monkeypatch.setattr(module, "PARKED", 0.05)
    async with peer(lambda head: store.answer(*server.asked[-1])) as server, spool_in(directory) as spool:
        config = ElasticsearchConfig(hosts=[server.url], template=False, request_seconds=Duration(5))
        output = ElasticsearchOutput(config, Context())
        await spool.commit(intake(*[f"e{number}" for number in range(EVENTS)]))
        async with delivering(spool, output):
            await until(lambda: spool.held("out").events == 0)
        await output.close()
        ledger = spool.ledger()
        rows = sums(ledger, {"out": 0}, spool.usage().dead_letters)
        assert all(row["closed"] for row in rows), rows
        assert len(server.asked) == len([head for head, _ in server.asked if head.startswith("POST ")])
        counts = {key.term: count for key, count in ledger.items() if isinstance(key, OutputKey)}
        return counts, len(server.asked)


STORED = {Term.ASSIGNED: EVENTS, Term.DELIVERED: EVENTS}
THERE = {Term.ASSIGNED: EVENTS, Term.DUPLICATE: EVENTS}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (_whole(500, "node_not_connected_exception"), STORED),
        (_whole(502), STORED),
        (_whole(503), STORED),
        (_whole(503, "no_shard_available_action_exception"), STORED),
        (_whole(504), STORED),
        (_whole(429, "circuit_breaking_exception"), STORED),
        (_whole(429, "cluster_block_exception"), STORED),
        (_whole(429, "es_rejected_execution_exception", "retry-after: 1"), STORED),
        (_whole(401, "security_exception"), STORED),
        (_whole(403, "security_exception"), STORED),
        (_whole(400, "media_type_header_exception"), STORED),
        (_whole(404), STORED),
        (_whole(200), STORED),
        (_whole(202), STORED),
        (_nothing, STORED),
    ],
    ids=["500", "502", "503", "503 no shard", "504", "429 memory", "429 disk full", "429 queue", "401", "403",
         "400 media type", "404 of a proxy", "200 of another server", "202", "connection cut"],
)  # fmt: skip
async def test_what_a_whole_answer_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Any, expected: dict[Term, int]
) -> None:
    """Whatever it was, and whether its cause lies in the server or in the set-up: every event is stored once, none is
    a dead letter.
    """
    store = Store(first, first)
    counts, requests = await _delivered(tmp_path, store, monkeypatch)
    assert counts == expected
    assert requests >= 3
    assert set(store.stored.values()) == {1}


@pytest.mark.parametrize("first", ["cut", "fewer"])
async def test_what_was_stored_behind_a_cut_answer_is_a_duplicate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Nobody knows what became of it: it is sent again with the same ids, and was there."""
    store = Store()
    store.first = [getattr(store, first)]
    counts, requests = await _delivered(tmp_path, store, monkeypatch)
    assert counts == THERE
    assert requests == 2
    assert len(store.stored) == EVENTS


async def test_the_failure_store_counts_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Elasticsearch put into the failure store is `redirected`: neither delivered nor a dead letter."""
    store = Store()
    store.first = [store.in_failure_store]
    counts, requests = await _delivered(tmp_path, store, monkeypatch)
    assert counts == {Term.ASSIGNED: EVENTS, Term.DELIVERED: EVENTS - 2, Term.REDIRECTED: 2}
    assert requests == 1


async def test_items_without_memory_come_again_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored beside them does not."""
    store = Store()
    store.first = [store.without_memory]
    counts, _ = await _delivered(tmp_path, store, monkeypatch)
    assert counts == STORED
    assert set(store.stored.values()) == {1}


async def test_a_body_that_is_refused_whole_is_bisected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one event that spoils it is a dead letter, the other thirty-nine are stored once."""
    store = Store()

    def strict(ids: list[str]) -> bytes:
        guilty = any(each.startswith("e17-") for each in ids)
        return _whole(400, "x_content_parse_exception")(ids) if guilty else store.created(ids)

    store.first = [strict] * 100
    counts, requests = await _delivered(tmp_path, store, monkeypatch)
    assert counts == {Term.ASSIGNED: EVENTS, Term.DELIVERED: EVENTS - 1, Term.DEAD_LETTERED: 1}
    assert requests < 16
    assert len(store.stored) == EVENTS - 1
