"""The daemon's process, as the driver sees it: started, killed, stopped, asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.control import VARIABLE, Control

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "chaos"
_STOP_SECONDS = 60.0
_COMMAND_SECONDS = 60.0


class DaemonError(Exception):
    """What the daemon must never do: it ended by itself, or did not come back."""


class DaemonProcess:
    """`mcp-ingest run` (by `daemon.py`) in `directory`, its HTTP at `address`; `prefix` puts it into its network.

    `numbers` are the workers of each of its lives, one after another. All its methods but `stop`, `ask` and `run` are
    called from the main thread: the kernel ends a child with the *thread* that started it.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        address: tuple[str, int],
        control: Control,
        prefix: Sequence[str],
        numbers: Iterator[int],
    ) -> None:
        self._directory = directory
        self._address = address
        self._prefix = list(prefix)
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: str(control.path)}
        self.config = directory / "mcp-ingest.yaml"
        self._write({**config, "workers": 1})
        self.log = directory / "daemon.log"
        self.lives = 0
        self._numbers = numbers
        self._process: subprocess.Popen[bytes] | None = None
        self._left: list[int] = []  # workers whose supervisor was killed

    # --- its life ---

    def spawn(self) -> None:
        """Start it; it is not ready yet."""
        self.lives += 1
        self._write({**self.configuration(), "workers": next(self._numbers)})
        command = [*self._prefix, sys.executable, "-m", "tests.chaos.daemon", "-c", str(self.config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._directory, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """`kill -9` of the daemon and, where it has or had some, of all its workers."""
        self.kill_supervisor()
        for worker in self._left:
            _signal(worker, signal.SIGKILL)
        while self.left():
            time.sleep(0.001)

    def kill_supervisor(self) -> None:
        """`kill -9` of the process that was started; its workers, if it has some, go on until they notice."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # it must not start another one meanwhile
        self._left = [*self.left(), *self.workers()]
        process, self._process = self._process, None
        process.kill()
        process.wait()

    def left(self) -> list[int]:
        """The workers of supervisors that were killed which have not ended so far."""
        there = {child for child, _ in _parents()}
        self._left = [worker for worker in self._left if worker in there]
        return self._left

    def kill_worker(self, rng: random.Random) -> None:
        """`kill -9` of one of its workers, if it has some now."""
        if workers := self.workers():
            _signal(rng.choice(workers), signal.SIGKILL)

    def workers(self) -> list[int]:
        """The processes of its workers, in order; none where it is alone."""
        if self._process is None:
            return []
        return sorted(child for child, parent in _parents() if parent == self._process.pid)

    async def stop(self) -> int:
        """SIGTERM; its exit code once it has ended. DaemonError if it does not end."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DaemonError(f"it did not end within {_STOP_SECONDS:.0f} s of SIGTERM") from None

    def freeze(self, rng: random.Random) -> Callable[[], None]:
        """Stop it in its tracks (SIGSTOP); what is returned lets it go on, as far as it still lives.

        With several workers all processes, one worker, or the supervisor alone.
        """
        if self._process is None:
            return lambda: None
        everybody = [self._process.pid, *self.workers()]
        frozen = rng.choice((everybody, [rng.choice(everybody)]))
        for process in frozen:
            _signal(process, signal.SIGSTOP)

        def thaw() -> None:
            for process in frozen:
                _signal(process, signal.SIGCONT)

        return thaw

    async def hang_up(self) -> None:
        """SIGHUP: it reads its configuration again, if it lives; before it answers that would end it."""
        if await asyncio.to_thread(self._page, "/-/healthy") is not None and self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def configuration(self) -> dict[str, Any]:
        """What it reads at its next start or reload."""
        config: dict[str, Any] = yaml.safe_load(self.config.read_text())
        return config

    def configure(self, config: dict[str, Any]) -> None:
        """Let it read this from now on; its number of workers stays, no reload can change it."""
        self._write({**config, "workers": self.configuration()["workers"]})

    def _write(self, config: dict[str, Any]) -> None:
        """At once: whoever reads meanwhile finds the old one or the new one, whole."""
        written = self.config.with_suffix(".new")
        written.write_text(yaml.safe_dump(config, sort_keys=False))
        written.rename(self.config)

    @property
    def is_down(self) -> bool:
        """Whether it was ended and not started again."""
        return self._process is None

    def check(self) -> None:
        """DaemonError if it ended, and nobody had asked it to."""
        if self._process is not None and self._process.poll() is not None:
            end = self.log.read_text(errors="replace")[-2000:]
            raise DaemonError(f"the daemon ended by itself with {self._process.returncode}: {end}")

    async def until_ready(self, seconds: float) -> None:
        """Wait until it takes events. DaemonError if it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check()
            if await asyncio.to_thread(self._page, "/-/ready") is not None:
                return
            await asyncio.sleep(0.02)
        raise DaemonError(
            f"the daemon was not ready within {seconds:.0f} s: {self.log.read_text(errors='replace')[-2000:]}"
        )

    # --- what it says ---

    async def ask(self) -> dict[str, Any] | None:
        """What `/status` says; None when it does not answer."""
        body = await asyncio.to_thread(self._page, "/status")
        return None if body is None else json.loads(body)

    def _page(self, path: str) -> bytes | None:
        host, port = self._address
        request = urllib.request.Request(f"http://{host}:{port}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except (OSError, ValueError):  # not there, not ready, or killed in the middle of its answer
            return None

    async def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`mcp-ingest VERB … -c FILE`, where the daemon runs."""
        command = [*self._prefix, sys.executable, "-m", "mcp_ingest", verb, "-c", str(self.config), *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, cwd=self._directory, env=self._environment, capture_output=True, text=True,
            check=False, timeout=_COMMAND_SECONDS,
        )  # fmt: skip


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _parents() -> Iterator[tuple[int, int]]:
    """Every process that has not ended, and its parent."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                yield int(folder.name), int(parent)
