"""A real daemon as a process of its own, started the way a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.integration.servers import free_port


def wait_until(condition: Callable[[], Any], seconds: float = 30.0, what: str = "the condition") -> Any:
    """The condition's first true value; AssertionError if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


class Daemon:
    """`mcp-ingest run -c FILE` in `directory`, with free ports for forward and HTTP put into the configuration."""

    def __init__(self, directory: Path, config: dict[str, Any], prefix: list[str] | None = None) -> None:
        self.directory = directory
        self.forward_port, self.http_port = free_port(), free_port()
        config = {**config, "http": {"port": self.http_port}}
        if "forward" in config["inputs"]:
            config["inputs"]["forward"] = {"host": "127.0.0.1", "port": self.forward_port}
        config.setdefault("spool", {"directory": str(directory / "spool")})
        self.config = directory / "mcp-ingest.yaml"
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))
        self.log = directory / "daemon.log"
        self.prefix = prefix or []
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self) -> float:
        """Start it and wait until it is ready; returns the seconds from exec to ready."""
        command = [*self.prefix, sys.executable, "-m", "mcp_ingest", "run", "-c", str(self.config)]
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, stdout=log, stderr=log, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
            )
        wait_until(self._ready, what=f"ready ({self.log.read_text()[-2000:]})")
        return time.monotonic() - began

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            return self.get("/-/ready")[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        """What `/status` says."""
        found: dict[str, Any] = json.loads(self.get("/status")[1])
        return found

    def drained(self) -> bool:
        """Whether no output owes anything."""
        return not any(output["held"] for output in self.status()["outputs"].values())

    def assert_closed(self) -> None:
        """All sums of the ledger close."""
        sums = self.status()["sums"]
        assert all(row["closed"] for row in sums), sums

    def run(self, *arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """`mcp-ingest VERB … -c FILE`."""
        verb, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "mcp_ingest", verb, "-c", str(self.config), *rest],
            cwd=self.directory, capture_output=True, text=True, check=check, timeout=60, input=stdin,
        )  # fmt: skip
