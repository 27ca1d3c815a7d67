"""A full disk and a full spool: senders see backpressure, the delivery that empties it goes on, nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

CHUNKS, EVENTS = 150, 200


class _Sender(threading.Thread):
    """Sends numbered events that hardly compress, with ack; `acknowledged` counts chunks."""

    def __init__(self, port: int, chunks: int = CHUNKS) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.chunks = chunks
        self.acknowledged = 0
        self.error: Exception | None = None

    def run(self) -> None:
        rng = random.Random(5)
        try:
            with ForwardSender("127.0.0.1", self.port, timeout=60, attempts=100) as sender:
                for number in range(self.chunks):
                    noise = [rng.randbytes(500).hex() for _ in range(EVENTS)]
                    events = [(0, {"message": f"{n} #{number * EVENTS + i}"}) for i, n in enumerate(noise)]
                    sender.send("mcp", events)
                    self.acknowledged += 1
        except Exception as error:  # said by the test, in its thread
            self.error = error


def _until_nothing_moves(sender: _Sender) -> int:
    """The chunks that were acknowledged when no more were for a while."""
    before = -1
    while before != sender.acknowledged:
        before = sender.acknowledged
        time.sleep(2)
    return before


def _through(daemon: Daemon, elasticsearch: Elasticsearch, index: str) -> None:
    """Fill it while Elasticsearch is away, then let it go, and look for every event."""
    sender = _Sender(daemon.forward_port)
    sender.start()
    wait_until(lambda: sender.acknowledged > 3 or sender.error, what="the first acknowledgements")
    assert _until_nothing_moves(sender) < CHUNKS
    status, why = daemon.get("/-/ready")
    assert (status, why) == (503, "the spool is full and takes no events\n")
    assert daemon.get("/-/healthy")[0] == 200
    daemon.kill()
    daemon.config.write_text(daemon.config.read_text().replace("http://127.0.0.1:9", elasticsearch.url))
    daemon.start()
    wait_until(lambda: elasticsearch.count(index) == CHUNKS * EVENTS, 60, what="every event in Elasticsearch")
    sender.join(30)
    assert sender.error is None
    assert sender.acknowledged == CHUNKS
    wait_until(daemon.drained)
    daemon.assert_closed()
    assert daemon.get("/-/ready")[0] == 200


def _config(index: str, **spool: Any) -> dict[str, Any]:
    return {**to_elasticsearch("http://127.0.0.1:9", index), "spool": spool}


def test_a_full_disk(tmp_path: Path, small_disk: Path, elasticsearch: Elasticsearch) -> None:
    """The disk fills up, senders wait without an ack; after a kill and with Elasticsearch back all arrives once."""
    index = f"full-disk-{time.time_ns()}"
    config = _config(index, directory=str(small_disk / "spool"), ballast_bytes="1MiB")
    with Daemon(tmp_path, config) as daemon:
        _through(daemon, elasticsearch, index)


def test_a_full_spool(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """The same at the spool's own limit, with `when_full: block`."""
    index = f"full-spool-{time.time_ns()}"
    with Daemon(tmp_path, _config(index, directory=str(tmp_path / "spool"), max_bytes="4MiB")) as daemon:
        _through(daemon, elasticsearch, index)


# --- the other policies, with nobody to deliver to ---------------------------------------------------------


#: Enough to fill the small disk, and no more: what the policies do at `max_bytes` is in tests/engine/test_overflow.py.
FEW = 120


@pytest.fixture
def spool(small_disk: Path) -> dict[str, Any]:
    """Settings of a spool on a disk that gets full."""
    return {"directory": str(small_disk / "spool"), "ballast_bytes": "1MiB"}


def _sent(daemon: Daemon) -> None:
    sender = _Sender(daemon.forward_port, FEW)
    sender.start()
    sender.join(60)
    assert sender.error is None
    assert sender.acknowledged == FEW


def _reasons(daemon: Daemon) -> dict[str, int]:
    """Events that were let go at the outputs, by reason."""
    rows = daemon.status()["ledger"]["outputs"]
    return {f"{row['output']} {row['reason']}": row["count"] for row in rows if row["term"] == "dropped"}


def test_drop_oldest_goes_on_taking(tmp_path: Path, spool: dict[str, Any], elasticsearch: Elasticsearch) -> None:
    """Every chunk is acknowledged in time; the newest arrive, each once, the rest is counted, across a kill."""
    index = f"oldest-{time.time_ns()}"
    with Daemon(tmp_path, _config(index, **spool, when_full="drop_oldest")) as daemon:
        _sent(daemon)
        daemon.assert_closed()
        daemon.kill()
        daemon.config.write_text(daemon.config.read_text().replace("http://127.0.0.1:9", elasticsearch.url))
        daemon.start()
        wait_until(daemon.drained, 60)
        daemon.assert_closed()
        (dropped,) = _reasons(daemon).values()
        assert 0 < dropped < FEW * EVENTS
        wait_until(lambda: elasticsearch.count(index) == FEW * EVENTS - dropped, what="all that was not let go")
        assert daemon.log.read_text().count("its oldest events are let go") in (1, 2)  # once for each start


def test_a_dead_best_effort_output_stops_nobody(
    tmp_path: Path, spool: dict[str, Any], elasticsearch: Elasticsearch
) -> None:
    """With `block`: what the dead one owes goes when it gets tight, the required one gets every event."""
    index = f"best-effort-{time.time_ns()}"
    config = _config(index, **spool)
    config["outputs"]["elasticsearch"]["hosts"] = [elasticsearch.url]
    config["outputs"]["spare"] = {"type": "elasticsearch", "hosts": ["http://127.0.0.1:9"], "best_effort": True}
    with Daemon(tmp_path, config) as daemon:
        _sent(daemon)
        wait_until(lambda: elasticsearch.count(index) == FEW * EVENTS, 60, what="every event in Elasticsearch")
        daemon.assert_closed()
        assert [*_reasons(daemon)] == ["spare best_effort"]


def test_reject_refuses_until_there_is_room(
    tmp_path: Path, spool: dict[str, Any], elasticsearch: Elasticsearch
) -> None:
    """Connections are closed without an ack, nothing is let go; who comes again is taken once there is room."""
    index = f"reject-{time.time_ns()}"
    with Daemon(tmp_path, _config(index, **spool, when_full="reject")) as daemon:
        sender = _Sender(daemon.forward_port, FEW)
        sender.start()
        wait_until(lambda: "mcp_ingest_refused_events_total" in daemon.get("/metrics")[1], what="a refusal")
        assert sender.acknowledged < FEW
        daemon.kill()
        daemon.config.write_text(daemon.config.read_text().replace("http://127.0.0.1:9", elasticsearch.url))
        daemon.start()
        sender.join(90)
        assert sender.error is None
        wait_until(lambda: elasticsearch.count(index) == FEW * EVENTS, 60, what="every event in Elasticsearch")
        daemon.assert_closed()
        assert _reasons(daemon) == {}
