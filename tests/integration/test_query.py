"""One table of searches, asked of the embedded store and of a real Elasticsearch: the same hits, in the same order."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from mcp_ingest.component import find
from mcp_ingest.config.model import ComponentConfig, Place
from mcp_ingest.context import Context
from mcp_ingest.engine.search import Search, search
from mcp_ingest.verdict import AllDelivered, Part, Request
from tests.integration.servers import Elasticsearch

DAY = 86_400_000_000_000
START = 1_795_305_600_000_000_000  # 2026-11-22T00:00:00Z
NOW = START + DAY

EVENTS: list[dict[str, Any]] = [
    {"message": "Connection timeout to upstream", "service_name": "model-router", "log_level": "ERROR",
     "status_code": 504, "duration_ms": 30000.5, "request_id": "req-0001", "trace_id": "4bf92f3577b34da6",
     "metadata": {"environment": "production", "region": "eu-1"}, "retries": 3, "cached": False},
    {"message": "connection closed by peer after time-out", "service_name": "model-router", "log_level": "WARNING",
     "status_code": 200, "duration_ms": 12, "request_id": "req-0002", "metadata": {"environment": "production"},
     "retries": 0, "cached": True},
    {"message": "java.lang.NullPointerException at 192.168.1.1", "service_name": "gateway", "log_level": "ERROR",
     "status_code": 500, "duration_ms": 7.25, "user_id": "u-17", "labels": {"app": "web", "tier.name": "front end"}},
    {"message": "Request completed", "service_name": "Gateway", "log_level": "INFO", "status_code": 200,
     "duration_ms": 99, "operation": "tools/call", "latency": 0.5, "user_id": 42},
    {"message": "日本語のログ and Ünïcödé words", "service_name": "auth service", "log_level": "INFO",
     "operation": "log-in", "latency": 2.5, "tags": ["alpha", "Beta"], "nested": [{"k": "v1"}, {"k": "v2"}]},
    {"message": "card a:b x_y can't it's 1,000.5 foo-bar", "service_name": "billing", "log_level": "CRITICAL",
     "service_version": "1.10.0", "offset": -5, "path": "/api/v1/items", "note": 'say "hi" (now)'},
    {"message": "w" * 300 + " end", "service_name": "billing", "log_level": "DEBUG", "service_version": "1.9.0",
     "offset": 7, "path": "/api/v2/items", "duration_ms": "88.5", "long": "x" * 2000, "empty": "", "nothing": None},
    {"message": "star*field and question?mark", "service_name": "star*name", "log_level": "INFO",
     "service_version": "2.0.0", "log": "a string", "retries": 10, "metadata": {"deep": {"er": "value"}, "n": 5}},
]  # fmt: skip

#: Search text -> the numbers of the events that it finds.
TABLE: dict[str, set[int]] = {
    "*": {0, 1, 2, 3, 4, 5, 6, 7},
    "*:*": {0, 1, 2, 3, 4, 5, 6, 7},
    "connection": {0, 1},
    "CONNECTION": {0, 1},
    "connection timeout": {0},
    "message:timeout": {0},
    '"connection timeout"': {0},
    '"timeout connection"': set(),
    "time-out": {1},
    "time": {1},
    "foo-bar": {5},
    "message:bar": {5},
    "java.lang.NullPointerException": {2},
    "nullpointerexception": set(),
    "192.168.1.1": {2},
    "192": set(),
    '"a:b"': {5},
    "x_y": {5},
    "can't": {5},
    '"1,000.5"': {5},
    "日": {4},
    "日本語": {4},
    "ünïcödé": {4},
    "w" * 300: {6},
    "connect*": {0, 1},
    "Connect*": {0, 1},
    "*exception": {2},
    "message:c?nn*": {0, 1},
    "message:*": {0, 1, 2, 3, 4, 5, 6, 7},
    # keywords
    "service_name:model-router": {0, 1},
    "service_name:Model-Router": set(),
    "service_name:gateway": {2},
    'service_name:"auth service"': {4},
    "service_name:auth": set(),
    "service_name:*way": {2, 3},
    "service_name:model*": {0, 1},
    "service_name:star\\*name": {7},
    "service_name:star*": {7},
    "service_name:(gateway OR Gateway)": {2, 3},
    "service.name:gateway AND log.level:ERROR": {2},
    "operation:tools\\/call": {3},
    'operation:"tools/call"': {3},
    'path:"/api/v1/items"': {5},
    "path:\\/api\\/*": {5, 6},
    "path:*v2*": {6},
    'note:"say \\"hi\\" (now)"': {5},
    "request_id:req-000*": {0, 1},
    "request_id:req-0001": {0},
    "user_id:42": {3},
    "user_id:u-17": {2},
    "log:a*": {7},
    "tags:alpha": {4},
    "tags:beta": set(),
    "nested.k:v2": {4},
    "labels.app:web": {2},
    'labels.tier.name:"front end"': {2},
    "empty:*": {6},
    'empty:""': {6},
    "nothing:*": set(),
    "long:*": set(),
    "long:x*": set(),
    "unheard_of:x": set(),
    "unheard_of:[1 TO 5]": set(),
    "cached:true": {1},
    "cached:false": {0},
    # maps
    "metadata.environment:production": {0, 1},
    "metadata.environment:prod*": {0, 1},
    "metadata.region:*": {0},
    "metadata.deep.er:value": {7},
    "metadata.n:5": {7},
    "metadata:*": {0, 1, 7},
    "metadata:production": {0, 1},
    "metadata.environment:[a TO z]": {0, 1},
    # numbers
    "status_code:200": {1, 3},
    "status_code:>=500": {0, 2},
    "status_code:>500": {0},
    "status_code:[500 TO 504}": {2},
    "status_code:{500 TO 504]": {0},
    "status_code:<300": {1, 3},
    "status_code:[* TO 300]": {1, 3},
    "status_code:abc": set(),
    "status_code:5*": set(),
    "http.response.status_code:504": {0},
    "duration_ms:7.25": {2},
    "duration_ms:12.0": {1},
    "duration_ms:[10 TO 100]": {1, 3, 6},
    "duration_ms:*": {0, 1, 2, 3, 6},
    "retries:3": {0},
    "retries:>=3": {0, 7},
    "retries:[0 TO 3]": {0, 1},
    "retries:[0 TO 3}": {1},
    "retries:*": {0, 1, 7},
    "latency:>0.5": {4},
    "latency:>=0.5": {3, 4},
    "latency:2.5": {4},
    'offset:"-5"': {5},
    "offset:<0": {5},
    "offset:[-10 TO 10]": {5, 6},
    # text ranges
    "service_version:[1.10.0 TO 1.9.0]": {5, 6},
    "service_version:[1.10.0 TO 1.9.0}": {5},
    "service_version:>1.9.0": {7},
    "service_version:>=1.9": {6, 7},
    "service_version:<1.9": {5},
    "request_id:>req-0001": {1},
    # times
    "@timestamp:2026-11-22": {0, 1, 2, 3, 4, 5, 6, 7},
    "@timestamp:2026-11-21": set(),
    "@timestamp:[2026-11-22T00:01:00Z TO 2026-11-22T00:03:00Z]": {1, 2, 3},
    "@timestamp:{2026-11-22T00:01:00Z TO 2026-11-22T00:03:00Z}": {2},
    "@timestamp:>=2026-11-22T00:06": {6, 7},
    "@timestamp:>2026-11-22T00:06": {7},
    '@timestamp:<"2026-11-22T00:01:00.000000001Z"': {0, 1},
    "timestamp:>=now-1d AND timestamp:<now-23h": {0, 1, 2, 3, 4, 5, 6, 7},
    "@timestamp:>now-1h": set(),
    # structure
    "log_level:ERROR AND service_name:model-router": {0},
    "log_level:ERROR service_name:model-router": {0},
    "log_level:ERROR OR log_level:CRITICAL": {0, 2, 5},
    "log_level:(ERROR OR CRITICAL) AND NOT service_name:gateway": {0, 5},
    "log_level:ERROR OR log_level:INFO AND service_name:Gateway": {0, 2, 3},
    "service_name:Gateway AND log_level:INFO OR log_level:ERROR": {0, 2, 3},
    "log_level:DEBUG OR connection timeout": {0, 6},
    "NOT log_level:INFO": {0, 1, 2, 5, 6},
    "-log_level:INFO +status_code:*": {0, 1, 2},
    "log_level:DEBUG OR NOT status_code:*": {4, 5, 6, 7},
    "NOT (log_level:INFO OR log_level:ERROR)": {1, 5, 6},
    "_exists_:user_id": {2, 3},
    "NOT user.id:*": {0, 1, 4, 5, 6, 7},
    "_id:event-3": {3},
    "": {0, 1, 2, 3, 4, 5, 6, 7},
}


@dataclass(frozen=True)
class Filled:
    """Both backends with the same events."""

    store: ComponentConfig
    elasticsearch: ComponentConfig


def request(destinations: list[str]) -> Request:
    """The events as the delivery loop hands them on."""
    times = [START + index * 60_000_000_000 for index in range(len(EVENTS))]
    lines = []
    for index, event in enumerate(EVENTS):
        stamp = f"2026-11-22T00:{index:02}:00.000000000Z"
        lines.append(orjson.dumps({"@timestamp": stamp, "tag": "mcp.test", "timestamp": stamp, **event}))
    ids = [f"event-{index}" for index in range(len(EVENTS))]
    return Request([Part("spool-1", ids, times, ["mcp.test"] * len(EVENTS), destinations, lines)])


async def filled(kind: str, settings: dict[str, Any], destination: str) -> ComponentConfig:
    """An output of this type that has taken the events."""
    component = find("output", kind)
    config = component.Config(**settings)
    output = component(config, Context())
    await output.start()
    answer = await output.write(request([destination] * len(EVENTS)))
    await output.close()
    assert isinstance(answer, AllDelivered), answer
    return ComponentConfig("output", kind, kind, config, Place("test", 1, 1))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends(elasticsearch: Elasticsearch, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Filled]:
    """Every event in both."""
    directory: Path = tmp_path_factory.mktemp("store")
    store = await filled("store", {"directory": str(directory)}, "2026-11-22")
    name = f"query-{uuid.uuid4().hex[:8]}"
    settings = {"hosts": [elasticsearch.url], "index": name + "-{@timestamp:%Y.%m.%d}"}
    server = await filled("elasticsearch", settings, f"{name}-2026.11.22")
    elasticsearch.request("POST", f"/{name}-*/_refresh")
    yield Filled(store, server)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("text", TABLE, ids=lambda text: text[:60] or "nothing")
async def test_both_find_the_same(backends: Filled, text: str) -> None:
    """A search text finds the same events in the store and in Elasticsearch, newest first."""
    expected = [f"event-{index}" for index in sorted(TABLE[text], reverse=True)]
    for output in (backends.store, backends.elasticsearch):
        found = await search(output, Search(text), NOW)
        assert [hit.id for hit in found.hits] == expected, output.name
        assert (found.total, found.exact, found.notes) == (len(expected), True, []), output.name


@pytest.mark.asyncio(loop_scope="module")
async def test_bounds_limit_and_order(backends: Filled) -> None:
    """Start and end, both included, the limit and the order mean the same on both; hits are the whole events."""
    asked = Search("", START + 60_000_000_000, START + 5 * 60_000_000_000, limit=2, newest_first=False)
    answers = [await search(output, asked, NOW) for output in (backends.store, backends.elasticsearch)]
    assert answers[0].hits == answers[1].hits
    assert [hit.id for hit in answers[0].hits] == ["event-1", "event-2"]
    assert answers[0].total == answers[1].total == 5
    assert answers[0].hits[0].event["message"] == EVENTS[1]["message"]
