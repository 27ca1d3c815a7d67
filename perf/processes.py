"""Processes under measurement: what they cost in CPU and memory (from the operating system), their start and end.

Linux only, like the figures. CPU is the time of all threads of a process and of all its descendants, those that have
ended included, to the nanosecond (the clock of a process that `clock_getcpuclockid(3)` names: `stat` has ticks of
10 ms, too coarse for a run of 0.2 s).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.05


class MeasureError(Exception):
    """A run that did not do what was to be measured: nothing that it says may be used."""


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0, pause: float = 0.02) -> Any:
    """The condition's first true value; MeasureError if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(pause)
    raise MeasureError(f"{what}: not within {seconds:.0f} s")


def listens(port: int) -> bool:
    """Whether anybody listens on this loopback port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def fetch(url: str, method: str = "GET") -> Any:
    """The decoded JSON that a URL answers with; OSError if nothing answers."""
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def _tree(pid: int) -> list[int]:
    """A process and its descendants; those that end meanwhile are left out."""
    found = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _tree(int(child))
    return found


def _cpu_seconds(pid: int) -> float:
    """Of one process, with the children that it has waited for."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = (int(fields[13]) + int(fields[14])) / _TICKS
        return time.clock_gettime((~pid << 3) | 2) + children
    return 0.0


def _memory(pid: int) -> tuple[int, int]:
    """RSS and RssAnon of one process in KiB."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if "VmRSS" in lines:  # not of one that has ended
            return int(lines["VmRSS"].split()[0]), int(lines["RssAnon"].split()[0])
    return 0, 0


@dataclass(frozen=True)
class Memory:
    """Of all processes of a program, in MB (10^6 bytes); what they share is counted for each."""

    rss: float
    anonymous: float


class Running:
    """A started program with its log; `stop` it, or leave the `with` block."""

    def __init__(self, command: Sequence[str], directory: Path, environment: dict[str, str] | None = None) -> None:
        self.log = directory / "program.log"
        self.began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=directory, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
            )
        self.pid = self._process.pid
        self.peak = Memory(0, 0)
        self._ending = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """MeasureError if it has ended by itself."""
        if self._process.poll() is not None:
            raise MeasureError(f"it ended with {self._process.returncode}")

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def cpu_seconds(self) -> float:
        """Of all its processes since they began."""
        return sum(_cpu_seconds(pid) for pid in _tree(self.pid))

    def memory(self) -> Memory:
        """What all its processes hold now."""
        each = [_memory(pid) for pid in _tree(self.pid)]
        return Memory(sum(rss for rss, _ in each) * 1.024e-3, sum(anonymous for _, anonymous in each) * 1.024e-3)

    def _sample(self) -> None:
        while not self._ending.wait(_SAMPLE_SECONDS):
            now = self.memory()
            self.peak = Memory(max(self.peak.rss, now.rss), max(self.peak.anonymous, now.anonymous))

    def stop(self) -> None:
        """End it: kindly, and after ten seconds by force; its children with it."""
        self._ending.set()
        self._sampler.join()
        tree = _tree(self.pid)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        for pid in tree if self._process.poll() is None else tree[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def python(module: str, *arguments: object) -> list[str]:
    """The command line of a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def answer_of(command: Sequence[str], directory: Path, seconds: float = 1800) -> Any:
    """Run a command to its end and return the JSON on its last line; MeasureError if it fails."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise MeasureError(f"{command[2]} ended with {done.returncode}: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Sink:
    """A running `perf.sink`."""

    url: str

    def counts(self) -> dict[str, Any]:
        """What has arrived so far."""
        found: dict[str, Any] = fetch(f"{self.url}/_perf")
        return found


@contextlib.contextmanager
def running_sink(root: Path, port: int, *, latency: bool) -> Iterator[Sink]:
    """A sink on this port until the block ends."""
    command = python("perf.sink", "--port", port, *(["--latency"] if latency else []))
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise MeasureError(f"the sink did not start on port {port}")
            yield Sink(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
