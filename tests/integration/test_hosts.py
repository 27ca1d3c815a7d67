"""Where events go, through the whole daemon: several hosts of which some are away, and a data stream."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch, free_port

pytestmark = pytest.mark.timeout(180)


def test_hosts_that_are_away_are_passed_over(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """With two of three hosts dead everything is delivered, at once; each of them is one line of log."""
    index = f"hosts-{uuid.uuid4().hex[:8]}"
    config = to_elasticsearch(elasticsearch.url, index)
    away = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    config["outputs"]["elasticsearch"]["hosts"] = [away[0], elasticsearch.url, away[1]]
    with Daemon(tmp_path, config) as daemon, ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        for number in range(30):
            sender.send("mcp", [(time.time_ns(), {"message": f"m{number}"})])
            time.sleep(0.05)
        wait_until(daemon.drained, 30, "everything delivered")
        daemon.assert_closed()
        assert elasticsearch.count(index) == 30
        warnings = [line for line in daemon.log.read_text().splitlines() if "WARNING" in line]
        assert sorted(
            host for host in away for line in warnings if f"the host {host}: it is passed over" in line
        ) == sorted(away)
        assert len(warnings) == 2


def test_a_data_stream_through_the_daemon(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """The first request makes it; each event is there once, also after a `kill -9` in between."""
    stream = f"logs-{uuid.uuid4().hex[:8]}-default"
    config = to_elasticsearch(elasticsearch.url, stream)
    del config["outputs"]["elasticsearch"]["index"]
    config["outputs"]["elasticsearch"] |= {"data_stream": stream, "replicas": 0}
    with Daemon(tmp_path, config) as daemon:
        for turn in range(3):
            with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
                sender.send("mcp", [(time.time_ns(), {"message": f"m{turn}-{number}"}) for number in range(100)])
            daemon.kill()
            daemon.start()
        wait_until(daemon.drained, 60, "everything delivered")
        daemon.assert_closed()
    messages = [hit["_source"]["message"] for hit in elasticsearch.search(stream)]
    assert len(messages) == len(set(messages)) == 300
