"""The elasticsearch output against the real OpenSearch 3.8: the same code path, its own limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.client.forward import ForwardSender
from mcp_ingest.verdict import DELIVERED, DUPLICATE, AllDelivered, Park, Refused
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.opensearch import OpenSearch
from tests.integration.writing import Make, each, request

pytestmark = pytest.mark.timeout(180)
DAY = 86_400 * 10**9  # nanoseconds


@pytest.fixture(scope="module")
def opensearch() -> Iterator[OpenSearch]:
    """One server for this file."""
    server = OpenSearch()
    try:
        server.start()
        yield server
    finally:
        server.close()


async def test_events_are_created_once(opensearch: OpenSearch, output: Make, name: str) -> None:
    """The same request again is all duplicates, compressed or not."""
    for compression in (True, False):
        index = f"{name}-{compression}".lower()
        sent = request(index, [{"n": n, "message": "x" * 100} for n in range(100)])
        writer = output(opensearch, compression=compression)
        assert await writer.write(sent) == AllDelivered()
        assert each(await writer.write(sent)) == [DUPLICATE] * 100
        assert opensearch.count(index) == 100


async def test_the_template_is_fitted_to_it(opensearch: OpenSearch, output: Make, name: str) -> None:
    """What it does not know is left out or replaced; flat fields, aliases and `metadata` are found by searches."""
    writer = output(opensearch, index=name + "-{tag}", replicas=0)
    await writer.start()
    status, answer = opensearch.request("GET", f"/_index_template/{name}")
    assert status == 200
    properties = answer["index_templates"][0]["index_template"]["template"]["mappings"]["properties"]
    assert properties["metadata"] == {"type": "flat_object"}
    record = {"service_name": "router", "message": "a brown fox", "duration_ms": 12.5, "metadata": {"region": "eu"}}
    assert await writer.write(request(f"{name}-x", [record, {"service_name": "other"}])) == AllDelivered()
    for query in ("service.name:router", "message:fox", "metadata.region:eu", "duration_ms:[12 TO 13]"):
        hits = opensearch.search(f"{name}-x", {"query": {"query_string": {"query": query}}})
        assert [hit["_source"] for hit in hits] == [record], query


async def test_a_data_stream_takes_each_event_once(opensearch: OpenSearch, output: Make, name: str) -> None:
    """The first bulk makes it; a repeated id is a duplicate, an event without a time is refused."""
    writer = output(opensearch, data_stream=f"logs-{name}-default", replicas=0)
    await writer.start()
    record = {"@timestamp": "2026-11-22T12:00:00Z", "message": "m"}
    stream = f"logs-{name}-default"
    assert await writer.write(request(stream, [record], ["a"])) == AllDelivered()
    duplicate, refused = each(await writer.write(request(stream, [record, {"message": "m"}], ["a", "b"])))
    assert duplicate is DUPLICATE
    assert isinstance(refused, Refused)


async def test_what_takes_nothing_parks_alone(opensearch: OpenSearch, output: Make, name: str) -> None:
    """A closed, a blocked and a full index, beside one that is well."""
    for index in ("closed", "blocked", "full"):
        opensearch.request("PUT", f"/{name}-{index}")
    opensearch.request("POST", f"/{name}-closed/_close")
    opensearch.request("PUT", f"/{name}-blocked/_settings", {"index.blocks.write": True})
    opensearch.request("PUT", f"/{name}-full/_settings", {"index.blocks.read_only_allow_delete": True})
    sent = request(name, [{}, {}, {}, {}])
    sent.parts[0].destinations = [f"{name}-closed", f"{name}-blocked", f"{name}-full", name]
    *parked, delivered = each(await output(opensearch).write(sent))
    assert delivered is DELIVERED
    assert [verdict.why.split(":")[0] for verdict in parked if isinstance(verdict, Park)] == [
        "400 index_closed_exception",
        "403 cluster_block_exception",
        "429 cluster_block_exception",
    ]


def test_through_the_whole_daemon(tmp_path: Path, opensearch: OpenSearch, name: str) -> None:
    """Daily indices by the event's own time; a conflict is repaired; an index that is closed waits and wakes."""
    today = time.time_ns()
    before = today - 2 * DAY
    days = [time.strftime("%Y.%m.%d", time.gmtime(when // 10**9)) for when in (today, before)]
    config: dict[str, Any] = to_elasticsearch(opensearch.url, name + "-{@timestamp:%Y.%m.%d}", replicas=0)
    with Daemon(tmp_path, config) as daemon:
        with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
            sender.send("mcp", [(today, {"message": f"new {n}", "owner": {"name": "bob"}}) for n in range(50)])
            wait_until(daemon.drained, 60, "the first")
            opensearch.request("POST", f"/{name}-{days[0]}/_close")
            sender.send("mcp", [(before, {"message": f"old {n}"}) for n in range(50)])
            sender.send("mcp", [(today, {"message": f"odd {n}", "owner": "bob"}) for n in range(50)])
            wait_until(lambda: opensearch.count(f"{name}-{days[1]}") == 50, 30, "the old ones")
            wait_until(lambda: daemon.status()["outputs"]["elasticsearch"]["held"] == 50, 30, "the odd ones parked")
        opensearch.request("POST", f"/{name}-{days[0]}/_open")
        wait_until(daemon.drained, 60, "everything delivered")
        daemon.assert_closed()
        assert daemon.status()["outputs"]["elasticsearch"]["parked"] == {}
        assert daemon.status()["spool"]["dead_letters"] == 0
    stored = [hit["_source"] for hit in opensearch.search(f"{name}-{days[0]}")]
    assert len(stored) == 100
    odd = [record for record in stored if record["message"].startswith("odd")]
    assert {record["conflict.owner"] for record in odd} == {"bob"}
    assert all(record["message"].startswith("old") for record in
               (hit["_source"] for hit in opensearch.search(f"{name}-{days[1]}")))  # fmt: skip
