"""The whole daemon before a real Elasticsearch that refuses: what parks, what halves, what dies, and that all heals."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

pytestmark = pytest.mark.timeout(180)

EACH = 150


@pytest.fixture
def name() -> str:
    """The beginning of names of indices that no other test uses."""
    return f"it-{uuid.uuid4().hex[:8]}"


def _daemon(directory: Path, server: Elasticsearch, name: str, **settings: Any) -> Daemon:
    config = to_elasticsearch(server.url, name + "-{service_name}", template=False, request_seconds=6, **settings)
    return Daemon(directory, config)


def _send(daemon: Daemon, *records: dict[str, Any]) -> None:
    with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        for start in range(0, len(records), 50):
            sender.send("mcp", [(time.time_ns(), record) for record in records[start : start + 50]])


def _output(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.status()["outputs"]["elasticsearch"]
    return found


def _make(server: Elasticsearch, index: str, **body: Any) -> None:
    body.setdefault("settings", {})["index.number_of_replicas"] = 0
    wait = "" if "index.routing.allocation.require.box" not in body["settings"] else "?wait_for_active_shards=0"
    status, answer = server.request("PUT", f"/{index}{wait}", body)
    assert status == 200, answer


def _settings(server: Elasticsearch, index: str, **settings: Any) -> None:
    status, answer = server.request("PUT", f"/{index}/_settings", settings)
    assert status == 200, answer


BROKEN = ("missing", "closed", "full", "readonly", "homeless")


def _break(server: Elasticsearch, name: str) -> None:
    """Five indices that take nothing, each for a reason of its own: one is not even there."""
    for broken in ("closed", "full", "readonly"):
        _make(server, f"{name}-{broken}")
    server.request("POST", f"/{name}-closed/_close")
    _settings(server, f"{name}-full", **{"index.blocks.read_only_allow_delete": True})
    _settings(server, f"{name}-readonly", **{"index.blocks.write": True})
    _make(server, f"{name}-homeless", settings={"index.routing.allocation.require.box": "none"})


def _mend(server: Elasticsearch, name: str) -> None:
    _make(server, f"{name}-missing")
    server.request("POST", f"/{name}-closed/_open")
    _settings(server, f"{name}-full", **{"index.blocks.read_only_allow_delete": None})
    _settings(server, f"{name}-readonly", **{"index.blocks.write": None})
    _settings(server, f"{name}-homeless", **{"index.routing.allocation.require.box": None})


def test_what_takes_nothing_parks_alone_and_wakes(tmp_path: Path, narrow: Elasticsearch, name: str) -> None:
    """Missing, closed, full, read-only, without a shard: each waits with its reason, the rest goes on, also over a
    `kill -9`; once the causes are gone all of it is there, each event once. The server takes 64 kB at a time and has
    memory for 60: requests become as small as that needs.
    """
    _break(narrow, name)
    _make(narrow, f"{name}-healthy")
    events = [
        {"service_name": service, "message": f"{service} {number} " + "x" * 400}
        for number in range(EACH)
        for service in ("healthy", *BROKEN)
    ]
    with _daemon(tmp_path, narrow, name) as daemon:
        _send(daemon, *events)
        wait_until(lambda: narrow.count(f"{name}-healthy") == EACH, 60, "the healthy index")
        wait_until(lambda: len(_output(daemon)["parked"]) == len(BROKEN), 60, "five parked indices")
        wait_until(lambda: _output(daemon)["held"] == EACH * len(BROKEN), 30, "the rest held")
        reasons = {index.rpartition("-")[2]: why for index, why in _output(daemon)["parked"].items()}
        for broken, reason in (("missing", "404 index_not_found"), ("closed", "400 index_closed"),
                               ("full", "429 cluster_block"), ("readonly", "403 cluster_block"),
                               ("homeless", "503 unavailable_shards")):  # fmt: skip
            assert reasons[broken].startswith(reason), reasons
        metrics = daemon.get("/metrics")[1]
        assert f'mcp_ingest_output_parked_destinations{{output="elasticsearch"}} {len(BROKEN)}.0' in metrics
        daemon.assert_closed()
        daemon.kill()
        daemon.start()
        _send(daemon, {"service_name": "healthy", "message": "later"})
        wait_until(lambda: narrow.count(f"{name}-healthy") == EACH + 1, 30, "what came later")
        _mend(narrow, name)
        wait_until(daemon.drained, 60, "everything delivered")
        daemon.assert_closed()
        assert _output(daemon)["parked"] == {}
        assert "takes events again" in daemon.log.read_text()
    for service in BROKEN:
        messages = [hit["_source"]["message"] for hit in narrow.search(f"{name}-{service}")]
        assert len(messages) == len(set(messages)) == EACH, service


def test_a_read_only_cluster_parks_the_output(tmp_path: Path, narrow: Elasticsearch, name: str) -> None:
    """A whole 403 is one line of log and no dead letter; it goes on by itself."""
    _make(narrow, f"{name}-healthy")
    block = "cluster.blocks.read_only_allow_delete"
    narrow.request("PUT", "/_cluster/settings", {"persistent": {block: True}})
    try:
        with _daemon(tmp_path, narrow, name) as daemon:
            _send(daemon, *[{"service_name": "healthy", "message": f"m{n}"} for n in range(20)])
            wait_until(lambda: _output(daemon)["state"] == "parked" or _output(daemon)["parked"], 20, "parked")
            daemon.assert_closed()
            narrow.request("PUT", "/_cluster/settings", {"persistent": {block: None}})
            wait_until(daemon.drained, 30, "everything delivered")
            daemon.assert_closed()
    finally:
        narrow.request("PUT", "/_cluster/settings", {"persistent": {block: None}})
    assert narrow.count(f"{name}-healthy") == 20


TYPED = {"n": {"type": "long"}, "day": {"type": "date"}, "word": {"type": "keyword"}, "part": {"type": "object"}}
CONFLICTS: list[dict[str, Any]] = [
    {"n": "no number"},
    {"n": {"a": 1}},
    {"day": "not a day"},
    {"word": "w" * 40_000},
    {"part": "no object"},
]


def test_a_conflict_is_repaired_once_and_harms_no_neighbour(tmp_path: Path, narrow: Elasticsearch, name: str) -> None:
    """The field that does not fit moves to `conflict.*`; what is refused still is a dead letter with the reason, and
    an event that is too large by itself, too. All others are stored, in requests as small as the server wants them.
    """
    _make(narrow, f"{name}-typed", mappings={"properties": TYPED})
    _make(narrow, f"{name}-strict", mappings={"dynamic": "strict", "properties": {"message": {"type": "text"}}})
    _make(narrow, f"{name}-few", settings={"index.mapping.total_fields.limit": 20})
    good = [{"service_name": "typed", "message": f"good {n} " + "x" * 900, "n": n} for n in range(300)]
    odd = [{"service_name": "typed", "message": f"odd {n}", **record} for n, record in enumerate(CONFLICTS)]
    dead: list[dict[str, Any]] = [
        {"service_name": "strict", "message": "strict"},
        {"service_name": "few", "message": "few", **{f"field_{n}": n for n in range(30)}},
        {"service_name": "typed", "message": "large " + "x" * 120_000},
    ]
    with _daemon(tmp_path, narrow, name) as daemon:
        narrow.pause()  # so that all of it is there before the first large request
        _send(daemon, *good[:10], *odd, *dead, *good[10:])
        narrow.resume()
        wait_until(daemon.drained, 60, "everything settled")
        daemon.assert_closed()
        assert 'mcp_ingest_retries_total{output="elasticsearch",reason="too_large"}' in daemon.get("/metrics")[1]
        letters = json.loads(daemon.get("/api/dead-letters?limit=100")[1])["letters"]
    stored = {hit["_source"]["message"]: hit["_source"] for hit in narrow.search(f"{name}-typed")}
    assert set(stored) == {record["message"] for record in (*good, *odd)}
    for record in odd:
        ((field, value),) = [(key, each) for key, each in record.items() if key in TYPED]
        kept = stored[record["message"]]
        assert field not in kept
        assert kept[f"conflict.{field}"] in (value, json.dumps(value, separators=(",", ":")))
    found = {(letter["kind"], letter["destination"].rpartition("-")[2]) for letter in letters}
    assert found == {
        ("strict_dynamic_mapping_exception", "strict"),
        ("document_parsing_exception", "few"),
        ("too_large", "typed"),
    }
    assert len(letters) == 3
