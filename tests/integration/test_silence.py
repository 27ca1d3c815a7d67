"""Healthy operation is silent: what passes through leaves no line in the log, good or bad."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_store
from tests.integration.daemon import Daemon, wait_until

EVENTS = 600


@pytest.mark.parametrize(("level", "more"), [("info", 0), ("debug", 10)])
def test_nothing_is_logged_for_an_event(tmp_path: Path, level: str, more: int) -> None:
    """Hundreds of events by forward and from rotated files, bad, dropped and masked ones too: the start is one line."""
    logs = tmp_path / "logs"
    logs.mkdir()
    tail = {"type": "tail", "paths": [f"{logs}/*.log"], "start_at": "head"}
    config: dict[str, Any] = to_store(tmp_path, {"forward": {}, "files": tail})
    config["log"] = {"level": level}
    with Daemon(tmp_path, config) as daemon:
        _forward(daemon)
        for turn in range(3):
            (logs / "app.log").write_text("".join(f'{{"message": "line {turn} {n}"\n' for n in range(EVENTS // 3)))
            _wait(daemon, "files", EVENTS // 3 * (turn + 1))
            (logs / "app.log").rename(logs / f"app.log.{turn}")
        wait_until(daemon.drained)
        letters = daemon.status()["spool"]["dead_letters"]
        daemon.assert_closed()
        assert daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert letters == 100
    assert "runs" in lines[0]["message"]
    assert len(lines) <= 1 + more, lines


def _forward(daemon: Daemon) -> None:
    """A sixth is no event at all, a sixth is dropped, a sixth is masked; heartbeats before, with and behind."""
    kinds: list[Any] = [4711, {"log_level": "DEBUG"}, {"message": "4111 1111 1111 1111"}, {"a": 1}, {"b": b"\xff"}, {}]
    for _ in range(20):
        socket.create_connection(("127.0.0.1", daemon.forward_port)).close()
    with socket.create_connection(("127.0.0.1", daemon.forward_port)) as connection:
        for number in range(EVENTS):
            connection.sendall(msgspec.msgpack.encode(["mcp", number, kinds[number % 6]]) + b"\xc0")
    with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        sender.send("mcp", [(0, {"message": "the last"})])
    _wait(daemon, "forward", EVENTS + 1)


def _wait(daemon: Daemon, name: str, count: int) -> None:
    wait_until(lambda: daemon.status()["inputs"][name]["received"] == count)
