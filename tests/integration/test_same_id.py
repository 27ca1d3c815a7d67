"""A chunk that is sent again to a daemon that does not know it: what its `_id` catches, and what it cannot."""

from __future__ import annotations

import base64
import os
import socket
import time
import uuid
from pathlib import Path

from mcp_ingest.codecs.forward import decode_ack, encode_packed, pack_entries
from tests.integration.configurations import to_elasticsearch, to_store
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

EVENTS = 100


def _chunk() -> tuple[bytes, bytes]:
    """A chunk id as Fluentd makes it, and a frame of it."""
    chunk = base64.b64encode(os.urandom(16)) + b"\n"
    now = time.time_ns()
    packed = pack_entries((now + number, {"message": f"number {number}"}) for number in range(EVENTS))
    return chunk, encode_packed("mcp", packed, chunk=chunk)


def _send(daemon: Daemon, chunk: bytes, frame: bytes) -> None:
    with socket.create_connection(("127.0.0.1", daemon.forward_port), timeout=30) as connection:
        connection.sendall(frame)
        answer = b""
        while decode_ack(answer) is None:
            answer += connection.recv(512) or b"\xc1"
    assert decode_ack(answer) == chunk
    wait_until(daemon.drained, 60)


def _forget(daemon: Daemon) -> None:
    """Start it anew with an empty spool, as another worker would have one."""
    assert daemon.stop() == 0
    (daemon.directory / "spool").rename(daemon.directory / "spool-before")
    daemon.start()


def _counts(daemon: Daemon, output: str) -> dict[str, int]:
    return {row["term"]: row["count"] for row in daemon.status()["ledger"]["outputs"] if row["output"] == output}


def test_another_spool_makes_the_same_documents(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """In a daily index each event is there once, whoever took its chunk; the second time all are duplicates."""
    index = f"same-{uuid.uuid4().hex[:8]}-"
    config = to_elasticsearch(elasticsearch.url, index + "{@timestamp:%Y.%m.%d}", replicas=0)
    chunk, frame = _chunk()
    with Daemon(tmp_path, config) as daemon:
        _send(daemon, chunk, frame)
        first = _ids(elasticsearch, index + "*")
        _forget(daemon)
        _send(daemon, chunk, frame)
        assert _counts(daemon, "elasticsearch") == {"assigned": EVENTS, "duplicate": EVENTS}
        daemon.assert_closed()
    assert len(set(first)) == EVENTS
    assert _ids(elasticsearch, index + "*") == first


def _ids(elasticsearch: Elasticsearch, index: str) -> list[str]:
    return sorted(hit["_id"] for hit in elasticsearch.search(index))


def test_a_rollover_forgets_the_ids_of_a_data_stream(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """Its end: behind a rollover Elasticsearch stores a repeated event a second time, under the same id."""
    stream = f"logs-{uuid.uuid4().hex[:8]}-default"
    config = to_elasticsearch(elasticsearch.url, stream)
    del config["outputs"]["elasticsearch"]["index"]
    config["outputs"]["elasticsearch"] |= {"data_stream": stream, "replicas": 0}
    chunk, frame = _chunk()
    with Daemon(tmp_path, config) as daemon:
        _send(daemon, chunk, frame)
        _forget(daemon)
        _send(daemon, chunk, frame)
        assert _counts(daemon, "elasticsearch") == {"assigned": EVENTS, "duplicate": EVENTS}
        assert elasticsearch.request("POST", f"/{stream}/_rollover")[0] == 200
        (tmp_path / "spool-before").rename(tmp_path / "spool-first")
        _forget(daemon)
        _send(daemon, chunk, frame)
        assert _counts(daemon, "elasticsearch") == {"assigned": EVENTS, "delivered": EVENTS}
    found = _ids(elasticsearch, stream)
    assert (len(found), len(set(found))) == (2 * EVENTS, EVENTS)


def test_a_spool_that_forgot_a_chunk_stores_it_twice(tmp_path: Path) -> None:
    """Its end: the embedded store knows the spool's chunks, not the ids; a resend to the same spool is caught."""
    chunk, frame = _chunk()
    with Daemon(tmp_path, to_store(tmp_path)) as daemon:
        _send(daemon, chunk, frame)
        _send(daemon, chunk, frame)
        assert _counts(daemon, "store") == {"assigned": EVENTS, "delivered": EVENTS}
        _forget(daemon)
        _send(daemon, chunk, frame)
        found = daemon.run("query", "number", "--limit", "1000", "--format", "ndjson").stdout.splitlines()
    assert (len(found), len(set(found))) == (2 * EVENTS, EVENTS)
