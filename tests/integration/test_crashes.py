"""`kill -9` of the daemon and of Elasticsearch, at random moments, under rotation: every line exactly once."""

from __future__ import annotations

import gzip
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

SOURCE = Path("/var/log/dpkg.log")
KILLS = 30


def _real_lines(count: int) -> list[str]:
    """Lines of this machine's own package log, numbered so that each is one of its kind."""
    logs = [SOURCE, SOURCE.with_name("dpkg.log.1"), *SOURCE.parent.glob("dpkg.log.*.gz"), *SOURCE.parent.glob("*.log")]
    lines: list[str] = []
    for log in logs:
        if log.is_file():
            data = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
            lines += data.decode("utf-8", "replace").split("\n")
    lines = [line for line in lines if line.strip()]
    if not lines:
        pytest.fail("this machine has no log of its own: /var/log/*.log is empty")
    return [f"{lines[n % len(lines)]} #{n}" for n in range(count)]


class _Writer:
    """Writes lines to `app.log` in pieces, and rotates it by rename now and then."""

    def __init__(self, directory: Path, lines: list[str], seed: int) -> None:
        self.path = directory / "app.log"
        self.rest = iter(lines)
        self.rng = random.Random(seed)
        self.rotated = 0
        self.path.touch()

    def write(self, count: int) -> None:
        with self.path.open("a") as log:
            for _, line in zip(range(count), self.rest, strict=False):
                text = line + "\n"
                middle = self.rng.randrange(len(text))
                log.write(text[:middle])
                if self.rng.random() < 0.05:
                    log.flush()  # the reader may see half a line
                log.write(text[middle:])

    def rotate(self) -> None:
        """`app.log` → `app.log.N`, out of the glob, and a new `app.log`."""
        self.rotated += 1
        self.path.rename(self.path.with_name(f"app.log.{self.rotated}"))
        self.path.touch()


def _numbers(elasticsearch: Elasticsearch, index: str) -> Counter[str]:
    return Counter(hit["_source"]["message"].rsplit("#", 1)[1] for hit in elasticsearch.search(index))


def test_kill_9_under_rotation(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """A real log is tailed while it is rotated and the daemon is killed again and again: each line exactly once."""
    index = f"kills-{time.time_ns()}"
    logs = tmp_path / "logs"
    logs.mkdir()
    inputs = {"files": {"type": "tail", "paths": [str(logs / "*.log")], "start_at": "head", "tag": "mcp.file"}}
    writer = _Writer(logs, _real_lines(9000), seed=7)
    rng = random.Random(11)
    with Daemon(tmp_path, to_elasticsearch(elasticsearch.url, index, inputs)) as daemon:
        for kill in range(KILLS):
            # one rotation in each life and death: a file that came and went before anybody saw it is nobody's
            live = kill % 2 == 0
            pieces = rng.randint(1, 4)
            rotated = rng.randrange(pieces)
            for piece in range(pieces):
                writer.write(rng.randint(1, 120))
                time.sleep(rng.random() * 0.05)
                if live and piece == rotated:
                    writer.rotate()
            daemon.kill()
            writer.write(rng.randint(0, 50))
            if not live:
                writer.rotate()
                writer.write(rng.randint(1, 30))
            daemon.start()
        writer.write(9000)
        wait_until(lambda: elasticsearch.count(index) >= 9000, 60, what="9000 lines in Elasticsearch")
        wait_until(daemon.drained)
        found = _numbers(elasticsearch, index)
        daemon.assert_closed()
    assert len(found) == 9000
    assert set(found.values()) == {1}


def test_elasticsearch_killed_and_started_again(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """While Elasticsearch is killed and comes back, nothing is lost and nothing doubled; the state tells why."""
    index = f"outage-{time.time_ns()}"
    logs = tmp_path / "logs"
    logs.mkdir()
    inputs = {"files": {"type": "tail", "paths": [str(logs / "*.log")], "start_at": "head", "tag": "mcp.file"}}
    writer = _Writer(logs, _real_lines(6000), seed=3)
    with Daemon(tmp_path, to_elasticsearch(elasticsearch.url, index, inputs)) as daemon:
        for _ in range(10):
            writer.write(100)
            time.sleep(0.02)
        elasticsearch.kill()
        writer.write(500)
        writer.rotate()
        wait_until(lambda: daemon.status()["outputs"]["elasticsearch"]["state"] == "waiting", 60)
        daemon.kill()
        writer.write(500)
        daemon.start()
        assert daemon.get("/-/ready")[0] == 200
        elasticsearch.restart()
        writer.write(6000)
        wait_until(lambda: elasticsearch.count(index) >= 6000, 90, what="6000 lines in Elasticsearch")
        wait_until(daemon.drained)
        daemon.assert_closed()
    found = _numbers(elasticsearch, index)
    assert len(found) == 6000
    assert set(found.values()) == {1}
