"""Dead letters against the real Elasticsearch: refused, mended, replayed, there exactly once, whatever is killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_ingest.client.forward import ForwardSender
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch

pytestmark = pytest.mark.timeout(180)

#: A field whose type no text fits, and the place to which a repair would move it with the same type: both refuse.
_LONG = {"type": "long", "ignore_malformed": False}
CONFLICTING = {"properties": {"level_code": _LONG, "conflict": {"properties": {"level_code": _LONG}}}}
MENDED = {"properties": {"level_code": {**_LONG, "ignore_malformed": True}}}


def _config(elasticsearch: Elasticsearch, index: str, **pipelines: Any) -> dict[str, Any]:
    pipelines = pipelines or {"p": {"match": "mcp", "stages": ["redact"]}}
    output = {"hosts": [elasticsearch.url], "index": index, "template": False}
    return {"inputs": {"forward": {}}, "pipelines": pipelines, "outputs": {"elasticsearch": output}}


def _send(daemon: Daemon, tag: str, records: list[dict[str, Any]]) -> None:
    with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
        for start in range(0, len(records), 500):
            sender.send(tag, [(0, record) for record in records[start : start + 500]])


def _numbers(elasticsearch: Elasticsearch, index: str) -> Counter[int]:
    return Counter(hit["_source"]["n"] for hit in elasticsearch.search(index))


def _letters(daemon: Daemon) -> int:
    return int(daemon.status()["spool"]["dead_letters"])


def _terms(daemon: Daemon) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in daemon.status()["ledger"]["dead_letters"]:
        found[row["term"]] += row["count"]
    return found


def test_a_conflict_is_mended_and_its_letters_replayed(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """Refused also after the repair, kept with the reason; after the mapping is mended there exactly once."""
    index = f"letters-{time.time_ns()}"
    assert elasticsearch.request("PUT", f"/{index}", {"mappings": CONFLICTING})[0] == 200
    records = [{"n": n, "level_code": "high" if n % 2 else n, "message": "from 4111 1111 1111 1111"} for n in range(40)]
    with Daemon(tmp_path, _config(elasticsearch, index)) as daemon:
        _send(daemon, "mcp", records)
        wait_until(lambda: _letters(daemon) == 20, what="twenty dead letters")
        (group,) = [json.loads(line) for line in daemon.run("dead-letters", "list", "--json").stdout.splitlines()]
        assert (group["letters"], group["output"]) == (20, "elasticsearch")
        assert "level_code" in group["reason"]
        daemon.assert_closed()

        again = daemon.run("dead-letters", "replay", "--group", group["signature"])
        assert "replayed 20 dead letters" in again.stdout
        wait_until(lambda: daemon.drained() and _letters(daemon) == 20, what="twenty letters anew")
        daemon.assert_closed()

        daemon.stop()
        assert elasticsearch.request("PUT", f"/{index}/_mapping", MENDED)[0] == 200
        daemon.start()
        shown = daemon.run("dead-letters", "replay", "--output", "elasticsearch", "--dry-run")
        assert "as it is" in shown.stdout
        assert "4111" not in shown.stdout
        assert _letters(daemon) == 20
        assert "replayed 20 dead letters\n" in daemon.run("dead-letters", "replay", "--output", "elasticsearch").stdout
        wait_until(daemon.drained)
        assert _letters(daemon) == 0
        daemon.assert_closed()
        assert _terms(daemon) == {"dead_lettered": 40, "replayed": 40}
        assert _numbers(elasticsearch, index) == Counter(range(40))
        daemon.kill()
        daemon.start()
        daemon.assert_closed()
        assert daemon.run("dead-letters", "replay", "--all", check=False).returncode == 1


def test_what_is_there_already_is_a_duplicate(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """A letter whose event got there on another way is answered with 409 and counted, not stored twice."""
    index = f"letters-{time.time_ns()}"
    assert elasticsearch.request("PUT", f"/{index}", {"mappings": CONFLICTING})[0] == 200
    with Daemon(tmp_path, _config(elasticsearch, index)) as daemon:
        _send(daemon, "mcp", [{"n": 1, "level_code": "high"}])
        wait_until(lambda: _letters(daemon) == 1, what="a dead letter")
        letter = json.loads(daemon.run("dead-letters", "show", "1", "--json").stdout)
        document = {"n": 1, "by": "hand"}
        status, _ = elasticsearch.request("PUT", f"/{index}/_create/{letter['event_id']}?refresh=true", document)
        assert status == 201
        assert elasticsearch.request("PUT", f"/{index}/_mapping", MENDED)[0] == 200
        daemon.run("dead-letters", "replay", "1")
        wait_until(daemon.drained)
        (row,) = [row for row in daemon.status()["ledger"]["outputs"] if row["term"] == "duplicate"]
        assert row["count"] == 1
        assert _numbers(elasticsearch, index) == {1: 1}
        assert _letters(daemon) == 0
        daemon.assert_closed()


def test_letters_of_the_way_in_go_through_the_mended_pipeline(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """The diff shows what the new pipeline makes of them; each is in its day's index under the id that it had."""
    index = f"letters-{time.time_ns()}"
    strict = {"match": "app", "stages": [{"parse_json": {"field": "message"}}, "redact"]}
    with Daemon(tmp_path, _config(elasticsearch, index, app=strict)) as daemon:
        _send(daemon, "app", [{"n": n, "message": "{broken"} for n in range(3)])
        _send(daemon, "late", [{"n": n} for n in range(3, 6)])
        wait_until(lambda: _letters(daemon) == 6, what="six dead letters")
        ids = {
            json.loads(line)["event_id"]
            for line in daemon.run("dead-letters", "list", "--all", "--json").stdout.splitlines()
        }
        daemon.stop()
        config = yaml.safe_load(daemon.config.read_text())
        config["pipelines"]["app"]["stages"][0]["parse_json"]["on_error"] = "keep"
        config["pipelines"]["rest"] = {"match": "**", "stages": ["redact"]}
        daemon.config.write_text(yaml.safe_dump(config, sort_keys=False))
        daemon.start()
        shown = daemon.run("dead-letters", "replay", "--stage", "parse_json", "--dry-run").stdout
        assert "+ " in shown
        assert "pipeline_error" in shown
        assert "replayed 6 dead letters\n" in daemon.run("dead-letters", "replay", "--all").stdout
        wait_until(daemon.drained)
        hits = elasticsearch.search(index)
        assert {hit["_id"] for hit in hits} == ids
        assert Counter(hit["_source"]["n"] for hit in hits) == Counter(range(6))
        daemon.assert_closed()
        generated = [row for row in daemon.status()["ledger"]["inputs"] if row["term"] == "generated"]
        assert sorted((row["pipeline"], row["reason"], row["count"]) for row in generated) == [
            ("app", "replayed", 3),
            ("rest", "replayed", 3),
        ]


def test_kills_in_the_middle_of_a_replay_lose_and_double_nothing(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """3,000 letters are replayed while the daemon is killed again and again: each is there once, all sums close."""
    count, index, rng = 3000, f"letters-{time.time_ns()}", random.Random(5)
    assert elasticsearch.request("PUT", f"/{index}", {"mappings": CONFLICTING})[0] == 200
    with Daemon(tmp_path, _config(elasticsearch, index)) as daemon:
        _send(daemon, "mcp", [{"n": n, "level_code": "high"} for n in range(count)])
        wait_until(lambda: _letters(daemon) == count, 60, what="all of them dead letters")
        assert elasticsearch.request("PUT", f"/{index}/_mapping", MENDED)[0] == 200
        left, seen = count, list[int]()
        while left and len(seen) < 3:
            replay = _replaying(daemon)
            wait_until(lambda: _letters(daemon) < min([count, *seen]), what="a batch")
            time.sleep(rng.uniform(0, 0.05))
            daemon.kill()
            replay.wait(30)
            daemon.start()
            daemon.assert_closed()
            left = _letters(daemon)
            seen.append(left)
        assert 0 < seen[0] < count, seen  # in the middle
        if left:
            daemon.run("dead-letters", "replay", "--all")
        wait_until(daemon.drained, 60)
        daemon.assert_closed()
        assert _letters(daemon) == 0
        assert _terms(daemon) == {"dead_lettered": count, "replayed": count}
        assert _numbers(elasticsearch, index) == Counter(range(count))


def _replaying(daemon: Daemon) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mcp_ingest", "dead-letters", "-c", str(daemon.config), "replay", "--all"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, **quiet)  # type: ignore[call-overload,no-any-return]
