"""Bad input of any kind gets a clear error or a dead letter; the neighbours arrive, nothing is lost."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_store
from tests.integration.daemon import Daemon, wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    inputs = {"forward": {}, "files": {"type": "tail", "paths": [str(tmp_path / "in.log")], "start_at": "head"}}
    with Daemon(tmp_path, to_store(tmp_path, inputs)) as running:
        yield running


def _messages(daemon: Daemon) -> list[str]:
    found = daemon.run("query", "*:*", "--format", "ndjson", "--limit", "1000", check=False)
    return sorted(str(json.loads(line)["message"]) for line in found.stdout.splitlines())


def _raw(daemon: Daemon, data: bytes) -> bytes:
    """Send bytes on a connection of its own and read until the daemon closes it or has answered."""
    with socket.create_connection(("127.0.0.1", daemon.forward_port), timeout=5) as connection:
        connection.sendall(data)
        connection.settimeout(2)
        try:
            return connection.recv(1000)
        except TimeoutError:
            return b""


def _letters(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(daemon.get("/api/dead-letters?limit=1000")[1])["letters"]
    return found


def test_garbage_on_the_port(daemon: Daemon) -> None:
    """Garbage closes its connection, is logged and counted, and nobody else notices."""
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xc1" * 100, b"\xff" * 1000, bytes(range(256)) * 4):
        _raw(daemon, garbage)
    with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        sender.send("mcp", [(0, {"message": "neighbour"})])
    wait_until(lambda: _messages(daemon) == ["neighbour"])
    assert "mcp_ingest_protocol_errors_total" in daemon.get("/metrics")[1]
    assert daemon.get("/-/ready")[0] == 200
    daemon.assert_closed()


def test_odd_records(daemon: Daemon) -> None:
    """Records of no kind, NaN, huge integers, invalid UTF-8: neighbours arrive, all are accounted for."""
    event_time = msgpack.ExtType(0, struct.pack(">II", 1_700_000_000, 5))
    entries = [
        [event_time, {"message": "first"}],
        [event_time, [1, 2, 3]],
        [event_time, "a string"],
        [event_time, {"message": "nan", "value": float("nan")}],
        [event_time, {"message": "huge", "value": 2**64 - 1}],
        [event_time, {"message": "bytes", "value": b"\xff\xfe"}],
        [event_time, {b"message": b"invalid \xff utf-8"}],
        [event_time, 17],
        [event_time, {"message": "last"}],
    ]
    packed = b"".join(msgpack.packb(entry) for entry in entries)
    answer = _raw(daemon, msgpack.packb(["mcp", packed, {"chunk": "odd", "size": len(entries)}]))
    assert msgpack.unpackb(answer) == {"ack": "odd"}
    expected = ["a string", "bytes", "first", "huge", "invalid \ufffd utf-8", "last", "nan"]
    wait_until(lambda: _messages(daemon) == expected, what=f"{_messages(daemon)} == {expected}")
    assert len(_letters(daemon)) == 2
    daemon.assert_closed()


def test_broken_and_endless_lines_in_a_file(daemon: Daemon, tmp_path: Path) -> None:
    """A broken JSON line and a line of 100 MB are dead letters or kept; the lines around them arrive."""
    with (tmp_path / "in.log").open("wb") as log:
        log.write(b'{"message": "before"}\n{"message": "broken\n')
        for _ in range(100):
            log.write(b"x" * 1_000_000)
        log.write(b"\nplain \xff text\n" + b'{"message": "deep", "v": ' + b"[" * 3000 + b"]" * 3000 + b"}\n")
        log.write(b'{"message": "after"}\n')
    wait_until(lambda: {"before", "after", "plain \ufffd text"} <= set(_messages(daemon)), what="the neighbours")
    wait_until(daemon.drained)
    assert any("100" in letter["reason"] for letter in _letters(daemon))
    assert all(len(json.dumps(letter)) < 100_000 for letter in _letters(daemon))
    daemon.assert_closed()


def test_a_configuration_with_mistakes(tmp_path: Path) -> None:
    """`run` and `check` say every mistake with its place, and exit with 2."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        "inputs:\n  forward: {prot: 24224}\npipelines:\n  p:\n    match: '**'\n    stages:\n      - redakt\n"
        "outputs:\n  stdout: {}\n"
    )
    for verb in ("run", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "mcp_ingest", verb, "-c", str(path)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert f"{path}:2:13" in done.stderr
        assert "port" in done.stderr
        assert f"{path}:7:9" in done.stderr
        assert "redact" in done.stderr
