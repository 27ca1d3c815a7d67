"""The example in docs/overflow.md, done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import yaml

from mcp_ingest.client.forward import ForwardSender
from tests.docs.samples import ROOT, agree, blocks
from tests.integration.daemon import Daemon, wait_until

PAGE = ROOT / "docs" / "overflow.md"
EVENTS, CHUNK, ERRORS = 40_000, 500, 20


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(next(b.text for b in blocks(PAGE) if b.todo == "check"))
    for name, port in (("elasticsearch", 9201), ("spare", 9202)):
        assert config["outputs"][name]["hosts"] == [f"http://localhost:{port}"]
        config["outputs"][name]["hosts"] = ["http://127.0.0.1:9"]  # nobody is there, surely
    return config


def _send(port: int) -> None:
    with ForwardSender("127.0.0.1", port, timeout=30) as sender:
        for start in range(0, EVENTS, CHUNK):
            levels = ["INFO" if number % ERRORS else "ERROR" for number in range(start, start + CHUNK)]
            records = [{"log_level": level, "message": os.urandom(330).hex()} for level in levels]
            sender.send("mcp.app", [(0, record) for record in records])


def test_the_example_does_what_the_page_says(tmp_path: Path) -> None:
    """Nobody waits, the file has all, the spare one keeps to its budget, errors go last, and it is said."""
    config = _config()
    config["spool"]["directory"] = str(tmp_path / "spool")
    shown = next(block.text for block in blocks(PAGE) if block.text.startswith("  out  elasticsearch"))
    with Daemon(tmp_path, config) as daemon:
        _send(daemon.forward_port)
        archive = tmp_path / "archive" / "mcp.app.ndjson"
        wait_until(lambda: not daemon.status()["outputs"]["archive"]["held"], what="the file has all")
        assert archive.read_bytes().count(b"\n") == EVENTS
        status = daemon.status()
        assert status["spool"]["bytes"] < 8 * 2**20
        assert status["outputs"]["spare"]["held_bytes"] <= 2 * 2**20
        dropped = _sum(daemon, "elasticsearch", "drop_oldest", "normal")
        assert dropped + status["outputs"]["elasticsearch"]["held"] == EVENTS
        assert _sum(daemon, "elasticsearch", "drop_oldest", "high") == 0
        assert _sum(daemon, "spare", "over_budget", "normal") > dropped
        daemon.assert_closed()
        printed = daemon.run("status", check=False).stdout.splitlines()
        for line in shown.splitlines():
            assert line == "…" or any(agree(line, each) for each in printed), "\n".join([line, *printed])
        assert daemon.stop() == 0
    (summary, _) = (orjson.loads(line) for line in (tmp_path / "archive" / f"{TAG}.ndjson").read_bytes().splitlines())
    assert summary["metadata"]["events"] > 0


TAG = "mcp.ingest.overflow"


def _sum(daemon: Daemon, output: str, reason: str, priority: str) -> int:
    labels = f'{{output="{output}",priority="{priority}",reason="{reason}"}}'
    name = f"mcp_ingest_dropped_events_total{labels} "
    lines = [line for line in daemon.get("/metrics")[1].splitlines() if line.startswith(name)]
    return int(float(lines[0].split()[-1])) if lines else 0
