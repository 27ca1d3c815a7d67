"""Several workers with real processes: killed, and their supervisor too, and more or fewer of them from run to run."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_elasticsearch
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import Elasticsearch, free_port

KILLS = 5


class _Senders:
    """Threads that send numbered events in small chunks, each until it is acknowledged."""

    def __init__(self, port: int, threads: int) -> None:
        self.acknowledged: list[int] = []
        self._port = port
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            # a new connection each time: the kernel gives it to one of the workers by chance
            with ForwardSender("127.0.0.1", self._port, timeout=5, attempts=60) as sender:
                for _ in range(20):
                    with self._lock:
                        numbers = [next(self._numbers) for _ in range(25)]
                    sender.send(
                        "mcp.kills", [(time.time_ns(), {"message": f"event #{n}", "duration_ms": n}) for n in numbers]
                    )
                    with self._lock:
                        self.acknowledged += numbers

    def finish(self) -> set[int]:
        """End; the numbers of all events that were acknowledged."""
        self._ending.set()
        for thread in self._threads:
            thread.join(120)
        return set(self.acknowledged)


def _stored(elasticsearch: Elasticsearch, index: str) -> Counter[int]:
    return Counter(int(hit["_source"]["message"].rsplit("#", 1)[1]) for hit in elasticsearch.search(index))


def _stored_by_thousands(elasticsearch: Elasticsearch, index: str, most: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for first in range(0, most + 1, 5000):
        body = {"query": {"range": {"duration_ms": {"gte": first, "lt": first + 5000}}}}
        found.update(hit["_source"]["duration_ms"] for hit in elasticsearch.search(index, body))
    return found


def _workers(daemon: Daemon) -> list[int]:
    """The processes of the workers that there are."""
    return [each["process"] for each in daemon.status()["workers"] if each["process"]]


def _is_gone(process: int) -> bool:
    """Whether it has ended, even if nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_kill_9_of_workers_and_supervisor(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """Under load, whoever is killed: each acknowledged event is stored exactly once, and all sums close."""
    index = f"workers-{time.time_ns()}"
    config = {**to_elasticsearch(elasticsearch.url, index), "workers": 2}
    rng = random.Random(5)
    with Daemon(tmp_path, config) as daemon:
        senders = _Senders(daemon.forward_port, 4)
        for kill in range(KILLS):
            time.sleep(rng.uniform(0.3, 1.2))
            workers = _workers(daemon)
            if kill % 3 == 2:
                daemon.kill()
                daemon.start()
                assert all(map(_is_gone, workers))
            elif workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                wait_until(lambda: daemon.get("/-/ready")[0] == 200, 30, "both workers are back")
        acknowledged = senders.finish()
        wait_until(lambda: daemon.get("/-/ready")[0] == 200)
        wait_until(daemon.drained, 60)
        daemon.assert_closed()
        counted = [line for line in daemon.get("/metrics")[1].splitlines() if line.startswith("mcp_ingest_workers ")]
        assert counted == ["mcp_ingest_workers 2.0"]
        workers = _workers(daemon)
        assert daemon.stop() == 0
        assert all(map(_is_gone, workers))
    found = _stored_by_thousands(elasticsearch, index, max(acknowledged))
    assert len(acknowledged) > 1000
    assert acknowledged <= set(found)
    assert set(found.values()) == {1}


class _Files:
    """Files that grow by numbered lines and are rotated by rename."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self.glob = str(folder / "*.log*")
        self._paths = [folder / f"app{n}.log" for n in range(count)]
        self.lines = 0
        self._rotated = 0

    def write(self, lines: int) -> None:
        """So many lines to each."""
        for path in self._paths:
            with path.open("a") as file:
                for _ in range(lines):
                    file.write(f"line #{self.lines}\n")
                    self.lines += 1

    def rotate(self) -> None:
        """All of them, and new ones at their paths."""
        self._rotated += 1
        for path in self._paths:
            path.rename(path.with_name(f"{path.name}.{self._rotated}"))


def _change(daemon: Daemon, workers: int, url: str) -> None:
    config: dict[str, Any] = yaml.safe_load(daemon.config.read_text())
    config["workers"] = workers
    config["outputs"]["elasticsearch"]["hosts"] = [url]
    daemon.config.write_text(yaml.safe_dump(config, sort_keys=False))


def test_more_and_fewer_workers(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """4, then 2, 1 and 3 workers, with a backlog and rotated files: nothing is skipped, lost or stored twice."""
    index = f"counts-{time.time_ns()}"
    files = _Files(tmp_path / "logs", 12)
    files.write(50)
    inputs = {"files": {"type": "tail", "paths": [files.glob], "start_at": "head", "tag": "mcp.file"}}
    nobody = f"http://127.0.0.1:{free_port()}"
    daemon = Daemon(tmp_path, {**to_elasticsearch(nobody, index, inputs), "workers": 4})
    with daemon:
        for workers, url in ((2, nobody), (1, elasticsearch.url), (3, elasticsearch.url), (3, elasticsearch.url)):
            files.write(20)
            files.rotate()
            files.write(30)
            wait_until(lambda: _received(daemon) == files.lines, what=f"{files.lines} lines received")
            daemon.assert_closed()
            if url == elasticsearch.url:
                daemon.kill()
            else:
                assert daemon.stop() == 0
            files.write(10)
            files.rotate()
            files.write(10)
            _change(daemon, workers, url)
            daemon.start()
        files.write(25)
        wait_until(lambda: _received(daemon) == files.lines, what=f"{files.lines} lines received")
        wait_until(daemon.drained, 60)
        daemon.assert_closed()
        status = daemon.status()
        assert daemon.stop() == 0
    stopped = daemon.run("status", "--json", check=False)
    assert f'"received": {files.lines}' in stopped.stdout
    assert sum(each["received"] for each in status["workers"]) == files.lines
    assert "of worker 2, which is no more" in daemon.log.read_text()
    found = _stored(elasticsearch, index)
    assert set(found.values()) == {1}
    assert sorted(found) == list(range(files.lines))


def _received(daemon: Daemon) -> int:
    status = daemon.status()
    return int(status["inputs"]["files"]["received"]) if status["inputs"] else 0


def _blackhole(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {
        "inputs": {"forward": {}},
        "pipelines": {"p": {"match": "**", "stages": ["redact"]}},
        "outputs": {"blackhole": None},
        "workers": 2,
        **changes,
    }


def test_a_taken_port_is_an_error(tmp_path: Path) -> None:
    """Also one that another daemon's workers share among each other: one sentence, and exit code 1."""
    with Daemon(tmp_path, _blackhole(tmp_path)) as daemon:
        other = tmp_path / "other.yaml"
        config = yaml.safe_load(daemon.config.read_text())
        config |= {"spool": {"directory": str(tmp_path / "other")}, "http": {"port": free_port()}}
        other.write_text(yaml.safe_dump(config))
        done = daemon.run("run", "-c", str(other), check=False)
        assert done.returncode == 1
        assert done.stderr == f"mcp-ingest: forward: cannot listen on tcp 127.0.0.1:{daemon.forward_port}: " + (
            "Address already in use\n"
        )


def test_a_spool_in_use_is_an_error(tmp_path: Path) -> None:
    """A second supervisor on the same spool, or a daemon alone, says whose it is."""
    with Daemon(tmp_path, _blackhole(tmp_path)) as daemon:
        for workers in (2, 1):
            other = tmp_path / "other.yaml"
            config = yaml.safe_load(daemon.config.read_text())
            config |= {"workers": workers, "http": {"port": free_port()}}
            config["inputs"]["forward"]["port"] = free_port()
            other.write_text(yaml.safe_dump(config))
            done = daemon.run("run", "-c", str(other), check=False)
            assert done.returncode == 1
            assert "is in use by process" in done.stderr
            assert "Traceback" not in done.stderr


def test_any_free_port_is_one_port(tmp_path: Path) -> None:
    """With port 0 all workers listen on the same one, and every one of them gets connections."""
    config = _blackhole(tmp_path)
    with Daemon(tmp_path, config) as daemon:
        daemon.stop()
        changed = yaml.safe_load(daemon.config.read_text())
        changed["inputs"]["forward"]["port"] = 0
        daemon.config.write_text(yaml.safe_dump(changed))
        daemon.start()
        where = daemon.status()["inputs"]["forward"]["listening"]
        port = int(where.rsplit(":", 1)[1])
        for n in range(40):
            with ForwardSender("127.0.0.1", port) as sender:
                sender.send("mcp.many", [(0, {"message": f"{n}"})])
        assert [each["received"] > 0 for each in daemon.status()["workers"]] == [True, True]


def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """The reason is said once, and nothing goes on running."""
    with Daemon(tmp_path, _blackhole(tmp_path)) as daemon:
        daemon.stop()
        (tmp_path / "spool" / "worker-1").rename(tmp_path / "away")
        (tmp_path / "spool" / "worker-1").write_text("in the way")
        done = daemon.run("run", check=False)
    assert done.returncode == 1
    assert done.stderr.count("worker-1") == 1
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    """SIGINT to the whole group of processes, as a terminal sends it, is a clean end."""
    with Daemon(tmp_path, _blackhole(tmp_path)) as daemon:
        workers = _workers(daemon)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(30) == 0
        assert all(map(_is_gone, workers))


def test_a_daemon_alone_follows_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    """It waits until the workers have noticed and ended, and then has the port and the spools."""
    with Daemon(tmp_path, _blackhole(tmp_path)) as daemon:
        for workers in (1, 2):
            daemon.kill()
            config = yaml.safe_load(daemon.config.read_text())
            daemon.config.write_text(yaml.safe_dump({**config, "workers": workers}))
            daemon.start()
            with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
                sender.send("mcp", [(0, {"message": "x"})])
        wait_until(daemon.drained)
        assert sum(each["received"] for each in daemon.status()["inputs"].values()) == 2
        daemon.assert_closed()


def test_dead_letters_of_all_workers(tmp_path: Path) -> None:
    """They are listed, shown, replayed and dropped as those of one, whether the daemon runs or not."""
    config = _blackhole(tmp_path, pipelines={"p": {"match": "**", "stages": ["parse_json", "redact"]}})
    with Daemon(tmp_path, config) as daemon:
        for n in range(30):
            with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
                sender.send("mcp.bad", [(0, {"message": f"{{no json {n}"})])
        listed = daemon.run("dead-letters", "list", "--all", "--limit", "30", "--json").stdout.splitlines()
        numbers = [yaml.safe_load(line)["number"] for line in listed]
        times = [yaml.safe_load(line)["time"] for line in listed]
        assert len(set(numbers)) == 30
        assert {number // 10**12 for number in numbers} == {0, 1}
        assert times == sorted(times, reverse=True)
        page = daemon.run("dead-letters", "list", "--all", "--limit", "10", "--before", str(numbers[9]), "--json")
        assert [yaml.safe_load(line)["number"] for line in page.stdout.splitlines()] == numbers[10:20]
        of_one = next(number for number in numbers if number >= 10**12)
        assert "no json" in daemon.run("dead-letters", "show", str(of_one)).stdout
        assert "replayed 30" in daemon.run("dead-letters", "replay", "--all", "--yes").stdout
        assert daemon.status()["spool"]["dead_letters"] == 30  # the pipeline fails on them again
        assert "deleted 1 " in daemon.run("dead-letters", "drop", str(_newest(daemon)), "--yes").stdout
        daemon.assert_closed()
        daemon.stop()
        assert len(daemon.run("dead-letters", "list", "--all", "--limit", "100", "--json").stdout.splitlines()) == 29
        assert "deleted 29" in daemon.run("dead-letters", "drop", "--all", "--yes").stdout


def _newest(daemon: Daemon) -> int:
    line = daemon.run("dead-letters", "list", "--all", "--limit", "1", "--json").stdout.splitlines()[0]
    return int(yaml.safe_load(line)["number"])


def test_a_reload_reaches_every_worker(tmp_path: Path) -> None:
    """By the command and by SIGHUP; what the supervisor would have to change is refused, and nothing changes."""
    with Daemon(tmp_path, _blackhole(tmp_path)) as daemon:

        def change(**sections: Any) -> None:
            config = yaml.safe_load(daemon.config.read_text())
            daemon.config.write_text(yaml.safe_dump(config | sections))

        stages = [{"drop": {"when": "log_level == 'DEBUG'"}}, "redact"]
        change(pipelines={"p": {"match": "**", "stages": stages}})
        answer = daemon.run("reload")
        assert "changed: p" in answer.stdout
        assert daemon.process is not None
        change(pipelines={"p": {"match": "**", "stages": ["redact"]}})
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.log.read_text().count("pipelines changed: p") == 4, what="two reloads of two workers")
        old = daemon.config.read_text()
        for sections in ({"workers": 3}, {"http": {"port": daemon.http_port, "token": "x"}}):
            change(**sections)
            refused = daemon.run("reload", check=False)
            assert refused.returncode == 1
            assert "a reload cannot change it" in refused.stderr
            daemon.config.write_text(old)
        assert len(_workers(daemon)) == 2
