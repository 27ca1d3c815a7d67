"""A secret in a tag is in nothing that the daemon writes or says: every file of it, their names, its pages."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgpack

from mcp_ingest.client.forward import ForwardSender
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import free_port

CARD, PASSWORD = "4111111111111111", "correct-horse"
TAG = f"shop.{CARD}"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def _config(directory: Path) -> dict[str, Any]:
    return {
        "inputs": {"forward": {}},
        "pipelines": {
            "shop": {
                "match": f"shop.{CARD}",
                "stages": [{"drop": {"when": f"tag == '{TAG}'"}}, {"parse_json": {"field": "message"}}, "redact"],
                "outputs": ["archive", "store", "away"],
            }
        },
        "outputs": {
            "archive": {"type": "file", "path": f"{directory}/archive/{{tag}}/{{tag}}.ndjson"},
            "store": {"directory": str(directory / "store")},
            "away": {
                "type": "elasticsearch",
                "hosts": [f"http://127.0.0.1:{free_port()}"],
                "index": "logs-{tag}",
            },
        },
        "log": {"level": "debug"},
    }


def _send(daemon: Daemon) -> None:
    good = {"message": "paid", "service_name": "shop", "log_level": "INFO", "timestamp": "2025-11-23T10:00:00Z"}
    good["trace_id"] = TRACE
    with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        sender.send(TAG, [(0, good), (0, {"message": "{broken"})])
        sender.send(f"other.password={PASSWORD}", [(0, {"message": "nobody takes this"})])
    with socket.create_connection(("127.0.0.1", daemon.forward_port), timeout=5) as connection:
        connection.sendall(msgpack.packb([TAG, [[1, 2, 3, 4], [0, good]], {"chunk": "odd"}]))
        connection.recv(1000)
        connection.sendall(msgpack.packb([TAG, b"no entries", {"compressed": CARD}]))
        connection.recv(1000)


def _said(daemon: Daemon) -> str:
    """All that it says of these events, on its pages and by its commands."""
    letters = json.loads(daemon.get("/api/dead-letters?limit=100")[1])["letters"]
    pages = [daemon.get(page)[1] for page in ("/status", "/metrics", "/api/dead-letters?limit=100")]
    hits = daemon.run("query", "*:*", "--format", "ndjson", check=False).stdout
    asked = [TRACE, *(letter["event_id"] for letter in letters)]
    return "".join([*pages, hits, *(daemon.run("why", each, check=False).stdout for each in asked)])


def test_a_secret_in_a_tag_is_nowhere(tmp_path: Path) -> None:
    """Neither of accepted events nor of dead letters; the pipeline is chosen by the tag as it came."""
    with Daemon(tmp_path, _config(tmp_path)) as daemon:
        _send(daemon)
        wait_until(lambda: (tmp_path / "archive" / "shop.[REDACTED:card]" / "shop.[REDACTED:card].ndjson").exists())
        wait_until(lambda: daemon.status()["outputs"]["store"]["held"] == 0)
        said = _said(daemon)
        daemon.assert_closed()
        assert "with tag shop.[REDACTED:card]" in said  # `why` of what waits
        assert "logs-shop.[redacted_card]" in said
        kinds = {letter["kind"] for letter in json.loads(daemon.get("/api/dead-letters?limit=100")[1])["letters"]}
        assert len(kinds) >= 3, kinds
        daemon.stop()
    names = "\n".join(str(path) for path in tmp_path.rglob("*"))
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != daemon.config]
    whole = b"".join(path.read_bytes() for path in files).decode("utf-8", "replace")
    for secret in (CARD, PASSWORD):
        assert secret not in names
        assert secret not in whole
        assert secret not in said
