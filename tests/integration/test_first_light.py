"""The main job on real input: what real clients send is found once, by a search."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fluent import handler

from tests.integration.configurations import to_elasticsearch, to_store
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

GUIDE_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"


@contextmanager
def _logger(name: str, port: int, formatter: logging.Formatter) -> Iterator[logging.Logger]:
    """A logger as the users of `fluent-logger` make it."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    fluent = handler.FluentHandler("mcp", host="localhost", port=port)
    fluent.setFormatter(formatter)
    logger.addHandler(fluent)
    try:
        yield logger
    finally:
        fluent.close()
        logger.removeHandler(fluent)


def _send_as_maps(port: int) -> None:
    """With FluentRecordFormatter, which sends a map."""
    fields = {"service_name": "%(name)s", "log_level": "%(levelname)s", "host": "%(hostname)s"}
    with _logger("model-router", port, handler.FluentRecordFormatter(fields)) as logger:
        logger.info("routed request one")
        logger.error({"message": "model failed", "operation": "route", "duration_ms": 12.5})


def _send_as_the_guide_has_it(port: int) -> None:
    """With a plain logging.Formatter, which sends a string where the record should be."""
    with _logger("model-router", port, logging.Formatter(GUIDE_FORMAT)) as logger:
        logger.info("routed request one")
        logger.error("model failed")


SENDERS = pytest.mark.parametrize("send", [_send_as_maps, _send_as_the_guide_has_it], ids=["maps", "strings"])


def _check(found: list[dict[str, Any]]) -> None:
    by_message = {record["message"]: record for record in found}
    assert sorted(by_message) == ["model failed", "routed request one"]
    for message, level in (("routed request one", "INFO"), ("model failed", "ERROR")):
        record = by_message[message]
        assert record["service_name"] == "model-router"
        assert record["log_level"] == level
        assert record["timestamp"].endswith("Z")
        assert record["tag"] == "mcp"


@SENDERS
def test_fluent_logger_to_elasticsearch(
    tmp_path: Path, elasticsearch: Elasticsearch, send: Callable[[int], None]
) -> None:
    """What `fluent-logger` sends, exactly as its users do, is in the real Elasticsearch once."""
    index = f"first-light-{time.time_ns()}"
    with Daemon(tmp_path, to_elasticsearch(elasticsearch.url, index)) as daemon:
        send(daemon.forward_port)
        wait_until(lambda: elasticsearch.count(index) == 2, what="both events in Elasticsearch")
        wait_until(daemon.drained)
        body = {"query": {"query_string": {"query": "service.name:model-router AND log.level:(INFO OR ERROR)"}}}
        _check([hit["_source"] for hit in elasticsearch.search(index, body)])
        daemon.assert_closed()
        assert daemon.stop() == 0


@SENDERS
def test_fluent_logger_to_the_store(tmp_path: Path, send: Callable[[int], None]) -> None:
    """The same with the embedded store, found by `mcp-ingest query`."""
    with Daemon(tmp_path, to_store(tmp_path)) as daemon:
        send(daemon.forward_port)

        def query() -> list[dict[str, Any]]:
            found = daemon.run("query", "service_name:model-router", "--format", "ndjson", check=False)
            return [json.loads(line) for line in found.stdout.splitlines()]

        _check(wait_until(lambda: len(found := query()) == 2 and found, what="both events in the store"))
        daemon.assert_closed()
        assert daemon.stop() == 0


def test_secrets_never_touch_the_disk(tmp_path: Path) -> None:
    """Card numbers and passwords are in no file of the daemon: spool, store, dead letters, log."""
    with Daemon(tmp_path, to_store(tmp_path)) as daemon:
        lines = [
            json.dumps(
                {"message": "paid with 4111 1111 1111 1111", "password": "correct-horse", "card": 4111111111111111}
            ),
            json.dumps(
                {"message": "Authorization: Bearer abcdefghijklmnop.qrstuvwxyz", "nested": [{"4111111111111111": 1}]}
            ),
            '{"message": "4111-1111-1111-1111", "password": "correct-horse"',
        ]
        daemon.run(
            "send",
            "--tag",
            "mcp",
            "--host",
            "127.0.0.1",
            "--port",
            str(daemon.forward_port),
            "-",
            stdin="\n".join(lines),
        )
        wait_until(daemon.drained)
        assert daemon.status()["sums"]
        daemon.stop()
    whole = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (b"4111111111111111", b"4111 1111", b"4111-1111", b"correct-horse", b"abcdefghijklmnop"):
        assert secret not in whole


def test_sigterm_loses_nothing(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """With Elasticsearch away SIGTERM ends with 0, and the next start delivers what was held."""
    index = f"sigterm-{time.time_ns()}"
    config = to_elasticsearch("http://127.0.0.1:9", index)
    with Daemon(tmp_path, config) as daemon:
        daemon.run("send", "--tag", "mcp", "--port", str(daemon.forward_port), "held while away")
        status = daemon.status()
        assert status["outputs"]["elasticsearch"]["held"] == 1
        assert status["outputs"]["elasticsearch"]["state"] == "waiting"
        assert daemon.get("/-/ready")[0] == 200
        daemon.assert_closed()
        assert daemon.stop() == 0
        daemon.config.write_text(daemon.config.read_text().replace("http://127.0.0.1:9", elasticsearch.url))
        daemon.start()
        wait_until(lambda: elasticsearch.count(index) == 1)
        wait_until(daemon.drained)
        daemon.assert_closed()


def test_start_is_quick_and_idle_is_small(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """From exec to ready in under a second on a free core, idle under 80 MB with Elasticsearch as the output."""
    with Daemon(tmp_path, to_elasticsearch(elasticsearch.url, "idle")) as daemon:
        daemon.stop()
        seconds = min(_restart(daemon) for _ in range(3))
        assert seconds < 1.0
        assert daemon.process is not None
        status = Path(f"/proc/{daemon.process.pid}/status").read_text()
        resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
        assert resident < 80


def _restart(daemon: Daemon) -> float:
    """Seconds from exec to ready, without those in which the main thread could run and others had the core."""
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.stop()
    seconds = daemon.start()
    assert daemon.process is not None
    _, queued, _ = Path(f"/proc/{daemon.process.pid}/schedstat").read_text().split()
    return seconds - int(queued) / 1e9
