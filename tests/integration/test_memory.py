"""Memory from socket to spool is bounded in bytes, whatever comes in while the spool takes nothing (promise 7)."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from mcp_ingest.codecs.forward import pack_entries
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon

MiB = 2**20
#: What may be in flight, and what the process may take beside that: itself (40 MiB), the newest chunks, heaps that are
#: not given back at once.
IN_FLIGHT, BESIDE = 64, 170

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def _record(number: int) -> dict[str, Any]:
    return {
        "service_name": "model-router",
        "log_level": "INFO",
        "message": f"routed {number}",
        "noise": os.urandom(100).hex(),
        "trace_id": os.urandom(16).hex(),
        "metadata": {"region": "eu"},
    }


_HUNDRED = pack_entries([(10**18, _record(number)) for number in range(100)])


def _frame(size: int) -> bytes:
    """A PackedForward frame of about this size that asks for an ack."""
    chunk = base64.b64encode(os.urandom(16)).decode()
    packed: bytes = msgpack.packb(["mcp.app", _HUNDRED * (size // len(_HUNDRED)), {"chunk": chunk}])
    return packed


def _anonymous(pid: int) -> float:
    """MiB of anonymous memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", text)[0]) / 1024


@contextlib.contextmanager
def _full(directory: Path) -> Iterator[Daemon]:
    """A daemon whose spool is full after the first slices, with nobody to deliver to."""
    config = to_elasticsearch("http://127.0.0.1:9", "x")
    spool = {"directory": str(directory / "spool"), "max_bytes": "1MiB"}
    with Daemon(directory, {**config, "spool": spool, "memory": {"max_in_flight": f"{IN_FLIGHT}MiB"}}) as daemon:
        yield daemon


def _peak(daemon: Daemon, connections: int, size: int, frames: int = 1) -> float:
    """The most memory that was taken while so many connections tried to send so many frames each."""
    assert daemon.process is not None

    def send() -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", daemon.forward_port)) as sender:
            for _ in range(frames):
                sender.sendall(_frame(size))
            sender.recv(1)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    peak, end = 0.0, time.monotonic() + 5
    while time.monotonic() < end:
        peak = max(peak, _anonymous(daemon.process.pid))
        time.sleep(0.02)
    assert daemon.get("/-/ready") == (503, "the spool is full and takes no events\n")
    return peak


@pytest.mark.parametrize(
    ("connections", "size", "frames"),
    [(50, 8 * MiB, 1), (50, MiB // 2, 16), (400, MiB // 5, 4)],
    ids=["50 of 8 MB", "50 with many of 512 KB", "400 with some of 200 KB"],
)
def test_many_senders_share_what_may_be_in_flight(tmp_path: Path, connections: int, size: int, frames: int) -> None:
    """However many send, and whatever sizes, no more is held than the budget says."""
    with _full(tmp_path) as daemon:
        assert _peak(daemon, connections, size, frames) < IN_FLIGHT + BESIDE


def test_one_frame_of_250_mb_is_held_once(tmp_path: Path) -> None:
    """A frame larger than the budget passes alone, takes its length and a slice, and gives it back."""
    with _full(tmp_path) as daemon:
        assert 250 < _peak(daemon, 1, 250 * MiB) < 250 + BESIDE
