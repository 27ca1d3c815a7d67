"""A full disk and a full spool: senders see backpressure, the delivery that empties it goes on, nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

CHUNKS, EVENTS = 150, 200


class _Sender(threading.Thread):
    """Sends numbered events that hardly compress, with ack; `acknowledged` counts chunks."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.acknowledged = 0
        self.error: Exception | None = None

    def run(self) -> None:
        rng = random.Random(5)
        try:
            with ForwardSender("127.0.0.1", self.port, timeout=60, attempts=100) as sender:
                for number in range(CHUNKS):
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
